"""``yolo-slim doctor``: what of a workstation is fine, what is missing, and what to type."""

from __future__ import annotations

import importlib.util
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

import click

from yolo_slim.cli.answer import answer, as_yaml
from yolo_slim.cli.group import cli
from yolo_slim.cli.options import as_json
from yolo_slim.errors import SlimError
from yolo_slim.system_libraries import extra_line, import_problem, pip_line

IMPORTED = ("cv2", "onnxruntime", "ncnn")
"""Modules that the doctor imports: quick ones, which need libraries of the system."""
FOUND = ("torch", "torchvision", "ultralytics", "torch_pruning", "onnx", "onnxslim", "pnnx", "wheel", "jinja2")
"""Modules whose import takes seconds, or can't fail where they are installed."""
EXTRAS = {
    "asyncssh": ("ssh", "devices over SSH"),
    "aiohttp": ("camera", "the camera's page"),
    "paho": ("mqtt", "the camera's figures for an MQTT broker"),
    "MNN": ("mnn", "bundles for MNN"),
    "tensorrt_rtx": ("jetson", "every Jetson graph parsed and built ahead of time"),
    "modelopt": ("qat", "quantization-aware training"),
    "ruptures": ("nightly", "the night on which a level changed"),
    "mlflow": ("mlflow", "nights in MLflow"),
}
"""Module to the extra that installs it, and what needs it."""

LEAST_FREE_GB = 2
"""Free space below which the doctor warns."""


@cli.command()
@click.option("--host", help="A device over SSH: a name of `yolo-slim device list`, or [user@]host[:port].")
@as_json
def doctor(host: str | None, as_json: bool) -> None:
    """Say what is fine here, what is missing, and what to type.

    It looks at packages, system libraries, the GPU, the disk and the emulated Pi.

    With --host it looks at a device: what runs bundles there, and what is missing.
    """
    if host:
        _device_doctor(host, as_json=as_json)
        return
    from yolo_slim.machine import describe_machine
    from yolo_slim.workspace.job import versions

    problems, resources = _problems(), _resources()
    # What OpenCV itself says is its version; that of its package says it again.
    facts = {key: value for key, value in {**describe_machine(), **versions()}.items() if key != "opencv-python"}
    texts = [" ".join(str(problem).split()) for problem in problems.values()]
    found = {
        **facts,
        "missing": list(problems),
        "problems": texts,
        "optional": _absent_extras(),
        "resources": resources,
    }
    answer(found, as_json=as_json, text=_text(facts, problems, resources))
    if problems:
        # Packages that aren't there share one remedy; a library has its own.
        remedies = dict.fromkeys(problem.remedy for problem in problems.values())
        raise SlimError(
            "This machine can't prune and build yet.",
            culprits=[f"{module}: {problem.fact}" for module, problem in problems.items()],
            remedy="\n".join(remedies),
            topic="a-package-is-missing",
        )


def _device_doctor(host: str, *, as_json: bool) -> None:
    """Let a device's own doctor speak."""
    from yolo_slim.devices import inventory
    from yolo_slim.devices.ssh.care import examine
    from yolo_slim.progress import Silent

    address = inventory.address_of(host)
    found = examine(address, Silent())
    seen, report = found.seen, found.report
    folder = f"{seen.about['folder']}, {seen.about['free_mb']} MB free"
    lines = [f"{'device':<12} {address.typed}, user {seen.about['user']}", f"{'folder':<12} {folder}", *found.text]
    lines += [f"{'in use':<12} {seen.holder}"] if seen.holder else []
    values = {"about": seen.about, "kept_mb": seen.sizes, "used_by": seen.holder or None, "doctor": report}
    answer(values, as_json=as_json, text="\n".join(lines))
    problems = report.get("problems", [])
    if problems and not seen.environments and address.python is None:
        # Its own Python has spoken: what a run needs is installed into an environment.
        click.echo(
            f"The first run with --host {host} installs what is missing into an environment of its own.", err=True
        )
    elif problems:
        raise SlimError(
            f"{address.name} can't run a bundle.",
            culprits=problems,
            remedy=f"Begin anew: yolo-slim device clean {host} --all",
        )


def _problems() -> dict[str, SlimError]:
    """Module to what keeps it from being used here; empty: nothing."""
    found = {module: _problem(module) for module in (*IMPORTED, *FOUND)}
    return {module: problem for module, problem in found.items() if problem}


def _problem(module: str) -> SlimError | None:
    if importlib.util.find_spec(module) is None:
        return SlimError("not installed.", remedy=f"Install the packages: {extra_line('host')}")
    return import_problem(module) if module in IMPORTED else None


def _absent_extras() -> dict[str, str]:
    """Extra that isn't installed to what needs it."""
    return {extra: use for module, (extra, use) in EXTRAS.items() if importlib.util.find_spec(module) is None}


def _resources() -> dict[str, str]:
    """What a run can do without, or may run out of: a sentence each, with what to type where something helps."""
    return {"GPU": _gpu(), "Disk": _disk(), "Emulated Pi": _emulated()}


def _gpu() -> str:
    """What trains here."""
    from yolo_slim.machine import package_version
    from yolo_slim.prerequisites import nvidia_gpus

    if not (names := nvidia_gpus()):
        return "none from NVIDIA. Training runs on the CPU."
    # Builds without CUDA have that after the + of their version.
    if (package_version("torch") or "").endswith("+cpu"):
        # PyPI's torch has CUDA.
        return f"{', '.join(names)}, but torch is without CUDA: {pip_line('--force-reinstall', 'torch', 'torchvision')}"
    return f"{', '.join(names)}."


def _disk() -> str:
    """The room for results and for temporary files."""
    places = {"here": Path.cwd(), "for temporary files": Path(tempfile.gettempdir())}
    free = {name: shutil.disk_usage(place).free / 1e9 for name, place in places.items()}
    listed = ", ".join(f"{size:.1f} GB free {name}" for name, size in free.items())
    return f"{listed}." + ("" if min(free.values()) > LEAST_FREE_GB else " Free some space before a run.")


def _emulated() -> str:
    """Whether bundles can be tried on the processor of a Raspberry Pi."""
    from yolo_slim.devices.emulated.root import PREPARE, find_root

    try:
        root = find_root()
    except SlimError as error:
        return f"{error.fact} {error.remedy}"
    if root is None:
        return f"not prepared for the packages here: {PREPARE}"
    return f"prepared, with Python {root.facts.python} and QEMU {root.facts.qemu_version}."


def _text(facts: Mapping[str, object], problems: Mapping[str, SlimError], resources: Mapping[str, str]) -> str:
    """The facts that are known, then what is fine and what isn't."""
    fine = [module for module in (*IMPORTED, *FOUND) if module not in problems]
    lines = [as_yaml({key: value for key, value in facts.items() if value not in (None, [])}), ""]
    lines += [f"Fine: {', '.join(fine)}."] if fine else []
    lines += [f"Not installed, only for {use}: {extra_line(extra)}" for extra, use in _absent_extras().items()]
    lines += [f"{name}: {text}" for name, text in resources.items()]
    lines += ["Missing: nothing.", "This machine can prune and build. Try it: yolo-slim run"] if not problems else []
    lines += [f"Missing: {', '.join(problems)}."] if problems else []
    return "\n".join(lines)
