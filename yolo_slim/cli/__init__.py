"""The command line: ``yolo-slim run``, one command a stage, ``compare``, ``show``, ``targets`` and ``doctor``.

Heavy imports (torch, Ultralytics, OpenCV) happen inside the commands, so that ``--help`` and completion answer at once.
"""

from yolo_slim.cli.group import cli
from yolo_slim.cli.main import main

__all__ = ["cli", "main"]
