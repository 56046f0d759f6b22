"""A graph built ahead of time with TensorRT-RTX (optional, CPU only): parser and builder are those of the device."""

from __future__ import annotations

import importlib.util
import io
import json
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from yolo_slim.child_process import own_environment
from yolo_slim.errors import SlimError
from yolo_slim.export.preflight.check import Answer, Check
from yolo_slim.system_libraries import extra_line

NAME = "build ahead of time"
RTX_TIMEOUT_S = 300
"""A graph of a small detector takes seconds."""


def build_ahead(onnx: Path, precision: str, timeout_s: float = RTX_TIMEOUT_S) -> Check:
    """Parse and build a graph with TensorRT-RTX."""
    answer = _build(onnx, precision, timeout_s)
    return Check(name=NAME, status=answer.status, detail=answer.detail)


def _build(onnx: Path, precision: str, timeout_s: float) -> Answer:
    if importlib.util.find_spec("tensorrt_rtx") is None:
        return Answer("skipped", f"TensorRT-RTX isn't installed: {extra_line('jetson')}")
    # In a process of its own: a crash there is an answer, and doesn't end this one.
    code = "import sys; from yolo_slim.export.preflight.rtx import print_answer; print_answer(*sys.argv[1:])"
    command = [sys.executable, "-c", code, str(onnx), precision]
    try:
        done = subprocess.run(
            command, env=own_environment(), capture_output=True, text=True, timeout=timeout_s, check=False
        )
    except subprocess.TimeoutExpired:
        return Answer("unproven", f"TensorRT-RTX didn't finish within {timeout_s:g} s")
    return _read_answer(done)


def _read_answer(done: subprocess.CompletedProcess[str]) -> Answer:
    """What the process printed last, or how it ended."""
    try:
        # Only the last line is ours: TensorRT may print before it.
        return Answer(**json.loads(done.stdout.strip().splitlines()[-1]))
    except (ValueError, IndexError, TypeError):
        # Linux kills the largest process when memory runs out: that says nothing of the graph.
        if done.returncode == -signal.SIGKILL:
            return Answer("unproven", "TensorRT-RTX was killed, perhaps for lack of memory")
        last = (done.stderr.strip().splitlines() or ["it printed nothing"])[-1]
        return Answer("fail", f"TensorRT-RTX ended with status {done.returncode}: {last}")


def print_answer(onnx: str, precision: str) -> None:
    """Build here and print the answer as JSON, the last line of the process's output."""
    print(json.dumps(_build_here(Path(onnx), precision)._asdict()))


def _build_here(onnx: Path, precision: str) -> Answer:
    try:
        import tensorrt_rtx as trt
    except (ImportError, OSError, RuntimeError) as error:
        return Answer("skipped", f"TensorRT-RTX is installed but can't be loaded: {error}")

    from yolo_slim.backends.tensorrt.builder import BuildLog, build_plan
    from yolo_slim.backends.tensorrt.engine import Settings

    log = BuildLog(io.StringIO())
    with tempfile.TemporaryDirectory(prefix="yolo-slim-rtx-") as folder:
        try:
            plan, facts = build_plan(
                trt,
                onnx,
                precision=precision,
                settings=Settings(timing_cache=False),
                log=log,
                cache_file=Path(folder) / "cache",
                on_step=lambda _: None,
            )
        except SlimError as error:
            return Answer("fail", f"TensorRT-RTX: {'; '.join([error.fact, *error.culprits])}")
    return Answer("pass", f"TensorRT-RTX {trt.__version__} built {facts.layers} layers, {len(plan) / 1e6:.1f} MB")
