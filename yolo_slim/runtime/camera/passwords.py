"""Secrets in the environment: the command line is shown to every user of the machine."""

from __future__ import annotations

import os
from urllib.parse import quote

SOURCE = "YOLO_SLIM_SOURCE_PASSWORD"
BROKER = "YOLO_SLIM_MQTT_PASSWORD"
TOKEN = "YOLO_SLIM_PAGE_TOKEN"
VARIABLES = (SOURCE, BROKER, TOKEN)


def with_password(url: str, variable: str) -> str:
    """A URL that names a user and no password, with the password of the environment; any other URL as it is."""
    password = os.environ.get(variable)
    scheme, separator, rest = url.partition("://")
    user, is_named, _ = rest.partition("/")[0].rpartition("@")
    if not password or not is_named or ":" in user:
        return url
    return f"{scheme}{separator}{user}:{quote(password, safe='')}{rest[len(user) :]}"
