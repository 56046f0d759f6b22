"""What a comparison is asked for, checked before any work."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from yolo_slim.build_key import BuildName
from yolo_slim.comparison.builds import RUNTIMES, require_runtimes
from yolo_slim.comparison.methods import DEFAULT_METHODS, require_methods
from yolo_slim.config.run import RunConfig
from yolo_slim.errors import SlimError
from yolo_slim.files import fitted_name, sha256
from yolo_slim.pruning.block_costs import load_block_costs


@dataclass(frozen=True, kw_only=True)
class CompareRequest:
    """The methods, sizes and seeds to compare, and where the result goes."""

    config: RunConfig
    """Settings of ours, and of the training that all methods share."""
    methods: Sequence[str] = DEFAULT_METHODS
    """Names of :data:`~yolo_slim.comparison.methods.METHODS`; ours and the control always take part."""
    removed: Sequence[float] = (0.5,)
    """Shares of the control's MACs to remove; none where the budget is in milliseconds."""
    seeds: Sequence[int] = (0, 1, 2)
    """Seeds of the training, the random criterion and random weights."""
    runtimes: Sequence[str] = RUNTIMES[:1]
    """Builds to compare; the first one decides the verdict."""
    project: Path = Path("runs/compare")
    """Folder of all comparisons."""
    name: str | None = None
    """Folder of this one in it; absent: from the settings."""
    measured: Sequence[Path] = ()
    """``compare.json`` files whose trained networks are imported."""
    command: str = ""
    """Command line, for the record."""

    @property
    def folder(self) -> Path:
        """Folder of this comparison."""
        config = self.config
        given = f"-{Path(config.target).stem}-{config.imgsz}"
        return self.project / (self.name or fitted_name(Path(config.model).stem, after=given))


def checked(request: CompareRequest) -> CompareRequest:
    """Check a request, and give it methods in the order of the tables and a training that is fair.

    Raises:
        SlimError: methods, sizes, seeds, builds or settings that can't be compared.
    """
    in_ms = request.config.prune.frame_ms is not None
    methods = require_methods(request.methods, in_ms=in_ms)
    seeds, removed = request.seeds, request.removed
    if not seeds or min(seeds) < 0:
        raise SlimError(
            f"No training can be made with the seeds {list(seeds)}.",
            remedy="Give how many (--seeds 3), or the seeds themselves, 0 or more (--seeds 0,1,2).",
        )
    require_runtimes(request.runtimes)
    if in_ms:
        _require_alone(request)
        require_named_first(request.config, request.runtimes)
    wrong = [f"{share:g}" for share in removed if not 0 < share < 1]
    if wrong or (not removed and not in_ms):
        raise SlimError(
            "Some sizes aren't a fraction of the MACs.",
            culprits=wrong,
            remedy="Give fractions, such as --prune 0.3,0.5.",
        )
    config = fair(request.config)
    if config.prune.block_costs:
        # Read only to refuse a table of another model before the first training.
        load_block_costs(Path(config.prune.block_costs), sha256(Path(config.model)), config.imgsz)
    return replace(request, methods=methods, config=config)


def _require_alone(request: CompareRequest) -> None:
    """Refuse what has no meaning beside a budget in milliseconds.

    Raises:
        SlimError: sizes, or networks of other comparisons.
    """
    budget = request.config.prune.budget[0]
    problems = [f"--prune: {budget} decides the share of the MACs"] if request.removed else []
    problems += ["--measured: another comparison's share takes other milliseconds"] if request.measured else []
    if problems:
        raise SlimError(
            f"A comparison at equal latency ({budget}) can't have these options.",
            culprits=problems,
            remedy="Leave them out.",
        )


def require_named_first(config: RunConfig, runtimes: Sequence[str]) -> None:
    """Refuse a build by name that isn't the one whose milliseconds the budget is in.

    Raises:
        SlimError: it is another one.
    """
    named, first = config.latency.runtime, runtimes[0]
    if config.prune.frame_ms is not None and named not in (None, first, BuildName.parse(first).runtime):
        raise SlimError(
            f"latency.runtime names {named}, but the budget is of the first build of this comparison, {first}.",
            remedy="Leave latency.runtime out. The first build of the first call's --runtimes decides.",
        )


def fair(config: RunConfig) -> RunConfig:
    """Make the training equally long for every method.

    Raises:
        SlimError: settings under which ours would train longer than its rivals, or be cut to another budget.
    """
    problems = [*_unfair_pruning(config), *_unfair_training(config)]
    if problems:
        raise SlimError(
            "These settings would make the comparison unfair.", culprits=problems, remedy="Leave them at their default."
        )
    # Early stopping would give some methods fewer epochs.
    recover = config.recover.model_copy(update={"patience": config.recover.epochs})
    # Every size sets its own share, and all sizes are one comparison.
    prune = config.prune.model_copy(update={"macs_removed": None})
    return config.model_copy(update={"recover": recover, "prune": prune})


def _unfair_pruning(config: RunConfig) -> Iterator[str]:
    """Yield the settings of pruning that only ours would profit from."""
    for key in ("sparse_epochs", "recover_epochs_between"):
        if value := getattr(config.prune, key):
            yield f"prune.{key}: {value}; only ours would train longer"
    if config.prune.budget[0] != "macs_removed" and config.prune.frame_ms is None:
        yield f"prune.{config.prune.budget[0]}: the methods are compared at equal MACs or milliseconds"


def _unfair_training(config: RunConfig) -> Iterator[str]:
    """Yield the settings of training that differ in effect between the methods."""
    overrides = config.recover.overrides
    if config.recover.teacher:
        yield "recover.teacher: every method is distilled from the control"
    if "time" in overrides:
        yield "--train time: smaller networks would get more epochs"
    if overrides.get("freeze"):
        yield "--train freeze: the layers of a network from random weights would stay random"
    fraction = overrides.get("fraction", 1.0)
    # True is an int in Python, and would pass as all images.
    if isinstance(fraction, bool) or not isinstance(fraction, (int, float)) or not 0 < fraction <= 1:
        yield f"--train fraction: {fraction}; expected a fraction of the images, above 0 and at most 1"
