"""Time single convolutions, all of one file in turns: the device's part of a latency table."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yolo_slim.backends.layers import PrepareLayer, open_layer_of
from yolo_slim.errors import SlimError
from yolo_slim.files import read_json
from yolo_slim.machine import cores, heat_reasons, read_state, throttle_reasons
from yolo_slim.runtime import answer_values
from yolo_slim.runtime.load import busy_reasons, load_since, start

SCHEMA = 1
ROUNDS = 5
"""How often every graph is timed."""
WARMUP = 2
"""First runs of a graph in a round, which don't count."""
LEAST_RUNS, MOST_RUNS = 3, 40
LEAST_MS = 8.0
"""Milliseconds of one graph in one round: short ones are repeated until then."""


@dataclass(frozen=True, kw_only=True)
class LayerTimes:
    """What single convolutions take."""

    ms: dict[str, float]
    """Name of a graph to the median of its rounds' medians."""
    threads: int
    invalid_reasons: tuple[str, ...] = ()
    """Why the timing doesn't count: the machine was throttled or busy."""

    def require(self, names: Iterable[str]) -> None:
        """Refuse an answer that lacks graphs.

        Raises:
            SlimError: names them.
        """
        if lacking := [name for name in names if name not in self.ms]:
            raise _damaged(f"it lacks {', '.join(lacking[:8])}{', ...' if len(lacking) > 8 else ''}")

    def to_json(self) -> dict[str, object]:
        """The answer of ``layers``."""
        return {
            "schema": SCHEMA, "ms": self.ms, "threads": self.threads, "invalid_reasons": list(self.invalid_reasons),
        }  # fmt: skip

    @classmethod
    def from_json(cls, value: Any) -> LayerTimes:
        """Read the answer back.

        Raises:
            SlimError: another layout.
        """
        try:
            if value["schema"] != SCHEMA:
                raise KeyError("schema")
            return cls(
                ms={str(name): answer_values.milliseconds(ms) for name, ms in value["ms"].items()},
                threads=answer_values.threads(value["threads"]),
                invalid_reasons=answer_values.reasons(value["invalid_reasons"]),
            )
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise _damaged(str(error)) from None


def _damaged(why: str) -> SlimError:
    remedy = "Use the same yolo_slim on the device and here."
    return SlimError(f"The device's timing of layers is damaged: {why}.", remedy=remedy)


def time_layers(file: Path, *, max_celsius: float | None = None) -> LayerTimes:
    """Time the graphs of a file that :func:`yolo_slim.measuring.layer_graphs.write` wrote.

    A timing that starts or ends hotter than ``max_celsius`` doesn't count; None: no limit.

    Raises:
        SlimError: no such file, another layout, or a runtime that is missing or can't time layers.
    """
    value = _read(file)
    load = open_layer_of(value["runtime"])
    if load is None:
        raise SlimError(f"{value['runtime']} can't time single layers.", remedy="Choose onnxruntime or ncnn.")
    threads = min(int(value["threads"]), cores())
    graphs = {one["name"]: one for one in value["graphs"]}
    state, begin = read_state(), start(with_reference=False)
    rounds: dict[str, list[float]] = {name: [] for name in graphs}
    for index in range(ROUNDS):
        # In one order only, a drift inside the rounds would always favour the same graphs.
        for name in graphs if index % 2 else reversed(graphs):
            # Opened anew: the idle threads of another open session would wait busily beside it.
            one = graphs[name]
            rounds[name].append(_median_ms(load(one["graph"], threads), _input(one["input"])))
    used, after = load_since(begin, threads), read_state()
    reasons = busy_reasons(used) + throttle_reasons(state, after) + heat_reasons(state, after, max_celsius)
    return LayerTimes(
        ms={name: float(np.median(found)) for name, found in rounds.items()},
        threads=threads,
        invalid_reasons=tuple(reasons),
    )


def _read(file: Path) -> Any:
    """The checked content of the file."""
    try:
        value = read_json(file)
    except (OSError, ValueError) as error:
        remedy = "Give the file that the workstation wrote."
        raise SlimError(f"{file}: can't be read ({error}).", remedy=remedy) from None
    if not isinstance(value, dict) or value.get("schema") != SCHEMA:
        raise SlimError(f"{file}: not a file of layers of schema {SCHEMA}.", remedy="Update yolo_slim here.")
    return value


def _input(shape: Sequence[int]) -> NDArray[np.float32]:
    """An input of (1, channels, height, width) between 0 and 1."""
    return np.random.default_rng(0).random((1, *shape), dtype=np.float32)


def _median_ms(prepare: PrepareLayer, blob: NDArray[np.float32]) -> float:
    """Run one graph for its part of a round."""
    for _ in range(WARMUP):
        prepare(blob)()
    samples: list[float] = []
    while len(samples) < LEAST_RUNS or (sum(samples) < LEAST_MS and len(samples) < MOST_RUNS):
        run = prepare(blob)
        begin = time.perf_counter_ns()
        run()
        samples.append((time.perf_counter_ns() - begin) / 1e6)
    return float(np.median(samples))
