"""The page as one file that loads nothing else: style and program are put into it, and named by their hashes."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent
PARTS = {"page.css": ("/* page.css */", "style-src"), "page.js": ("/* page.js */", "script-src")}
"""File to the mark in page.html that it replaces, and the policy that allows it."""
_ELSE = (
    "default-src 'none'",
    "img-src 'self' blob: data:",
    "connect-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
)


@dataclass(frozen=True, kw_only=True)
class Page:
    """What ``GET /`` answers."""

    html: str
    policy: str
    """Content-Security-Policy: only this style and this program run."""


@cache
def page() -> Page:
    """Put the page together."""
    html, policy = _read("page.html"), []
    for name, (mark, directive) in PARTS.items():
        text = _read(name)
        html = html.replace(mark, text)
        policy.append(f"{directive} 'sha256-{_digest(text)}'")
    return Page(html=html, policy="; ".join([*_ELSE, *policy]))


def _read(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
