"""Who may see the page: one secret for all viewers, and few tries to guess it."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable

from yolo_slim.errors import SlimError

SHORTEST = 16
"""Characters of a token that the user chooses."""
MOST_WRONG = 5
"""Wrong tokens of one address within :data:`WINDOW_S`; after them it is refused, whatever it sends."""
WINDOW_S = 60.0
MOST_ADDRESSES = 1024
_ALLOWED = re.compile(r"[A-Za-z0-9_-]+")


def new_token() -> str:
    """A secret of 192 random bits that fits into a link."""
    return secrets.token_urlsafe(24)


def check_token(token: str) -> str:
    """The user's own token.

    Raises:
        SlimError: it is short, or has characters that a link can't hold.
    """
    if len(token) < SHORTEST or not _ALLOWED.fullmatch(token):
        raise SlimError(
            f"The token has {len(token)} characters, or others than letters, digits, - and _.",
            remedy=f"Give at least {SHORTEST} of these, or leave --token out: one is made then.",
        )
    return token


def is_same(given: str, token: str) -> bool:
    """Compare in a time that says nothing about the token."""
    return hmac.compare_digest(given.encode("utf-8", "replace"), token.encode())


class WrongTokens:
    """Counts wrong tokens by address. An IPv6 network of /64 counts as one: it has one owner.

    The same wrong token counts once: a page that stayed open while the camera got another token isn't guessing.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._wrong: OrderedDict[str, OrderedDict[str, float]] = OrderedDict()

    def add(self, address: str, token: str) -> None:
        """Note a wrong token."""
        owner, digest = _owner(address), hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()
        times = self._wrong.setdefault(owner, OrderedDict())
        times[digest] = self._clock()
        times.move_to_end(digest)
        self._wrong.move_to_end(owner)
        for counts, most in ((times, MOST_WRONG), (self._wrong, MOST_ADDRESSES)):
            if len(counts) > most:
                counts.popitem(last=False)

    def is_blocked(self, address: str) -> bool:
        """Whether an address gave too many of them."""
        times = list(self._wrong.get(_owner(address), OrderedDict()).values())
        return len(times) == MOST_WRONG and self._clock() - times[0] < WINDOW_S


def _owner(address: str) -> str:
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is None:
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)
