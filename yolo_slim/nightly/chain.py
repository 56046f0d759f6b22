"""The bundles of one plan: its chain is run, and finished stages are used again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from yolo_slim import pipeline
from yolo_slim.build_key import SLIM, BuildName
from yolo_slim.bundle import BUNDLE_JSON, read_spec
from yolo_slim.config.run import RunConfig
from yolo_slim.errors import SlimError
from yolo_slim.files import fitted_name, flat, sha256, sha256_json
from yolo_slim.history.moved import PROFILE
from yolo_slim.history.rows import Digests
from yolo_slim.nightly.matrix import Plan
from yolo_slim.progress import Progress
from yolo_slim.quantization.files import CALIBRATION_FILE
from yolo_slim.verdict.result import Result
from yolo_slim.workspace.job import content, require_manifest

NOT_SETTINGS = ("model", "data", "target")
"""Keys of a run's configuration that the matrix names otherwise."""


@dataclass(frozen=True, kw_only=True)
class Chain:
    """What the chain of one plan made."""

    plan: Plan
    folder: Path
    result: Result
    skipped: Mapping[str, str]
    """Builds that weren't possible, with the reason."""
    data: str
    """Digest of the data set."""

    def bundle(self, build: BuildName) -> Path:
        """The slim bundle of one build.

        Raises:
            SlimError: that build wasn't possible.
        """
        if why := self.skipped.get(str(build)):
            raise SlimError(f"{build} was not built: {why}", remedy="Leave that build out with `only`.")
        return self.folder / "build" / SLIM / str(build)

    def digests(self, build: BuildName) -> Digests:
        """Identify what the chain read, and one of its bundles."""
        bundle = self.bundle(build)
        spec = read_spec(bundle)
        calibration = self.folder / "quantize" / "control" / CALIBRATION_FILE
        is_calibrated = build.precision == "int8" and calibration.is_file()
        return Digests(
            weights=content(Path(self.plan.config.model)),
            data=self.data,
            bundle=sha256(bundle / BUNDLE_JSON),
            network=sha256_json({name: spec.files[name]["sha256"] for name in spec.model.values()}),
            calibration=sha256(calibration) if is_calibrated else None,
        )

    @property
    def settings(self) -> dict[str, str]:
        """All settings as flat text, with the profile's name and content."""
        config = self.plan.config.model_dump(by_alias=True, exclude=set(NOT_SETTINGS))
        profile = self.plan.profile
        own = {PROFILE: profile.name, f"{PROFILE}.sha256": sha256_json(profile.model_dump())}
        return {key: str(value) for key, value in flat(config).items()} | own


def make(plan: Plan, project: Path, *, data: str, command: str, progress: Progress) -> Chain:
    """Run the chain of a plan; what is up to date is skipped.

    Raises:
        SlimError: anything wrong with its inputs.
    """
    outcome = pipeline.run(_config(plan), project=project, name=_name(plan), command=command, progress=progress)
    facts = require_manifest(outcome.folder / "build" / SLIM, "build").facts
    return Chain(
        plan=plan, folder=outcome.folder, result=Result.load(outcome.result), skipped=facts["skipped"], data=data
    )


def needs_device(plan: Plan) -> bool:
    """Whether the device answers before the cells are measured: a cut to milliseconds is timed on it."""
    return plan.host is not None and plan.config.prune.frame_ms is not None


def _config(plan: Plan) -> RunConfig:
    """The chain's settings: without a cut to milliseconds it needs no device."""
    if not needs_device(plan):
        return plan.config
    return plan.config.model_copy(update={"device": plan.device})


def _name(plan: Plan) -> str:
    """Folder of the chain; other weights or another place of the data get another one, as runs want it."""
    config = plan.config
    identity = [content(Path(config.model)), str(Path(config.data).resolve()), plan.profile.name]
    words = "-".join((plan.model, plan.data, plan.settings, plan.target))
    return fitted_name(words, after=f"-{sha256_json(identity)[:8]}")
