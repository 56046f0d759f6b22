"""The cells of a night, device by device: remote devices at the same time, this machine alone."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from yolo_slim.datasets.description import load_dataset
from yolo_slim.devices.base import Device
from yolo_slim.devices.connect import connect
from yolo_slim.errors import DeviceGone, SlimError
from yolo_slim.measuring.images import scored_images
from yolo_slim.nightly.cells import Cells, Work, attempt
from yolo_slim.nightly.matrix import Matrix, Plan
from yolo_slim.nightly.measure import Meter
from yolo_slim.progress import Progress

K = TypeVar("K", bound=Hashable)


def open_device(plan: Plan) -> Device:
    """Open the device of a plan.

    Raises:
        SlimError: it doesn't answer, or isn't known.
    """
    return connect(plan.device, plan.profile)


def measure_all(works: Sequence[Work], cells: Cells, progress: Progress) -> None:
    """Measure every cell on its device and record it; what fails is recorded as failed, or as missing.

    Raises:
        StorageError: nothing can be recorded.
    """
    groups = _grouped(works, lambda work: work.chain.plan.host)
    remote = [group for host, group in groups.items() if host is not None]
    if remote:
        with ThreadPoolExecutor(len(remote)) as pool:
            running = [pool.submit(_measure_host, group, cells, progress) for group in remote]
        for future in running:
            future.result()
    # After the others, because their scoring would disturb this machine's timings.
    _measure_host(groups.get(None, []), cells, progress)


def _measure_host(works: Sequence[Work], cells: Cells, progress: Progress) -> None:
    """Measure the cells of one device, one after the other; it is opened, and checked, for each of its targets."""
    for group in _grouped(works, lambda work: work.chain.plan.target).values():
        left: Sequence[Work] = group
        while left:
            try:
                device = attempt(open_device, left[0].chain.plan)
            except SlimError as error:
                cells.fail([work.cell for work in left], error, "missing")
                break
            try:
                left = _measured(left, device, cells, progress)
            finally:
                device.close()


def _measured(works: Sequence[Work], device: Device, cells: Cells, progress: Progress) -> Sequence[Work]:
    """Measure cells until the device is gone; give those that are left."""

    def measure(work: Work) -> None:
        cells.measure(work, _meter(work, device, cells, progress))

    for number, work in enumerate(works, 1):
        try:
            attempt(measure, work, cells.matrix.log(work.name))
        except SlimError as error:
            cells.fail([work.cell], error)
            if isinstance(error, DeviceGone):
                return works[number:]
    return []


def _grouped(works: Iterable[Work], key: Callable[[Work], K]) -> dict[K, list[Work]]:
    """The cells by a property, each group in their order."""
    groups: dict[K, list[Work]] = {}
    for work in works:
        groups.setdefault(key(work), []).append(work)
    return groups


def _meter(work: Work, device: Device, cells: Cells, progress: Progress) -> Meter:
    """What one cell is measured with."""
    return meter_of(work.chain.plan, device, cells.matrix, work.chain.folder / "nightly", progress)


def meter_of(plan: Plan, device: Device, matrix: Matrix, folder: Path, progress: Progress) -> Meter:
    """What the cells of one plan are measured with; links to the images are made in ``folder``."""
    dataset = load_dataset(Path(plan.config.data))
    return Meter(
        device=device,
        profile=plan.profile,
        images=scored_images(dataset, plan.config.validate_, folder),
        names=dataset.names,
        timing=matrix.config.timing,
        progress=progress,
    )
