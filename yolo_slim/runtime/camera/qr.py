"""A link as a QR code in the terminal, for the phone. OpenCV makes the code."""

from __future__ import annotations

import cv2

_QUIET = 2
"""White modules around the code. The standard wants 4; phones read 2, and the code fits 80 columns."""


def qr_text(link: str) -> str:
    """The code as lines of half blocks, black on white; empty where this OpenCV can't make it."""
    try:
        code = cv2.QRCodeEncoder.create().encode(link)
    except (AttributeError, cv2.error):
        return ""
    code = cv2.copyMakeBorder(code, _QUIET, _QUIET + len(code) % 2, _QUIET, _QUIET, cv2.BORDER_CONSTANT, value=255)
    is_white = code > 0
    blocks = {(True, True): "█", (True, False): "▀", (False, True): "▄", (False, False): " "}
    pairs = zip(is_white[0::2].tolist(), is_white[1::2].tolist(), strict=True)
    # Blocks are drawn in the text's colour: both colours are set, so that it reads on light terminals too.
    rows = ["".join(blocks[pair] for pair in zip(upper, lower, strict=True)) for upper, lower in pairs]
    return "\n".join(f"\x1b[97;40m{row}\x1b[0m" for row in rows)
