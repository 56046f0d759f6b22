"""The live camera with a bundle of yours, or with the built-in example on a scene that moves.

    python scripts/camera_demo.py                                   # example and scene, page at http://127.0.0.1:8080
    python scripts/camera_demo.py runs/slim/NAME/build/slim/ncnn-fp16 --source 0

The options are those of `python -m yolo_slim.runtime camera --help`.
"""

from __future__ import annotations

import sys
from pathlib import Path

from yolo_slim.errors import EXIT_BAD_INPUT, SlimError
from yolo_slim.example_bundle import example_bundle
from yolo_slim.runtime.__main__ import EXIT_INTERRUPTED
from yolo_slim.runtime.__main__ import main as device_command

EXAMPLE = Path(".quickstart/camera")


def main() -> int:
    """Run the camera; without a bundle, build that of the example first."""
    given = sys.argv[1:]
    has_bundle = bool(given) and not given[0].startswith("-")
    asks_only = any(option in given for option in ("--help", "-h", "--list"))
    try:
        bundle = [] if has_bundle or asks_only else [str(example_bundle(EXAMPLE))]
    except KeyboardInterrupt:
        print("\nStopped. Run the same command again to resume.", file=sys.stderr)
        return EXIT_INTERRUPTED
    except SlimError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    return device_command(["camera", *bundle, *given])


if __name__ == "__main__":
    sys.exit(main())
