"""The cells of a night, device by device: remote devices at the same time, this machine alone."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from yolo_slim.datasets.description import load_dataset
from yolo_slim.devices.base import Device
from yolo_slim.devices.connect import connect
from yolo_slim.errors import SlimError
from yolo_slim.measuring.images import scored_images
from yolo_slim.nightly.cells import Cells, Work, attempt
from yolo_slim.nightly.matrix import Matrix, Plan
from yolo_slim.nightly.measure import Meter
from yolo_slim.progress import Progress
from yolo_slim.sweep.executors import Finished, run_here


def open_device(plan: Plan) -> Device:
    """Open the device of a plan.

    Raises:
        SlimError: it doesn't answer, or isn't known.
    """
    return connect(plan.device, plan.profile)


def measure_all(works: Sequence[Work], cells: Cells, progress: Progress) -> None:
    """Measure every cell on its device and record it; what fails is recorded as failed."""
    groups: dict[str | None, list[Work]] = {}
    for one in works:
        groups.setdefault(one.chain.plan.host, []).append(one)
    remote = {host: group for host, group in groups.items() if host is not None}
    if remote:
        with ThreadPoolExecutor(len(remote)) as pool:
            running = [pool.submit(_measure_group, group, cells, progress) for group in remote.values()]
        for future in running:
            future.result()
    # After the others, because their scoring would disturb this machine's timings.
    if None in groups:
        _measure_group(groups[None], cells, progress)


def _measure_group(works: Sequence[Work], cells: Cells, progress: Progress) -> None:
    """Measure the cells of one device, one after the other."""
    try:
        device = attempt(open_device, works[0].chain.plan)
    except SlimError as error:
        cells.fail([work.cell for work in works], error, "missing")
        return
    try:

        def measure(work: Work) -> None:
            cells.measure(work, _meter(work, device, cells, progress))

        def done(finished: Finished[Work, None]) -> None:
            if finished.error:
                cells.fail([finished.cell.cell], finished.error)

        log = cells.matrix.project / "errors"
        log.mkdir(exist_ok=True)
        run_here(works, lambda work: attempt(measure, work, _log(log, work)), done=done)
    finally:
        device.close()


def _log(folder: Path, work: Work) -> Path:
    return folder / f"{work.name.replace('/', '-')}.txt"


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
