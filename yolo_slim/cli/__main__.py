"""``python -m yolo_slim.cli``: the same as ``yolo-slim``."""

from yolo_slim.cli import main

main()
