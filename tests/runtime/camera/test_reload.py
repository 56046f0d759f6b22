"""A bundle that is replaced on disk while the camera runs."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.camera_sources import until
from tests.helpers.tiny_detector import scene
from yolo_slim.bundle import BUNDLE_JSON, pack, read_spec
from yolo_slim.runtime.camera.journal import Journal
from yolo_slim.runtime.camera.reload import BundleWatch, Reloading
from yolo_slim.runtime.detector import Detector


@pytest.fixture
def journal() -> Journal:
    """Counts and messages."""
    return Journal()


@pytest.fixture
def running(own_bundle: Path, journal: Journal) -> Iterator[Reloading]:
    """A bundle that runs; its files are looked at on request."""
    with Detector(own_bundle) as detector:
        running = Reloading(detector, journal)
        yield running
        running.close_own()


def replace(bundle: Path, **changes: object) -> None:
    """Write another bundle.json, as a new bundle has one."""
    path = bundle / BUNDLE_JSON
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    # Two changes within the clock's resolution would look alike.
    os.utime(path, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns + 1_000_000))


def looked(running: Reloading, times: int = 2) -> str:
    """The name of the bundle that answers after some looks at the files."""
    for _ in range(times):
        running.look()
    running.timed(scene())
    return running.detector.bundle.spec.name


def test_new_bundle_takes_over(running: Reloading, own_bundle: Path, journal: Journal) -> None:
    """It is loaded when its files are at rest, and answers from the next frame on."""
    assert looked(running) == "tiny"
    replace(own_bundle, name="newer", conf=0.9999)
    running.look()
    assert looked(running, times=0) == "tiny"
    assert looked(running, times=1) == "newer"
    assert len(running.timed(scene())[0]) == 0
    assert (journal.totals().reloaded, journal.totals().refused) == (1, 0)


def test_unchanged_bundle_is_left_alone(running: Reloading, own_bundle: Path, journal: Journal) -> None:
    """Negative control: a file that only the device writes beside it is no new bundle."""
    first = running.detector
    (own_bundle / "engine.cache").write_text("of this device")
    assert looked(running, times=3) == "tiny"
    assert running.detector is first
    assert journal.totals().reloaded == 0


def test_damaged_bundle_is_refused(running: Reloading, own_bundle: Path, journal: Journal) -> None:
    """The old one goes on and the reason is said once; when the missing part arrives, the new one takes over."""
    model = own_bundle / read_spec(own_bundle).model["onnx"]
    whole = model.read_bytes()
    model.write_bytes(whole[:-1])
    replace(own_bundle, name="newer")
    assert looked(running, times=5) == "tiny"
    assert journal.totals().refused == 1
    assert f"The new bundle {own_bundle} is refused, the old one goes on" in journal.last_error
    assert model.name in journal.last_error
    model.write_bytes(whole)
    assert looked(running, times=2) == "newer"


def test_missing_bundle_is_waited_for(running: Reloading, own_bundle: Path, journal: Journal) -> None:
    """While a folder is being replaced there is none; that is no fault."""
    kept = own_bundle.with_name("kept")
    own_bundle.rename(kept)
    assert looked(running, times=3) == "tiny"
    shutil.copytree(kept, own_bundle)
    replace(own_bundle, name="newer")
    assert looked(running, times=2) == "newer"
    assert journal.totals().refused == 0


def test_given_detector_is_its_givers(running: Reloading, own_bundle: Path) -> None:
    """The models that were loaded later are closed at the end, the first one only when it is replaced."""
    running.close_own()
    assert looked(running, times=0) == "tiny"


@pytest.fixture
def archive(own_bundle: Path) -> Path:
    """The same bundle, packed."""
    path = own_bundle.with_name("packed.tar.gz")
    pack(own_bundle, path)
    return path


def test_replaced_archive_takes_over(archive: Path, own_bundle: Path, journal: Journal) -> None:
    """As a folder does; what is unpacked beside the archive changes nothing, and a missing archive is waited for."""
    with Detector(archive) as detector:
        running = Reloading(detector, journal)
        assert looked(running, times=3) == "tiny"
        replace(own_bundle, name="newer")
        archive.unlink()
        assert looked(running, times=3) == "tiny"
        pack(own_bundle, archive)
        running.look()
        assert looked(running, times=0) == "tiny"
        assert looked(running, times=1) == "newer"
        assert (journal.totals().reloaded, journal.totals().refused) == (1, 0)
        assert looked(running, times=3) == "newer"
        assert journal.totals().reloaded == 1
        running.close_own()


def test_archive_that_is_still_copied_is_refused(archive: Path, own_bundle: Path, journal: Journal) -> None:
    """The old bundle goes on, nothing is left of the half one, and the whole one takes over."""
    with Detector(archive) as detector:
        running = Reloading(detector, journal)
        replace(own_bundle, name="newer")
        pack(own_bundle, archive)
        whole = archive.read_bytes()
        before = set(archive.parent.iterdir())
        archive.write_bytes(whole[: len(whole) // 2])
        assert looked(running, times=5) == "tiny"
        assert journal.totals().refused == 1
        assert f"The new bundle {archive} is refused, the old one goes on" in journal.last_error
        assert set(archive.parent.iterdir()) == before
        archive.write_bytes(whole)
        assert looked(running) == "newer"
        running.close_own()


def test_watch_thread(running: Reloading, own_bundle: Path, journal: Journal) -> None:
    """The camera's own thread does the looking."""
    watch = BundleWatch([running], every_s=0.01)
    watch.start()
    replace(own_bundle, name="newer")
    until(lambda: looked(running, times=0) == "newer")
    watch.stop()
    assert journal.totals().reloaded == 1
