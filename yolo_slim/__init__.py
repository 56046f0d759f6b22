"""Make a trained Ultralytics YOLO faster on an edge device, and measure what that costs in accuracy.

The functions below mirror the command line, for notebooks and scripts::

    import yolo_slim
    outcome = yolo_slim.run("best.pt", "data.yaml", target="rpi5", imgsz=320, prune=0.5, epochs=30)
    print(outcome.verdict, outcome.report)

Importing this package is cheap: torch and Ultralytics are loaded by the function that needs them.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

from yolo_slim.version import __version__

if TYPE_CHECKING:
    from yolo_slim.api import block_costs, build, compare, export, latency, prune, quantize, recover, run, validate

__all__ = [
    "__version__",
    "block_costs",
    "build",
    "compare",
    "export",
    "latency",
    "prune",
    "quantize",
    "recover",
    "run",
    "validate",
]


def __getattr__(name: str) -> Any:
    """Load the Python API on first use, so that the device half needs none of its imports."""
    if name in __all__:
        from yolo_slim import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class _Package(ModuleType):
    """Keeps the functions of the package callable."""

    def __setattr__(self, name: str, value: object) -> None:
        """Ignore a subpackage that would take a function's name."""
        # Importing anything of yolo_slim/export binds that package to the name of the function `export`.
        if name not in __all__ or not isinstance(value, ModuleType):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
