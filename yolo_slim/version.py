"""The version of yolo_slim. Imports nothing, so that every room can name it."""

__version__ = "0.2.0"
