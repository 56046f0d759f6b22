"""The builds that a comparison can use, such as ``onnxruntime-fp32``; the only place here that reads such a name."""

from __future__ import annotations

from collections.abc import Sequence

from yolo_slim.build_key import BuildName
from yolo_slim.config.profile import RuntimeChoice
from yolo_slim.errors import SlimError, did_you_mean

RUNTIMES = ("onnxruntime-fp32", "ncnn-fp16")
"""Builds that are made from the fp32 graph, so that no quantization comes between the methods."""


def require_runtimes(runtimes: Sequence[str]) -> None:
    """Check the builds that are asked for.

    Raises:
        SlimError: none, or some that can't be compared.
    """
    unknown = [f"{key}: can't be compared.{did_you_mean(key, RUNTIMES)}" for key in runtimes if key not in RUNTIMES]
    if unknown or not runtimes:
        raise SlimError("Some builds can't be compared.", culprits=unknown, remedy=f"Possible: {', '.join(RUNTIMES)}.")


def choices(runtimes: Sequence[str]) -> list[RuntimeChoice]:
    """The entries of a device profile that make these builds."""
    builds = [BuildName.parse(key) for key in runtimes]
    return [RuntimeChoice.model_validate({"runtime": b.runtime, "precisions": [b.precision]}) for b in builds]
