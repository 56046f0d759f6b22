"""What the system refuses when an output writes, said for people."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from yolo_slim.errors import SlimError, explain_os_error


def refused(error: OSError, path: Path, remedy: str) -> SlimError:
    """The user's version of an error while writing below a path."""
    explained = explain_os_error(error, path)
    return SlimError(explained.fact if explained else f"{path}: {error.strerror or error}.", remedy=remedy)


@contextmanager
def refusals_explained(path: Path, remedy: str) -> Iterator[None]:
    """Turn every :class:`OSError` of the block into a :class:`SlimError`."""
    try:
        yield
    except OSError as error:
        raise refused(error, path, remedy) from error
