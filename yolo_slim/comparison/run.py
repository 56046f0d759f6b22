"""One comparison: every method at every size and seed is made and measured alike, then all are timed and judged.

It has one folder (``runs/compare/NAME``). Finished work is kept: an interrupted comparison resumes, and a call with
more methods, sizes or seeds adds them to those of earlier calls.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace

from yolo_slim import latency_tables, preparation
from yolo_slim.build_key import BuildName
from yolo_slim.comparison import folder as folders
from yolo_slim.comparison import imported
from yolo_slim.comparison.about import about, settings_of
from yolo_slim.comparison.builds import choices
from yolo_slim.comparison.device import Meter
from yolo_slim.comparison.equal_latency import AtBudget, at_budget, to_macs_of
from yolo_slim.comparison.measure import Measurements
from yolo_slim.comparison.methods import cells_of, table_order
from yolo_slim.comparison.output import Outcome, write
from yolo_slim.comparison.request import CompareRequest, checked, require_named_first
from yolo_slim.comparison.summary import summarize
from yolo_slim.input_check import require_good_inputs
from yolo_slim.preparation import Run
from yolo_slim.progress import Progress
from yolo_slim.stages import control
from yolo_slim.sweep.grid import merged


def run(request: CompareRequest, progress: Progress | None = None) -> Outcome:
    """Compare pruning with its rivals.

    Raises:
        SlimError: anything wrong with the inputs, found before the first training; or with the folder.
    """
    asked = checked(request)
    folder = asked.folder
    this = preparation.prepared(asked.config, folder, command=asked.command, progress=progress, runs_bundles=True)
    with closing(this.context.device):
        return _compared(asked, this)


def _compared(asked: CompareRequest, this: Run) -> Outcome:
    """Make and measure every method's networks."""
    require_good_inputs(this)
    latency_tables.require_measurable(this)
    folder = asked.folder
    settings = settings_of(this.config, this.context.dataset.digest)
    with folders.owned(folder, settings) as known:
        networks = [one for path in asked.measured for one in imported.read(path, settings)]
        joined = imported.join(folder, networks)
        # Known ones first: the first runtime of the first call decides the verdict.
        runtimes = tuple(dict.fromkeys([*known.runtimes, *asked.runtimes]))
        require_named_first(this.config, runtimes)
        profile = this.context.profile.model_copy(update={"runtimes": choices(runtimes)})
        this = replace(this, context=replace(this.context, profile=profile))
        at_budget = _at_budget(asked, this, BuildName.parse(runtimes[0]))
        removed = [at_budget.removed] if at_budget else asked.removed
        # Another share that an earlier search found belongs to another cut to milliseconds.
        before = [cell for cell in known.cells if not at_budget or cell.removed in (0.0, *removed)]
        wanted = cells_of(asked.methods, removed, asked.seeds)
        cells = merged(before, [*wanted, *joined], table_order)
        control.run(this.model, this.config.validate_, folder / "control", this.context)
        meter = Meter.of(this)
        measurements = Measurements(this, runtimes, joined, meter, at_budget)
        measurements.require_sizes(cells)
        found = measurements.measure_all(cells)
        result = summarize(about(this, settings, runtimes, meter, at_budget), found, meter.time_all(found))
        return write(folder, result)


def _at_budget(asked: CompareRequest, this: Run, build: BuildName) -> AtBudget | None:
    """Make both cuts of a comparison at equal latency; None: the budget is a share of the MACs."""
    given = asked.config.prune
    if given.frame_ms is None:
        return None
    return at_budget(this, build, to_macs_of(given, this.context.profile))
