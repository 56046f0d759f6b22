"""Check one image file: what training, scoring and devices would each see in it, and whether that is the same."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from yolo_slim.runtime.content import UNKNOWN, explain_content, format_of, read_head

MIN_SIDE_PX = 10
"""Ultralytics drops smaller images."""
DEEP = re.compile(r"^[IF]\b|;16[BLNS]\b")
"""Matches Pillow's description of images with more than 8 bits per channel, which devices can't read."""
_ORIENTATION = 274
"""EXIF tag: 1 is upright, 2 to 8 are turned or mirrored (EXIF 2.32, 4.6.4)."""
_BY_PILLOW = {"AVIF": (".avif",), "HEIC": (".heic", ".heif"), "JPEG 2000": (".jp2",)}
"""Formats that no device reads, but a training does if the suffix agrees."""


def image_problem(image: Path, *, on_device: bool) -> str:
    """What is wrong with an image file, or an empty string; ``on_device``: also what devices would find wrong."""
    try:
        return _content_problem(image, on_device) or _pixel_problem(image) or _decoder_problem(image, on_device)
    except OSError as error:
        return f"{image}: can't be read ({error.strerror or error})"


def _content_problem(image: Path, on_device: bool) -> str:
    """Content of another kind, whatever the suffix says; checked first, because decoders give no reason."""
    head = read_head(image)
    # Not left to Pillow: Ultralytics lets it look for a plug-in for every file that it doesn't know.
    if format_of(head) == UNKNOWN:
        return f"{image}: can't be decoded, the file is damaged or no image"
    problem = explain_content(image, head)
    if problem is None or (not on_device and image.suffix.lower() in _BY_PILLOW.get(format_of(head), ())):
        return ""
    return f"{problem.fact} {problem.remedy}"


def _pixel_problem(image: Path) -> str:
    """What Pillow finds, which Ultralytics checks its data with."""
    from PIL import Image, ImageFile

    # A flag of the process: with True, which other code may set, half an image passes.
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    try:
        with Image.open(image) as opened:
            width, height = opened.size
            # Pillow reduces 16-bit colour to 8 bits without a word; only the tile's raw mode shows it.
            stored = f"{opened.mode} {opened.tile}"
            turned = _turned_otherwise(image, opened)
            # Decoding at an eighth of the size still reads every byte of a JPEG, in about half the time.
            opened.draft("RGB", (max(width // 8, 1), max(height // 8, 1)))
            opened.load()
    except ModuleNotFoundError as error:  # HEIC, for which Ultralytics lets Pillow import a plug-in
        return f"{image}: can't be decoded without the package {error.name}; convert it to .jpg or .png"
    except Exception as error:  # Pillow's decoders raise many kinds: OSError, SyntaxError, struct.error, ...
        return f"{image}: can't be decoded, the file is corrupt or truncated ({error})"
    if min(width, height) < MIN_SIDE_PX:
        return f"{image}: {width}x{height} px; each side must have at least {MIN_SIDE_PX} px"
    if DEEP.search(stored):
        return f"{image}: more than 8 bits per channel; convert it to 8"
    return turned and f"{image}: {turned}; save it again, turned, without an orientation"


def _turned_otherwise(image: Path, opened: Any) -> str:
    """Why programs may turn an image in different ways by its orientation; empty: all turn it alike.

    All versions of OpenCV turn a JPEG by its EXIF data. Some do so with PNG, WebP or TIFF, none with AVIF. In a file
    that is named .tif, Ultralytics doesn't turn a JPEG either. Pillow reads the orientation of XMP, OpenCV doesn't.
    """
    from PIL import Image

    try:
        found, in_exif = opened.getexif().get(_ORIENTATION, 1), Image.Exif()
        in_exif.load(opened.info.get("exif", b""))
    except Exception:  # damaged EXIF data: then nobody turns the image
        return ""
    if found not in range(2, 9):
        return ""
    if opened.format not in ("JPEG", "MPO"):
        return f"{opened.format} with an EXIF orientation, which some programs apply and others ignore"
    if image.suffix.lower() in (".tif", ".tiff"):
        return f"a JPEG named {image.suffix} with an EXIF orientation, which training would ignore"
    if in_exif.get(_ORIENTATION) != found:
        return "a JPEG with an orientation in XMP only, which OpenCV ignores"
    return ""


def _decoder_problem(image: Path, on_device: bool) -> str:
    """What OpenCV finds, which trainings and devices read images with."""
    from yolo_slim.runtime.sources import is_readable  # here, because whether a run is up to date needs no OpenCV

    if not on_device or is_readable(image):
        return ""
    return f"{image}: OpenCV, which devices use, can't read it or finds it truncated; save it again as .png"
