"""The ``doctor`` command: what this machine is, and whether it can run bundles, or one bundle in particular."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass

from yolo_slim.backends import BACKENDS, RuntimeFacts, backend
from yolo_slim.bundle import Bundle
from yolo_slim.errors import SlimError
from yolo_slim.machine import THROTTLE_BITS, MachineFacts, MachineState, describe_machine, read_state
from yolo_slim.runtime import tuned
from yolo_slim.runtime.machine_check import Comparison, compare_with_machine
from yolo_slim.system_libraries import explain_import, import_problem

_LABEL_WIDTH = 12
_VERDICTS = {True: "ok", False: "NOT MET", None: "unknown"}

Line = tuple[str, str]
"""Label and text."""


@dataclass(frozen=True, kw_only=True)
class RuntimeReport:
    """Whether a runtime imports here."""

    versions: dict[str, str]
    """Package to version; empty: it doesn't import."""
    problem: str
    """Why not."""


@dataclass(frozen=True, kw_only=True)
class GpuReport:
    """The GPU that TensorRT would use."""

    facts: dict[str, str | None]
    """Its name, compute capability, CUDA and Jetson Linux; empty: none can be used."""
    problem: str
    """Why not."""


@dataclass(frozen=True, kw_only=True)
class BundleReport:
    """Whether one bundle runs here, and whether this machine is what its target's profile asks for."""

    name: str
    target: str
    runtime: str
    precision: str
    imgsz: tuple[int, int]
    threads: int
    tuned: str
    """Threads and options that ``tune`` found on this machine, ``no``, or why they aren't used."""
    notes: tuple[str, ...]
    """What a person should know."""
    requirements: tuple[Comparison, ...]
    """Everything that the bundle requires, compared with this machine."""
    provider: str | None
    """What computed; None: it doesn't run."""
    problem: str
    """Why it doesn't run."""

    @property
    def runs(self) -> bool:
        """Whether the model was loaded and detected one frame."""
        return self.provider is not None

    @property
    def is_healthy(self) -> bool:
        """Whether it runs and no requirement is surely unmet."""
        return self.runs and all(item.is_met is not False for item in self.requirements)

    def to_json(self) -> dict[str, object]:
        """The bundle's part of the answer; ``provider`` only where it runs."""
        value = {**asdict(self), "requirements": [item.to_json() for item in self.requirements], "runs": self.runs}
        return {key: content for key, content in value.items() if content is not None}


@dataclass(frozen=True, kw_only=True)
class DoctorReport:
    """Everything that the doctor found."""

    machine: MachineFacts
    state: MachineState
    runtimes: dict[str, RuntimeReport]
    opencv: SlimError | None
    """What keeps OpenCV from being used; None: nothing."""
    gpu: GpuReport | None
    """None: not a Jetson, and no TensorRT."""
    bundle: BundleReport | None
    """None: no bundle was given."""

    @property
    def is_healthy(self) -> bool:
        """Whether the given bundle runs as required; without a bundle, whether OpenCV and a runtime import."""
        return not self.problems and (self.bundle is None or self.bundle.is_healthy)

    @property
    def problems(self) -> list[SlimError]:
        """What is missing for any bundle, with what to type."""
        found = [] if self.opencv is None else [self.opencv]
        if not any(entry.versions for entry in self.runtimes.values()):
            fact = "None of ONNX Runtime, NCNN, TensorRT and MNN can be imported."
            found.append(
                SlimError(fact, remedy="Install the one that your bundle is for: pip install onnxruntime, or ncnn")
            )
        return found

    def to_json(self) -> dict[str, object]:
        """The answer of ``doctor --json``."""
        value: dict[str, object] = {
            "machine": self.machine,
            "state": asdict(self.state),
            "runtimes": {name: asdict(entry) for name, entry in self.runtimes.items()},
            "problems": [_one_line(str(problem)) for problem in self.problems],
        }
        value |= {} if self.gpu is None else {"gpu": asdict(self.gpu)}
        return value | ({} if self.bundle is None else {"bundle": self.bundle.to_json()})

    def as_text(self) -> str:
        """The report for people, one fact a line."""
        return "\n".join(f"{label:<{_LABEL_WIDTH}} {text}" for label, text in _lines(self))


def examine(bundle: Bundle | None) -> DoctorReport:
    """Look at the machine, its present state, its runtimes and, where one is given, a bundle.

    Whether the bundle runs is not a guess: the model is loaded and detects one grey frame.
    """
    machine = describe_machine()
    runtimes = {name: _runtime(name) for name in BACKENDS}
    has_gpu = "l4t" in machine or bool(runtimes["tensorrt"].versions)
    return DoctorReport(
        machine=machine,
        state=read_state(),
        runtimes=runtimes,
        opencv=import_problem("cv2"),
        gpu=_gpu() if has_gpu else None,
        bundle=None if bundle is None else _examine_bundle(bundle, machine["cores"]),
    )


def _runtime(name: str) -> RuntimeReport:
    try:
        return RuntimeReport(versions=backend(name).versions(), problem="")
    except SlimError as error:
        return RuntimeReport(versions={}, problem=str(error))


def _gpu() -> GpuReport:
    from yolo_slim.backends import tensorrt

    try:
        return GpuReport(facts=asdict(tensorrt.gpu()), problem="")
    except SlimError as error:
        return GpuReport(facts={}, problem=str(error))


def _examine_bundle(bundle: Bundle, cores: int | None) -> BundleReport:
    spec = bundle.spec
    has_fewer = cores is not None and cores < spec.threads
    provider, problem = None, ""
    try:
        provider = _try_out(bundle).provider
    except SlimError as error:
        problem = str(error)
    except ImportError as error:
        # The detector imports OpenCV, and doctor has to answer where that is missing.
        problem = str(explain_import(error) or error)
    return BundleReport(
        name=spec.name,
        target=spec.target,
        runtime=spec.runtime,
        precision=spec.precision,
        imgsz=spec.imgsz,
        threads=spec.threads,
        tuned=str(tuned.load(bundle)),
        notes=(f"built for {spec.threads} threads, this machine has {cores} cores",) if has_fewer else (),
        requirements=compare_with_machine(spec),
        provider=provider,
        problem=problem,
    )


def _try_out(bundle: Bundle) -> RuntimeFacts:
    """Load the model, detect one grey frame and say what ran."""
    import numpy as np

    from yolo_slim.runtime.detector import Detector

    with Detector(bundle) as detector:
        # Some runtimes fail at the first frame only, not when they load the model.
        detector.detect(np.full((*bundle.spec.imgsz, 3), 114, np.uint8))
        return detector.describe()


def _lines(report: DoctorReport) -> Iterator[Line]:
    machine = report.machine
    packages = {"python": machine["python"], "yolo_slim": machine["yolo_slim"]}
    packages |= {"numpy": machine["numpy"] or "missing", "opencv": machine["opencv"] or "unusable"}
    yield "machine", f"{machine['model']} ({machine['arch']}, {machine['cores']} cores)"
    yield "memory", f"{machine['memory_total_mb']} MB, {machine['memory_available_mb']} MB free"
    yield "features", " ".join(machine["cpu_features"]) or "none of those that matter"
    yield "system", machine["system"]
    yield "versions", ", ".join(f"{name} {version}" for name, version in packages.items())
    yield "clocks", _clocks(report.state)
    if "l4t" in machine:
        jetpack, mode = machine["jetpack"] or "unknown", machine["power_mode"] or "unknown"
        yield "jetson", f"Jetson Linux {machine['l4t']}, JetPack {jetpack}, power mode {mode}"
    if report.gpu is not None:
        yield "gpu", _gpu_text(report.gpu)
    for name, entry in report.runtimes.items():
        yield name, next(iter(entry.versions.values()), "") or _one_line(entry.problem)
    yield from _summary(report)
    if report.bundle is not None:
        yield from _bundle_lines(report.bundle)


def _summary(report: DoctorReport) -> Iterator[Line]:
    """What can be used, or what is missing and the line to type."""
    usable = [name for name, entry in report.runtimes.items() if entry.versions]
    usable = ([] if report.opencv else ["opencv"]) + usable
    yield "fine", ", ".join(usable) or "nothing that a bundle needs"
    for problem in report.problems:
        yield "missing", problem.fact
        yield "to do", problem.remedy


def _gpu_text(gpu: GpuReport) -> str:
    facts = gpu.facts
    return f"{facts['device']}, SM {facts['sm']}, CUDA {facts['cuda']}" if facts else _one_line(gpu.problem)


def _clocks(state: MachineState) -> str:
    parts = [f"governor {', '.join(state.governors)}"] if state.governors else []
    parts += [f"{max(state.cpu_mhz):.0f} MHz"] if state.cpu_mhz else []
    parts += [f"{state.celsius:.1f} C"] if state.celsius is not None else []
    parts += [f"GPU {state.gpu_mhz:.0f} MHz"] if state.gpu_mhz is not None else []
    parts += state.throttle_alerts
    if state.throttled is not None:
        now = [name for bit, name in THROTTLE_BITS.items() if state.throttled >> bit & 1]
        parts.append(", ".join(now) or "not throttled")
    return ", ".join(parts) or "unknown on this machine"


def _bundle_lines(bundle: BundleReport) -> Iterator[Line]:
    size = "x".join(str(side) for side in bundle.imgsz)
    yield "bundle", f"{bundle.name}: {bundle.runtime} {bundle.precision} {size}, built for {bundle.target}"
    yield "tuned", bundle.tuned
    yield from (("note", note) for note in bundle.notes)
    yield from (("requires", f"{item}: {_VERDICTS[item.is_met]}") for item in bundle.requirements)
    yield "would run", f"yes, on {bundle.provider}" if bundle.runs else f"no: {_one_line(bundle.problem)}"


def _one_line(text: str) -> str:
    return " ".join(text.splitlines())
