"""Fixtures: a camera of rendered frames, and servers of its page on loopback."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.helpers.camera_scene import SceneCamera
from yolo_slim.runtime.camera.server import Running, ServerSettings, serve

Serve = Callable[..., Running]


@pytest.fixture
def camera() -> Iterator[SceneCamera]:
    """Return a camera that runs."""
    with SceneCamera(size=(320, 180)) as running:
        yield running


@pytest.fixture
def served(camera: SceneCamera) -> Iterator[Serve]:
    """Return a function that serves the camera's page with other settings than the usual ones."""
    pytest.importorskip("aiohttp", reason="the page needs aiohttp (extra camera)")
    with ExitStack() as stack:

        def start(**settings: object) -> Running:
            wanted = {"port": 0, "callbacks": camera.callbacks(), **settings}
            return stack.enter_context(serve(camera.hub, ServerSettings(**wanted)))  # type: ignore[arg-type]

        yield start
