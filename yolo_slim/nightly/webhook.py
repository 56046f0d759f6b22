"""Tell another program of a night: one HTTP POST of JSON."""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request

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
    request = urllib.request.Request(url, json.dumps(value).encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE_S):
            return ""
    except (urllib.error.URLError, OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        return f"nightly: the webhook was not told: {reason}"
