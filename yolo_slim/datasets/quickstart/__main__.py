"""``python -m yolo_slim.datasets.quickstart OUT``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from yolo_slim.datasets.quickstart.folder import generate
from yolo_slim.errors import SlimError


def main(arguments: Sequence[str]) -> int:
    """Generate the default set in the folder named on the command line, and print its data.yaml."""
    if len(arguments) != 1 or arguments[0].startswith("-"):
        print("usage: python -m yolo_slim.datasets.quickstart OUT_DIR", file=sys.stderr)
        return 2
    try:
        print(generate(Path(arguments[0])))
    except SlimError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
