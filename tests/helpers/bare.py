"""Plain Ultralytics in a process where yolo_slim and torch-pruning can't be imported.

    python tests/helpers/bare.py

Reads jobs, one JSON line each: ``{"data": ..., "imgsz": 64, "files": [weights.pt, ...]}``. Prints one JSON line for
every file: which of loading, validating and exporting worked, and what went wrong. One process takes many jobs, because
its imports take seconds.
"""

from __future__ import annotations

import json
import sys
from typing import Any


class Blocked:
    """An import hook that refuses the packages that a user of the weights doesn't have."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        """Refuse."""
        if name.split(".")[0] in ("yolo_slim", "torch_pruning"):
            raise ImportError(f"{name} is blocked")


def main() -> None:
    """Load, validate and export every file."""
    sys.meta_path.insert(0, Blocked())
    for line in sys.stdin:
        job = json.loads(line)
        for file in job["files"]:
            print("BARE " + json.dumps(_try(job["data"], job["imgsz"], file)), flush=True)


def _try(data: str, imgsz: int, file: str) -> dict[str, Any]:
    """Return what worked."""
    from ultralytics import YOLO

    done: dict[str, Any] = {"file": file, "loads": False, "validates": False, "exports": False, "error": ""}
    try:
        model = YOLO(file)
        done["loads"] = True
        model.val(data=data, imgsz=imgsz, batch=4, plots=False, workers=0, verbose=False, project=f"{file}.val")
        done["validates"] = True
        YOLO(file).export(format="onnx", imgsz=imgsz, simplify=False)
        done["exports"] = True
    except Exception as error:
        done["error"] = f"{type(error).__name__}: {error}"[:300]
    return done


if __name__ == "__main__":
    main()
