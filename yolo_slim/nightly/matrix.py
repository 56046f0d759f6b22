"""The cells of a night, from ``nightly.yaml``: each checked before the first one runs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from yolo_slim.build_key import BuildName
from yolo_slim.config import targets
from yolo_slim.config.merge import merged
from yolo_slim.config.nightly import QUICKSTART, NightlyConfig, NightlyTarget
from yolo_slim.config.profile import Profile
from yolo_slim.config.run import DeviceConfig, RunConfig
from yolo_slim.config.strict import parse, read_yaml
from yolo_slim.datasets import quickstart
from yolo_slim.errors import SlimError
from yolo_slim.files import DESCRIPTIONS, sha256_json
from yolo_slim.history.rows import Cell
from yolo_slim.progress import Progress
from yolo_slim.sweep.grid import product

HISTORY = "history.sqlite"
QUICKSTART_FOLDER = ".quickstart"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What the cells of one chain share: all but the build."""

    model: str
    data: str
    settings: str
    target: str
    config: RunConfig
    """The chain's."""
    profile: Profile
    host: str | None
    """Where the device is; None: this machine."""
    builds: tuple[BuildName, ...]
    """Builds of the profile that the matrix asks for."""

    @property
    def device(self) -> DeviceConfig:
        """How its device is reached."""
        return self.config.device.model_copy(update={"host": self.host})

    def cell(self, build: BuildName) -> Cell:
        """The cell of one build."""
        return Cell(model=self.model, data=self.data, settings=self.settings, target=self.target, build=str(build))

    @property
    def name(self) -> str:
        """The four names, for messages."""
        return "/".join((self.model, self.data, self.settings, self.target))


@dataclass(frozen=True, kw_only=True)
class Matrix:
    """A checked ``nightly.yaml``."""

    config: NightlyConfig
    plans: tuple[Plan, ...]
    folder: Path
    """Where the file is: paths in it are relative to this folder."""

    @property
    def project(self) -> Path:
        """Folder of everything that the nights write."""
        return self.folder / self.config.project

    @property
    def history(self) -> Path:
        """File of the history."""
        return self.folder / self.config.history if self.config.history else self.project / HISTORY

    @property
    def bundles(self) -> Path:
        """Folder of the nights' bundles."""
        return self.project / "bundles"

    def log(self, name: str) -> Path:
        """File for the traceback of a cell or a chain."""
        return self.project / "errors" / f"{name.replace('/', '-')}.txt"

    @property
    def cells(self) -> list[Cell]:
        """All cells, in the order of the file."""
        return [plan.cell(build) for plan in self.plans for build in plan.builds]

    @property
    def digest(self) -> str:
        """SHA-256 of what decides the cells and how they are measured."""
        return sha256_json(self.config.model_dump(exclude={"webhook", "mlflow", "keep_nights"}))

    def draw_quickstart(self, progress: Progress) -> None:
        """Draw the built-in example's images where the matrix uses them."""
        if QUICKSTART not in self.config.data.values():
            return
        if not quickstart.is_drawn(self.folder / QUICKSTART_FOLDER):
            progress.say(quickstart.IS_DRAWING)
        quickstart.default_data(self.folder / QUICKSTART_FOLDER)


def load(path: Path) -> Matrix:
    """Read and check a matrix.

    Raises:
        SlimError: every unknown key, impossible value and missing file at once; no cell.
    """
    config = parse(NightlyConfig, read_yaml(path), str(path))
    folder = path.absolute().parent
    problems = [*_missing_files(config, folder), *_settings_problems(config, folder)]
    if problems:
        raise SlimError(
            f"{path}: {len(problems)} {'value is' if len(problems) == 1 else 'values are'} not valid.",
            culprits=problems,
            remedy="Correct them and run the command again; docs/configuration.md lists every key.",
            topic="settings-arent-valid",
        )
    axes: dict[str, Iterable[str]] = {
        "model": config.models,
        "data": config.data,
        "settings": config.settings,
        "target": config.targets,
    }
    plans = [_plan(config, folder, **names) for names in product(**axes)]
    plans = [plan for plan in plans if plan.builds]
    if not plans:
        known = [_plan(config, folder, only=False, **names) for names in product(**axes)]
        names = [plan.cell(build).name for plan in known for build in plan.builds]
        raise SlimError(
            f"{path}: `only` leaves no cell.",
            culprits=config.only,
            remedy=f"Cells are named like {names[0]}.",
            topic="settings-arent-valid",
        )
    return Matrix(config=config, plans=tuple(plans), folder=folder)


def _plan(
    config: NightlyConfig, folder: Path, *, model: str, data: str, settings: str, target: str, only: bool = True
) -> Plan:
    """One chain of the matrix."""
    chosen = config.targets[target]
    profile = targets.load(_profile(chosen, folder))
    plan = Plan(
        model=model, data=data, settings=settings, target=target, profile=profile, host=chosen.host,
        config=_run_config(config, folder, model, data, config.settings[settings], chosen),
        builds=tuple(profile.builds),
    )  # fmt: skip
    patterns = config.only if only else ["*"]
    kept = [build for build in plan.builds if any(fnmatchcase(plan.cell(build).name, one) for one in patterns)]
    return Plan(**{**vars(plan), "builds": tuple(kept)})


def _run_config(
    config: NightlyConfig, folder: Path, model: str, data: str, settings: dict[str, object], target: NightlyTarget
) -> RunConfig:
    """The chain's configuration of one plan."""
    options = {"target": _profile(target, folder), "settings": settings}
    return merged(_model(config.models[model], folder), _data(config.data[data], folder), options)


def _profile(target: NightlyTarget, folder: Path) -> str:
    """A profile's name, or the path of the user's own."""
    own = target.profile.endswith(DESCRIPTIONS)
    return str(folder / target.profile) if own else target.profile


def _model(value: str, folder: Path) -> Path:
    return quickstart.default_model() if value == QUICKSTART else folder / value


def _data(value: str, folder: Path) -> Path:
    return quickstart.default_place(folder / QUICKSTART_FOLDER) if value == QUICKSTART else folder / value


def _missing_files(config: NightlyConfig, folder: Path) -> list[str]:
    """Models and data sets that aren't there; the built-in example's images are drawn later."""
    models = {f"models.{name}": _model(value, folder) for name, value in config.models.items()}
    data = {f"data.{name}": _data(value, folder) for name, value in config.data.items() if value != QUICKSTART}
    return [f"{key}: {path} doesn't exist" for key, path in {**models, **data}.items() if not path.is_file()]


def _settings_problems(config: NightlyConfig, folder: Path) -> list[str]:
    """What is wrong with the profiles and the groups of settings."""
    found = []
    for name, target in config.targets.items():
        try:
            targets.load(_profile(target, folder))
        except SlimError as error:
            found.append(f"targets.{name}: {error.fact}")
    for name, settings in config.settings.items():
        try:
            merged("model", "data", {"target": "host", "settings": settings})
        except SlimError as error:
            found += [f"settings.{name}.{problem}" for problem in error.culprits or [error.fact]]
    return found
