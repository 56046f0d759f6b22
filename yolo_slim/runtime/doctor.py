"""Whether this machine can run bundles, and one bundle in particular."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from yolo_slim.backends import BACKENDS, backend
from yolo_slim.bundle import Bundle
from yolo_slim.errors import SlimError
from yolo_slim.machine import THROTTLE_BITS, describe_machine, read_state

_LABEL_WIDTH = 12


def examine(bundle: Bundle | None) -> dict[str, Any]:
    """Return the machine, its present state, the runtimes that import, and whether the bundle runs here.

    ``bundle.runs`` is not a guess: the model is loaded and one grey frame is detected.
    """
    report: dict[str, Any] = {
        "machine": describe_machine(),
        "state": asdict(read_state()),
        "runtimes": {name: _runtime(name) for name in BACKENDS},
    }
    if "l4t" in report["machine"] or report["runtimes"]["tensorrt"]["versions"]:
        report["gpu"] = _gpu()
    if bundle is not None:
        report["bundle"] = _examine_bundle(bundle, report["machine"])
    return report


def is_healthy(report: dict[str, Any]) -> bool:
    """Return whether the bundle runs; without a bundle, whether OpenCV and a runtime are there."""
    if "bundle" in report:
        return bool(report["bundle"]["runs"])
    return report["machine"]["opencv"] is not None and any(entry["versions"] for entry in report["runtimes"].values())


def as_text(report: dict[str, Any]) -> str:
    """Return the report for people, one fact a line."""
    return "\n".join(f"{label:<{_LABEL_WIDTH}} {text}" for label, text in _lines(report))


def _runtime(name: str) -> dict[str, Any]:
    try:
        return {"versions": backend(name).versions(), "problem": ""}
    except SlimError as error:
        return {"versions": {}, "problem": str(error)}


def _gpu() -> dict[str, Any]:
    """Return the GPU that TensorRT would use, or why none can be used."""
    from yolo_slim.backends import tensorrt

    try:
        return {"facts": tensorrt.gpu(), "problem": ""}
    except SlimError as error:
        return {"facts": {}, "problem": str(error)}


def _examine_bundle(bundle: Bundle, machine: dict[str, Any]) -> dict[str, Any]:
    spec = bundle.spec
    report = {key: getattr(spec, key) for key in ("name", "target", "runtime", "precision", "imgsz", "threads")}
    cores = machine["cores"] or spec.threads
    notes = [f"built for {spec.threads} threads, this machine has {cores} cores"] if spec.threads > cores else []
    try:
        runtime = _try_out(bundle)
    except (SlimError, ImportError) as error:
        return {**report, "notes": notes, "runs": False, "problem": str(error)}
    return {**report, "notes": notes, "runs": True, "problem": "", "provider": runtime["provider"]}


def _try_out(bundle: Bundle) -> dict[str, Any]:
    """Load the model, detect one grey frame and return what ran."""
    import numpy as np

    from yolo_slim.runtime.detector import Detector

    with Detector(bundle) as detector:
        detector.detect(np.full((*bundle.spec.imgsz, 3), 114, np.uint8))
        return detector.describe()


def _lines(report: dict[str, Any]) -> list[tuple[str, str]]:
    machine = report["machine"]
    versions = ", ".join(f"{name} {machine[name] or 'missing'}" for name in ("python", "yolo_slim", "numpy", "opencv"))
    lines = [
        ("machine", f"{machine['model']} ({machine['arch']}, {machine['cores']} cores)"),
        ("memory", f"{machine['memory_total_mb']} MB, {machine['memory_available_mb']} MB free"),
        ("features", " ".join(machine["cpu_features"]) or "none of those that matter"),
        ("system", machine["system"]),
        ("versions", versions),
        ("clocks", _clocks(report["state"])),
    ]
    lines += _jetson_lines(machine, report.get("gpu"))
    lines += [(name, _runtime_line(name, entry)) for name, entry in report["runtimes"].items()]
    return lines + (_bundle_lines(report["bundle"]) if "bundle" in report else [])


def _jetson_lines(machine: dict[str, Any], gpu: dict[str, Any] | None) -> list[tuple[str, str]]:
    """Return what only a machine with TensorRT has: Jetson Linux, JetPack, power mode and the GPU."""
    lines = []
    if "l4t" in machine:
        jetpack, mode = machine["jetpack"] or "unknown", machine["power_mode"] or "unknown"
        lines.append(("jetson", f"Jetson Linux {machine['l4t']}, JetPack {jetpack}, power mode {mode}"))
    if gpu is not None:
        facts = gpu["facts"]
        found = f"{facts['device']}, SM {facts['sm']}, CUDA {facts['cuda']}" if facts else ""
        lines.append(("gpu", found or " ".join(gpu["problem"].splitlines())))
    return lines


def _clocks(state: dict[str, Any]) -> str:
    parts = [f"governor {', '.join(state['governors'])}"] if state["governors"] else []
    parts += [f"{max(state['cpu_mhz']):.0f} MHz"] if state["cpu_mhz"] else []
    parts += [f"{state['celsius']:.1f} C"] if state["celsius"] is not None else []
    parts += [f"GPU {state['gpu_mhz']:.0f} MHz"] if state["gpu_mhz"] is not None else []
    parts += list(state["throttle_alerts"])
    if state["throttled"] is not None:
        now = [name for bit, name in THROTTLE_BITS.items() if state["throttled"] >> bit & 1]
        parts.append(", ".join(now) or "not throttled")
    return ", ".join(parts) or "this machine doesn't tell"


def _runtime_line(name: str, entry: dict[str, Any]) -> str:
    return str(entry["versions"][name]) if entry["versions"] else " ".join(entry["problem"].splitlines())


def _bundle_lines(bundle: dict[str, Any]) -> list[tuple[str, str]]:
    size = "x".join(str(side) for side in bundle["imgsz"])
    what = f"{bundle['name']}: {bundle['runtime']} {bundle['precision']} {size}, built for {bundle['target']}"
    verdict = f"yes, on {bundle['provider']}" if bundle["runs"] else f"no: {' '.join(bundle['problem'].splitlines())}"
    return [("bundle", what), *(("note", note) for note in bundle["notes"]), ("would run", verdict)]
