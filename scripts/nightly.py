"""Run a night: ``python scripts/nightly.py [nightly.yaml]``, the same as ``yolo-slim nightly``.

Without a file, and without ``nightly.yaml`` here, the example is written first: it runs on the built-in data.
"""

from __future__ import annotations

import sys
from pathlib import Path

from yolo_slim.cli import main

MATRIX = "nightly.yaml"

if __name__ == "__main__":
    given = sys.argv[1:]
    if not given or given[0].startswith("-"):
        if not Path(MATRIX).exists():
            from yolo_slim.cli.nightly import write_example

            write_example(Path(MATRIX))
        given = [MATRIX, *given]
    sys.argv = ["yolo-slim", "nightly", *given]
    main()
