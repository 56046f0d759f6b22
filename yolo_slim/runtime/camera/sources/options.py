"""What is asked of a source, and what a source is called."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path

from yolo_slim.errors import SlimError

ROTATIONS = (0, 90, 180, 270)
FLIPS = ("", "h", "v", "hv")
_MAX_SIDE = 16384
_MAX_RATE = 1000.0


@dataclass(frozen=True, kw_only=True)
class SourceOptions:
    """What is asked of a source. None: the source's own choice."""

    size: tuple[int, int] | None = None
    """Width and height in pixels, before turning."""
    rate: float | None = None
    """Frames per second."""
    rotate: int = 0
    """Degrees clockwise: 0, 90, 180 or 270."""
    flip: str = ""
    """``h`` mirrors left and right, ``v`` top and bottom, ``hv`` both; done after turning."""
    exposure_ms: float | None = None
    """Exposure time; None: automatic."""
    loop: bool = False
    """Begin again at the end of a file."""
    paced: bool = True
    """Give files and the scene at their own rate and skip what nobody took, as a camera does; else on request."""
    pictures: Path | None = None
    """Images that the scene shows: the ``selfcheck`` folder of the bundle. None: drawn shapes."""
    open_limit_s: float = 10.0
    """Longest wait for the first frame."""
    read_limit_s: float = 5.0
    """Longest wait for each further frame; then the source is lost."""


OPTION_NAMES = {
    "size": "--size",
    "rate": "--rate",
    "exposure_ms": "--exposure",
    "loop": "--loop",
    "pictures": "the scene's pictures",
}
"""Options that not every kind of source takes, and how people give them."""


@dataclass(frozen=True, kw_only=True)
class SourceSpec:
    """A source that can be opened, again and again."""

    kind: str
    """A key of :data:`yolo_slim.runtime.camera.sources.KINDS`."""
    address: str = field(repr=False)
    """Device, path or URL; it may contain a password, so it is never shown."""
    name: str
    """What people call it; without a password."""
    options: SourceOptions


def check_options(options: SourceOptions) -> None:
    """Refuse impossible values, all at once.

    Raises:
        SlimError: with one culprit for each.
    """
    problems = list(_problems(options))
    if problems:
        raise SlimError("The camera's options can't be used.", culprits=problems, remedy="Correct them.")


def check_taken(options: SourceOptions, taken: frozenset[str], what: str) -> None:
    """Refuse options that a kind of source can't follow: none is ignored without a word.

    Args:
        options: what is asked.
        taken: keys of :data:`OPTION_NAMES` that this kind follows.
        what: the kind in prose, such as ``a video file``.

    Raises:
        SlimError: names the options.
    """
    default = SourceOptions()
    given = [one.name for one in fields(options) if getattr(options, one.name) != getattr(default, one.name)]
    unused = [OPTION_NAMES[name] for name in given if name in OPTION_NAMES and name not in taken]
    if unused:
        raise SlimError(f"{what} takes no {' and no '.join(unused)}.", remedy="Leave it out, or choose another source.")


def _problems(options: SourceOptions) -> Iterator[str]:
    if options.size and not all(0 < side <= _MAX_SIDE for side in options.size):
        yield f"--size: got {options.size[0]}x{options.size[1]}; expected sides from 1 to {_MAX_SIDE}"
    if options.rate is not None and not 0 < options.rate <= _MAX_RATE:
        yield f"--rate: got {options.rate}; expected more than 0, at most {_MAX_RATE:g}"
    if options.rotate not in ROTATIONS:
        yield f"--rotate: got {options.rotate}; expected {', '.join(map(str, ROTATIONS))}"
    if options.flip not in FLIPS:
        yield f"--flip: got {options.flip!r}; expected h, v or hv"
    if options.exposure_ms is not None and not 0 < options.exposure_ms <= 10_000:
        yield f"--exposure: got {options.exposure_ms} ms; expected more than 0, at most 10000"
    for name in ("open_limit_s", "read_limit_s"):
        if not 0 < getattr(options, name) <= 3600:
            yield f"{name}: got {getattr(options, name)}; expected more than 0, at most 3600"
