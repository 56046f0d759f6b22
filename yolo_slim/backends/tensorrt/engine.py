"""The engine beside a bundle's ONNX file: a plain TensorRT plan, and a sidecar that ties it to what it was built from.

An engine runs only on the GPU, the TensorRT and the platform that built it; elsewhere it fails late, or computes
nonsense. So an engine from elsewhere is refused, with the facts that differ, before TensorRT sees it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yolo_slim.backends.tensorrt.sdk import Gpu
from yolo_slim.errors import SlimError, did_you_mean
from yolo_slim.files import JsonObject, read_json, sha256, write_atomic, write_json

if TYPE_CHECKING:
    from yolo_slim.bundle import BundleSpec

FOLDER = "engine"
ENGINE, SIDECAR, LOG = "model.engine", "model.engine.json", "build.log"
SIDECAR_SCHEMA = 1
MAX_OPTIMIZATION_LEVEL = 5
RUNTIME_ONLY = ("cuda_graph",)
"""Settings that an engine doesn't depend on."""
REBUILD = "Build it again on this machine: python -m yolo_slim.runtime build BUNDLE"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How the device builds and runs the engine: ``engine`` of bundle.json."""

    workspace_mb: int = 1024
    """Most scratch memory of a layer while building and running, mebibytes."""
    optimization_level: int = 3
    """0 to 5: how long TensorRT searches for faster kernels."""
    dla_core: int | None = None
    """Deep-learning accelerator to use; None: the GPU."""
    gpu_fallback: bool = True
    """Layers that a DLA can't run go to the GPU; off: they are an error."""
    timing_cache: bool = True
    """Keep measured kernel times for the next build on this machine."""
    cuda_graph: bool = True
    """Launch a frame as one CUDA graph where that works."""

    @classmethod
    def from_json(cls, value: JsonObject) -> Settings:
        """Check and convert; every unknown key and impossible value is named at once."""
        problems = list(_setting_problems(value))
        if problems:
            remedy = "Build the bundle again."
            raise SlimError("The bundle's engine settings aren't valid.", culprits=problems, remedy=remedy)
        return cls(**value)

    def of_engine(self) -> dict[str, object]:
        """The settings that an engine depends on."""
        return {key: value for key, value in asdict(self).items() if key not in RUNTIME_ONLY}


@dataclass(frozen=True, kw_only=True)
class BuildFacts:
    """How TensorRT built an engine."""

    network_flags: list[str]
    """Names of ``NetworkDefinitionCreationFlag`` that were set."""
    builder_flags: list[str]
    """Names of ``BuilderFlag`` that were set."""
    timing_cache: str
    """``off``, ``new``, ``reused``, or why kernel times weren't read or kept."""
    timing_cache_file: str | None
    """Where kernel times are kept on this machine."""
    progress: bool
    """Whether this TensorRT reports its steps."""
    layers: int
    """Layers of the parsed network."""
    seconds: float
    """Duration of the build."""


@dataclass(frozen=True, kw_only=True)
class Sidecar:
    """The file beside an engine that ties it to what it was built from."""

    schema: int
    """Version of this layout."""
    built_for: dict[str, object]
    """Everything that the engine must agree with, see :func:`identity`."""
    engine_sha256: str
    """SHA-256 of the engine."""
    size_bytes: int
    """Size of the engine."""
    facts: BuildFacts
    """How it was built."""

    def to_json(self) -> dict[str, object]:
        """The content of the file: the build's facts stand beside the rest."""
        value = asdict(self)
        return {**value, **value.pop("facts")}

    @classmethod
    def from_json(cls, value: JsonObject) -> Sidecar:
        """The inverse of :meth:`to_json`; a missing key is a :class:`KeyError`."""
        facts = BuildFacts(**{field.name: value[field.name] for field in fields(BuildFacts)})
        names = [field.name for field in fields(cls) if field.name != "facts"]
        return cls(**{name: value[name] for name in names}, facts=facts)


@dataclass(frozen=True, kw_only=True)
class Engine:
    """The answer of building: an engine that was built, or found up to date."""

    sidecar: Sidecar
    """What belongs to the engine."""
    kept: bool
    """It was up to date, so nothing was built."""

    def to_json(self) -> dict[str, object]:
        """The sidecar, and whether the engine was kept."""
        return {**self.sidecar.to_json(), "kept": self.kept}

    def summary(self) -> str:
        """One line for people."""
        built_for, facts = self.sidecar.built_for, self.sidecar.facts
        verb = "the engine is up to date" if self.kept else f"engine built in {facts.seconds:.0f} s"
        return (
            f"{verb}: {self.sidecar.size_bytes / 1e6:.1f} MB, {built_for['precision']}, "
            f"TensorRT {built_for['tensorrt']}, {built_for['device']} (SM {built_for['sm']}), "
            f"timing cache {facts.timing_cache}"
        )


def identity(onnx: Path, spec: BundleSpec, settings: Settings, tensorrt: str, gpu: Gpu) -> dict[str, object]:
    """Everything that an engine must agree with."""
    return {
        "onnx_sha256": sha256(onnx),
        "tensorrt": tensorrt,
        **asdict(gpu),
        "precision": spec.precision,
        **settings.of_engine(),
    }


def save(folder: Path, plan: bytes, wanted: Mapping[str, object], facts: BuildFacts) -> Sidecar:
    """Write engine and sidecar atomically, the sidecar last: an interrupted build leaves no engine that counts."""
    target = folder / FOLDER
    (target / SIDECAR).unlink(missing_ok=True)  # from here on the old engine doesn't count either
    write_atomic(target / ENGINE, lambda path: path.write_bytes(plan))
    sidecar = Sidecar(
        schema=SIDECAR_SCHEMA,
        built_for=dict(wanted),
        engine_sha256=sha256(target / ENGINE),
        size_bytes=len(plan),
        facts=facts,
    )
    write_json(target / SIDECAR, sidecar.to_json())
    return sidecar


def load(folder: Path, wanted: Mapping[str, object]) -> tuple[bytes, Sidecar]:
    """A verified plan and its sidecar.

    Raises:
        SlimError: no engine yet, one of another machine, version, graph or setting, or a damaged one.
    """
    target = folder / FOLDER
    if not (target / ENGINE).is_file() or not (target / SIDECAR).is_file():
        raise SlimError(f"{folder} has no engine for this machine yet.", remedy=REBUILD.replace("again ", ""))
    sidecar = _read_sidecar(target / SIDECAR)
    # Facts before bytes: "another TensorRT" explains more than "SHA-256 differs".
    differing = [
        f"{key}: {sidecar.built_for.get(key)} in the engine, {value} here"
        for key, value in wanted.items()
        if sidecar.built_for.get(key) != value
    ]
    if differing:
        raise SlimError(
            f"{target / ENGINE} was built for something else.",
            culprits=differing,
            remedy=REBUILD,
            topic="the-engine-was-built-for-something-else",
        )
    plan = (target / ENGINE).read_bytes()
    if sha256(target / ENGINE) != sidecar.engine_sha256:
        fact = f"{target / ENGINE} is damaged or cut off: {len(plan)} bytes, {sidecar.size_bytes} when built."
        raise SlimError(fact, culprits=["engine_sha256 differs"], remedy=REBUILD)
    return plan, sidecar


def up_to_date(folder: Path, wanted: Mapping[str, object]) -> Sidecar | None:
    """The sidecar of an engine that :func:`load` accepts, None where it refuses."""
    try:
        return load(folder, wanted)[1]
    except SlimError:
        return None


def _read_sidecar(path: Path) -> Sidecar:
    try:
        sidecar = Sidecar.from_json(read_json(path))
        is_valid = sidecar.schema <= SIDECAR_SCHEMA and isinstance(sidecar.built_for, dict)
    except (ValueError, KeyError, TypeError, AttributeError):
        is_valid = False
    if not is_valid:
        raise SlimError(f"{path} is incomplete or isn't a sidecar of this yolo_slim.", remedy=REBUILD)
    return sidecar


def _setting_problems(value: JsonObject) -> list[str]:
    known = [field.name for field in fields(Settings)]
    problems = [f"engine.{key}: unknown key.{did_you_mean(key, known)}" for key in value if key not in known]
    for key, (is_valid, expected) in _EXPECTED.items():
        if key in value and not is_valid(value[key]):
            problems.append(f"engine.{key}: got {value[key]!r}; expected {expected}")
    return problems


def _is_integer(value: Any, low: int, high: int) -> bool:
    # True is an int in Python.
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


_FLAG = (_is_flag, "true or false")
_EXPECTED: dict[str, tuple[Any, str]] = {
    "workspace_mb": (lambda value: _is_integer(value, 1, 1 << 20), "a positive integer"),
    "optimization_level": (
        lambda value: _is_integer(value, 0, MAX_OPTIMIZATION_LEVEL),
        f"an integer from 0 to {MAX_OPTIMIZATION_LEVEL}",
    ),
    "dla_core": (lambda value: value is None or _is_integer(value, 0, 7), "null or a core number"),
    "gpu_fallback": _FLAG,
    "timing_cache": _FLAG,
    "cuda_graph": _FLAG,
}
