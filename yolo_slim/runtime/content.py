"""What a file contains, by its first bytes: names lie, and decoders give no reason."""

from __future__ import annotations

from pathlib import Path

from yolo_slim.errors import SlimError

UNKNOWN = "?"
"""Format of a file that isn't recognised: damaged, or of a kind that nothing here reads."""
IMAGE_FORMATS = ("BMP", "JPEG", "PNG", "TIFF", "WebP")
"""Formats that every supported OpenCV decodes to the same picture."""
REPLACE = "Replace or remove the file."
HEAD_BYTES = 512
"""Bytes at a file's beginning that tell its format."""

_SIGNATURES: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\xff\xd8\xff", "JPEG"),
    (0, b"\x89PNG\r\n\x1a\n", "PNG"),
    (0, b"BM", "BMP"),
    (0, b"II*\0", "TIFF"),
    (0, b"MM\0*", "TIFF"),
    (0, b"II+\0", "TIFF"),
    (0, b"MM\0+", "TIFF"),
    (8, b"WEBP", "WebP"),
    (0, b"GIF8", "GIF"),
    (0, b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (0, b"\xff\x4f\xff\x51", "JPEG 2000"),
    (0, b"\0\0\0\x0cJXL ", "JPEG XL"),
    (0, b"\xff\x0a", "JPEG XL"),
    (0, b"8BPS", "PSD"),
    (0, b"%PDF", "PDF"),
    (0, b"PK\x03\x04", "ZIP"),
    (0, b"\x1a\x45\xdf\xa3", "MKV video"),
    (8, b"AVI ", "AVI video"),
    (0, b"version https://git-lfs", "Git LFS pointer"),
)
_BRANDS = {
    "avif": "AVIF",
    "avis": "AVIF",
    "heic": "HEIC",
    "heix": "HEIC",
    "hevc": "HEIC",
    "mif1": "HEIC",
    "msf1": "HEIC",
}
"""Brands of the ISO container (ISO/IEC 14496-12); any other one is a video."""
_PROSE = {"": "an empty file", "HTML": "HTML text", "text": "text", "Git LFS pointer": "a Git LFS pointer"}
_VIDEOS = ("MP4 video", "MKV video", "AVI video")
_REMEDIES = {
    **dict.fromkeys(_VIDEOS, "Give the video by itself."),
    "Git LFS pointer": "Fetch the files with git lfs pull.",
    "GIF": "Convert it to .png; an animation is a video: name it .gif and give it by itself.",
    "animated WebP": "Convert it to a video, such as .mp4.",
}


def format_of(head: bytes) -> str:
    """The format of a file from its first :data:`HEAD_BYTES`; empty for an empty file."""
    if not head:
        return ""
    if head[4:8] == b"ftyp":
        return _container(head)
    found = next((name for at, magic, name in _SIGNATURES if head.startswith(magic, at)), None)
    if found == "WebP" and head[12:16] == b"VP8X" and len(head) > 20 and head[20] & 2:
        return "animated WebP"
    return found or _text(head)


def read_head(path: Path) -> bytes:
    """The beginning of a file.

    Raises:
        OSError: it can't be read.
    """
    with path.open("rb") as stream:
        return stream.read(HEAD_BYTES)


def has_video(path: Path) -> bool:
    """Whether a file contains a video in MP4, MKV or AVI, whatever its suffix; false where it can't be read."""
    try:
        return format_of(read_head(path)) in _VIDEOS
    except OSError:
        return False


def prose_of(head: bytes) -> str | None:
    """What a file is that contains neither an image nor a video, such as ``an empty file``; None: it may."""
    return _PROSE.get(format_of(head))


def explain_content(path: Path, head: bytes) -> SlimError | None:
    """Say why a file is no image for a device; None where it is one, or is too damaged to tell."""
    found = format_of(head)
    if found in IMAGE_FORMATS or found == UNKNOWN:
        return None
    prose = prose_of(head)
    if prose:
        return SlimError(f"{path} is {prose}, not an image.", remedy=_REMEDIES.get(found, REPLACE))
    known = f"{', '.join(IMAGE_FORMATS[:-1])} and {IMAGE_FORMATS[-1]}"
    fact = f"{path} contains {found}; images of {known} are read."
    return SlimError(fact, remedy=_REMEDIES.get(found, "Convert it to .png or .jpg."))


def _container(head: bytes) -> str:
    size = int.from_bytes(head[:4], "big")
    # The major brand, then the compatible ones: HEIC and AVIF both may start with mif1.
    brands = [head[8:12], *(head[at : at + 4] for at in range(16, min(size, len(head)), 4))]
    names = [_BRANDS[text] for text in (brand.decode("latin-1") for brand in brands) if text in _BRANDS]
    return "AVIF" if "AVIF" in names else names[0] if names else "MP4 video"


def _text(head: bytes) -> str:
    if head[:1] == b"P" and head[1:2] in b"1234567" and head[2:3].isspace():
        return "PPM"
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html", b"<head")):
        return "HTML"
    return "text" if _is_text(head) else UNKNOWN


def _is_text(head: bytes) -> bool:
    """Whether all bytes are printable ASCII or white space, as in a list, a JSON file or an error message."""
    return all(byte in b"\t\n\r" or 32 <= byte < 127 for byte in head)
