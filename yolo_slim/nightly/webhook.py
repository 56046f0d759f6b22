"""Tell another program of a night: one HTTP POST of JSON."""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from http.client import HTTPException

from yolo_slim.files import JsonObject

PATIENCE_S = 10.0


def post(address: str, value: JsonObject) -> str:
    """Send a value; the answer says what went wrong, and is empty where nothing did.

    Args:
        address: http or https; ``$NAME`` in it is an environment variable, so that a secret stays out of the file.
        value: JSON.
    """
    url = os.path.expandvars(address)
    # The address itself may contain a secret, so no message repeats it.
    if not url.startswith(("http://", "https://")):
        return "nightly: the webhook was not told: its address has to begin with http:// or https://"
    try:
        request = urllib.request.Request(url, json.dumps(value).encode(), {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=PATIENCE_S):
            return ""
    except (OSError, ValueError, HTTPException) as error:
        return f"nightly: the webhook was not told: {_reason(error)}"


def _reason(error: Exception) -> str:
    """What went wrong, without an exception's own text: those of bad addresses quote them."""
    if isinstance(error, urllib.error.HTTPError):
        return f"HTTP {error.code}"
    cause = getattr(error, "reason", error)
    cause = cause if isinstance(cause, Exception) else error
    return (cause.strerror if isinstance(cause, OSError) else None) or type(cause).__name__
