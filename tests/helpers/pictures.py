"""Image files that lie: turned by EXIF data, or of another format than their names say."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

TURNED = 6
"""EXIF orientation of a picture that is to be turned by 90 degrees clockwise."""
XMP = f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><tiff:Orientation>{TURNED}</tiff:Orientation></x:xmpmeta>'.encode()


def encoded(kind: str, *, orientation: int = 0, height: int = 64, width: int = 96) -> bytes:
    """Return a picture with a red top left quarter in a format that Pillow writes."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[: height // 2, : width // 2] = (255, 0, 0)
    options: dict[str, Any] = {"tiffinfo" if kind == "TIFF" else "exif": {274: orientation}} if orientation else {}
    if "exif" in options:
        exif = Image.Exif()
        exif.update(options["exif"])
        options["exif"] = exif
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind, **options)
    return stream.getvalue()


def with_xmp_orientation(path: Path) -> Path:
    """Write a JPEG whose orientation stands in its XMP data alone."""
    segment = b"http://ns.adobe.com/xap/1.0/\0" + XMP
    jpeg = encoded("JPEG")
    path.write_bytes(jpeg[:2] + b"\xff\xe1" + (len(segment) + 2).to_bytes(2, "big") + segment + jpeg[2:])
    return path


def animation(path: Path, frames: int = 5) -> Path:
    """Write an animated picture of the suffix's format."""
    rng = np.random.default_rng(0)
    images = [Image.fromarray(rng.integers(0, 255, (64, 96, 3), np.uint8)) for _ in range(frames)]
    images[0].save(path, save_all=True, append_images=images[1:], duration=100)
    return path
