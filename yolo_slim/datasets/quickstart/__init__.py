"""The quickstart data set: rendered traffic sign scenes, drawn on the user's machine in seconds.

Nothing is downloaded: NumPy and OpenCV draw streets, signs, look-alikes and bad weather from a seed.
Generate a set with ``python -m yolo_slim.datasets.quickstart OUT``.
"""

from yolo_slim.datasets.quickstart.folder import (
    GENERATOR_VERSION,
    IS_DRAWING,
    MODEL,
    default_data,
    default_model,
    default_place,
    generate,
    is_drawn,
)

__all__ = [
    "GENERATOR_VERSION",
    "IS_DRAWING",
    "MODEL",
    "default_data",
    "default_model",
    "default_place",
    "generate",
    "is_drawn",
]
