"""ONNX Runtime's profile of a session, read as the times of its operations."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from statistics import median
from typing import Any

from yolo_slim.backends import Operation, OperationTimes

WARMUP = 5
"""First frames that don't count; of fewer frames, the last one counts."""
_NODE_TIME = "_kernel_time"
_FRAME = "model_run"
_HEAD_OPERATION = re.compile(r"/model\.(\d+)/(?:dfl/|[A-Z])")
"""Name of an operation that a module of the network does itself; those of its submodules begin with a small letter."""


def read_profile(events: Sequence[Any]) -> OperationTimes:
    """Take the medians of the profile's events; times in it are microseconds."""
    nodes: dict[tuple[str, str], list[float]] = {}
    for event in events:
        if event["cat"] == "Node" and event["name"].endswith(_NODE_TIME):
            key = event["args"]["op_name"], event["name"].removesuffix(_NODE_TIME)
            nodes.setdefault(key, []).append(event["dur"] / 1e3)
    head = _head(name for _, name in nodes)
    return OperationTimes(
        operations=tuple(
            Operation(kind=kind, name=name, ms=_median(times), is_decoding=head is not None and _module(name) == head)
            for (kind, name), times in nodes.items()
        ),
        frame_ms=_median([event["dur"] / 1e3 for event in events if event["name"] == _FRAME]),
    )


def _median(times: Sequence[float]) -> float:
    return median(times[WARMUP:] or times[-1:])


def _module(name: str) -> int | None:
    """The number of the module that does an operation itself."""
    found = _HEAD_OPERATION.match(name)
    return int(found[1]) if found else None


def _head(names: Iterable[str]) -> int | None:
    """The head's number: the highest one."""
    return max((number for name in names if (number := _module(name)) is not None), default=None)
