"""The device's command line from bundle to detections, on fake SDKs of every version."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import helper

from yolo_slim.bundle import read_spec, write_bundle_json

Cli = Callable[..., Any]
VERSIONS = ("8.6.1", "10.3.0", "10.16.1", "11.4.0")


def assert_refused(done: Any, *parts: str) -> None:
    """Assert exit code 2 and one message with these parts."""
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr
    for part in parts:
        assert part in done.stderr, done.stderr


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_build_check_bench(make_bundle: Callable[..., Path], device: Cli, version: str, precision: str) -> None:
    """A bundle builds, passes its self-check and is timed on every TensorRT."""
    bundle = make_bundle(precision)
    built = device("build", bundle, FAKE_TENSORRT=version)
    assert built.returncode == 0, built.stderr
    assert f"{precision}, TensorRT {version}, Orin (SM 8.7), timing cache new" in built.stdout
    checked = device("check", bundle, FAKE_TENSORRT=version)
    assert "self-check passed" in checked.stdout, checked.stdout + checked.stderr
    timed = device("bench", bundle, "--seconds", "0.01", "--queries", "4", "--json", "-", FAKE_TENSORRT=version)
    runtime = json.loads(timed.stdout)["runtime"]
    assert (runtime["tensorrt"], runtime["precision"], runtime["provider"]) == (version, precision, "Orin")
    assert runtime["gpu_ms"]["frames"] >= 14
    assert runtime["gpu_ms"]["median"] == 1.25
    assert (runtime["cuda_graph"], "libcuda" in runtime["cuda_graph_reason"]) == (False, True)


def test_two_engines_are_timed_in_turns(make_bundle: Callable[..., Path], device: Cli, tmp_path: Path) -> None:
    """As for a latency table: two engines of bare bundles are open at once, and loaded again every third round."""
    first = make_bundle()
    shutil.rmtree(first / "selfcheck")
    second = tmp_path / "second"
    shutil.copytree(first, second)
    for bundle in (first, second):
        spec = read_spec(bundle)
        write_bundle_json(bundle, replace(spec, files={}))
        assert device("build", bundle).returncode == 0
    done = device(
        "pair", first, second, "--images", tmp_path / "scene.png", "--rounds", 7, "--frames", 1, "--json", "-"
    )
    assert done.returncode in (0, 1), done.stderr
    rounds = json.loads(done.stdout)["round_ms"]
    assert [len(rounds[name]) for name in ("control", "cut")] == [7, 7]


def test_engine_is_the_plan_alone(make_bundle: Callable[..., Path], device: Cli) -> None:
    """The engine file starts with TensorRT's own bytes; sidecar and log lie beside it, and the bundle stays valid."""
    bundle = make_bundle()
    device("build", bundle)
    assert (bundle / "engine/model.engine").read_bytes().startswith(b"FAKEPLAN")
    assert sorted(path.name for path in (bundle / "engine").iterdir()) == [
        "build.log",
        "model.engine",
        "model.engine.json",
    ]
    sidecar = json.loads((bundle / "engine/model.engine.json").read_text())
    facts = {"tensorrt": "10.3.0", "device": "Orin", "sm": "8.7", "cuda": "12.6", "precision": "fp16"}
    assert facts.items() <= sidecar["built_for"].items()
    assert (sidecar["network_flags"], sidecar["builder_flags"]) == (["STRONGLY_TYPED"], [])
    assert "Engine generation completed" in (bundle / "engine/build.log").read_text()


def test_no_engine_yet(make_bundle: Callable[..., Path], device: Cli) -> None:
    """Running before building says which command builds."""
    assert_refused(
        device("check", make_bundle()), "no engine for this machine yet", "python -m yolo_slim.runtime build"
    )


@pytest.mark.parametrize(
    ("variable", "value", "difference"),
    [
        ("FAKE_TENSORRT", "10.16.1", "tensorrt: 10.3.0 in the engine, 10.16.1 here"),
        ("FAKE_GPU", "NVIDIA Thor", "device: Orin in the engine, NVIDIA Thor here"),
    ],
)
def test_engine_of_another_device(
    make_bundle: Callable[..., Path], device: Cli, variable: str, value: str, difference: str
) -> None:
    """Another GPU or TensorRT refuses the engine with the fields that differ, and build makes a new one."""
    bundle = make_bundle()
    device("build", bundle)
    assert device("check", bundle).returncode == 0
    assert_refused(device("check", bundle, **{variable: value}), difference, "runtime build")
    assert "built in" in device("build", bundle, **{variable: value}).stdout
    assert device("check", bundle, **{variable: value}).returncode == 0


def test_truncated_engine(make_bundle: Callable[..., Path], device: Cli) -> None:
    """An engine cut off anywhere is refused by its hash and size, and build replaces it."""
    bundle = make_bundle()
    device("build", bundle)
    engine = bundle / "engine/model.engine"
    content = engine.read_bytes()
    engine.write_bytes(content[:-7])
    assert_refused(
        device("check", bundle), f"{len(content) - 7} bytes, {len(content)} when built", "engine_sha256 differs"
    )
    assert "built in" in device("build", bundle).stdout
    assert engine.read_bytes() == content


def test_current_engine_is_kept(make_bundle: Callable[..., Path], device: Cli) -> None:
    """An engine that is up to date stays; --force builds again and finds its kernel times in the cache."""
    bundle = make_bundle()
    assert "timing cache new" in device("build", bundle).stdout
    assert "the engine is up to date" in device("build", bundle).stdout
    assert "timing cache reused" in device("build", bundle, "--force").stdout


@pytest.mark.parametrize("version", VERSIONS)
def test_unsupported_op_is_named(
    make_bundle: Callable[..., Path], device: Cli, graphs: dict[str, Path], tmp_path: Path, version: str
) -> None:
    """A node that the parser doesn't know is named where TensorRT gives its name, else by its number."""
    bundle = make_bundle("fp32")
    model = onnx.load(graphs["fp32"])
    model.graph.node.append(helper.make_node("Magic", ["output0"], ["more"], name="/model.22/Magic", domain="acme"))
    onnx.save(model, bundle / "model.onnx")
    (bundle / "bundle.json").write_text(_with_hash(bundle))
    named = "node 5: Plugin" if version == "8.6.1" else "node 5 /model.22/Magic (Magic): Plugin"
    assert_refused(device("build", bundle, FAKE_TENSORRT=version), f"TensorRT {version} can't read model.onnx", named)


def _with_hash(bundle: Path) -> str:
    """Return bundle.json with the present hash of the model."""
    from yolo_slim.files import sha256

    value = json.loads((bundle / "bundle.json").read_text())
    path = bundle / "model.onnx"
    value["files"]["model.onnx"] = {"sha256": sha256(path), "size_bytes": path.stat().st_size}
    return json.dumps(value)


def test_out_of_memory_while_building(make_bundle: Callable[..., Path], device: Cli) -> None:
    """Memory that runs out names the workspace and what to lower; the log stays and there is no engine."""
    bundle = make_bundle(workspace_mb=512)
    assert_refused(
        device("build", bundle, FAKE_FAIL="build-oom"),
        "ran out of memory while building model.onnx (workspace 512 MB",
        "lower tensorrt.workspace_mb",
    )
    assert [path.name for path in (bundle / "engine").iterdir()] == ["build.log"]
    assert_refused(device("build", bundle, FAKE_FAIL="build"), "built no engine", "/model.22/Conv")


def test_out_of_memory_while_running(make_bundle: Callable[..., Path], device: Cli) -> None:
    """GPU memory that runs out while loading is explained, not a traceback."""
    bundle = make_bundle()
    device("build", bundle)
    assert_refused(device("check", bundle, FAKE_CUDA="oom"), "too little memory to run tiny", "workspace_mb")


@pytest.mark.parametrize("how", ["no-gpu", "no-devices"])
def test_tensorrt_without_gpu(make_bundle: Callable[..., Path], device: Cli, how: str) -> None:
    """TensorRT on a machine without a usable GPU says so, for build, check and doctor."""
    bundle = make_bundle()
    for command in ("build", "check"):
        assert_refused(device(command, bundle, FAKE_CUDA=how), "TensorRT needs an NVIDIA GPU", "--runtime nvidia")
    report = device("doctor", bundle, FAKE_CUDA=how)
    assert report.returncode == 1
    assert "gpu          TensorRT needs an NVIDIA GPU" in report.stdout


def test_doctor(make_bundle: Callable[..., Path], device: Cli) -> None:
    """Doctor names TensorRT and the GPU, and whether the bundle would run."""
    bundle = make_bundle()
    device("build", bundle)
    report = device("doctor", bundle)
    assert report.returncode == 0, report.stdout
    assert "gpu          Orin, SM 8.7, CUDA 12.6" in report.stdout
    assert report.stdout.splitlines()[-1].split() == ["would", "run", "yes,", "on", "Orin"]


def test_dla(make_bundle: Callable[..., Path], device: Cli) -> None:
    """A DLA is refused on a chip without one, and used with GPU fallback where there is one."""
    bundle = make_bundle(dla_core=0)
    assert_refused(
        device("build", bundle), "DLA core 0 was asked for", "finds 0 here", "Orin Nano and Thor have no DLA"
    )
    done = device("build", bundle, FAKE_DLA_CORES="2")
    assert done.returncode == 0, done.stderr
    sidecar = json.loads((bundle / "engine/model.engine.json").read_text())
    assert sidecar["builder_flags"] == ["FP16", "GPU_FALLBACK"]
    timed = device(
        "bench",
        bundle,
        "--seconds",
        "0.01",
        "--queries",
        "2",
        "--json",
        "-",
        FAKE_DLA_CORES="2",
        FAKE_TENSORRT="10.3.0",
    )
    assert json.loads(timed.stdout)["runtime"]["provider"] == "Orin, DLA core 0 with GPU fallback"


def test_dla_without_fallback(make_bundle: Callable[..., Path], device: Cli) -> None:
    """Where the fallback is off, TensorRT's own reason is shown."""
    bundle = make_bundle(dla_core=0, gpu_fallback=False)
    assert_refused(device("build", bundle, FAKE_DLA_CORES="2"), "GPU fallback is off", "allow gpu_fallback")


def test_other_runtimes_need_no_engine(device: Cli, graphs: dict[str, Path], tmp_path: Path) -> None:
    """Building an onnxruntime bundle says that there is no engine to build."""
    from tests.helpers.tiny_detector import build_bundle

    build_bundle(graphs["fp32"], tmp_path / "plain", "onnxruntime")
    done = device("build", tmp_path / "plain")
    assert (done.returncode, "need no engine" in done.stdout) == (0, True)


@pytest.mark.parametrize("failure", ["builder", "load", "context", "run"])
def test_tensorrt_refuses(make_bundle: Callable[..., Path], device: Cli, failure: str) -> None:
    """Every step at which TensorRT can answer with nothing ends in one message."""
    bundle = make_bundle()
    if failure != "builder":
        device("build", bundle)
    command = "build" if failure == "builder" else "check"
    assert_refused(device(command, bundle, FAKE_FAIL=failure), "TensorRT 10.3.0 can't")


def test_as_on_a_device(make_bundle: Callable[..., Path], tmp_path: Path) -> None:
    """The same commands work in processes of their own, where nothing else was imported before."""
    root = Path(__file__).resolve().parents[3]
    paths = [str(Path(__file__).parent / "fakes"), str(root)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    bundle = make_bundle()
    for command in ("build", "check"):
        arguments = [sys.executable, "-m", "yolo_slim.runtime", command, str(bundle)]
        done = subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=120, check=False)
        assert (done.returncode, done.stderr) == (0, "")
