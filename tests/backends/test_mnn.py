"""What only MNN has: int8 weights, a converter, and a library that prints."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from tests.helpers.tiny_detector import IMGSZ, build_bundle, scene
from yolo_slim.backends import backend
from yolo_slim.bundle import Bundle
from yolo_slim.errors import SlimError
from yolo_slim.export.builds import expected_builds, graph_of
from yolo_slim.runtime.letterbox import letterbox
from yolo_slim.runtime.paired import pair_bundles

pytest.importorskip("MNN", reason="MNN isn't installed (extra mnn)")


@pytest.fixture(scope="module")
def bundle(tiny_onnx: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Return an fp16 bundle; don't change it."""
    return build_bundle(tiny_onnx, tmp_path_factory.mktemp("mnn") / "bundle", "mnn")


def test_int8_weights_come_from_the_float_graph(tiny_onnx: Path, tmp_path: Path, bundle: Bundle) -> None:
    """Its converter scales the weights itself: no quantized graph is needed, and scores stay close."""
    built = backend("mnn").build(tiny_onnx, tmp_path, precision="int8", imgsz=IMGSZ)
    spec = replace(bundle.spec, precision="int8", model=built.model)
    session = backend("mnn").open(tmp_path, spec, 1)
    blob, _ = letterbox(scene(), IMGSZ)
    expected = onnxruntime.InferenceSession(str(tiny_onnx)).run(None, {"images": blob})[0]
    np.testing.assert_allclose(session.infer(blob), expected, rtol=0, atol=0.05)
    assert session.describe().precision == "int8"


def test_networks_are_timed_for_its_latency_table(bundle: Bundle) -> None:
    """It times no single layer, so its table is of whole networks: two of its sessions are open at once."""
    from yolo_slim.build_key import BuildName
    from yolo_slim.measuring.layer_graphs import times_layers, why_no_table

    found = pair_bundles(bundle, bundle, [scene()], rounds=4, frames=1)
    assert len(found.before) == len(found.after) == 4
    assert min(found.before) > 0
    fp16, int8 = BuildName("mnn", "fp16"), BuildName("mnn", "int8")
    assert not times_layers(fp16)
    assert [bool(why_no_table(build)) for build in (fp16, int8)] == [False, True]


def test_its_builds_are_like_ncnns() -> None:
    """Both start from the float graph, and an end2end graph rules both out."""
    from yolo_slim.build_key import BuildName
    from yolo_slim.config import targets
    from yolo_slim.config.profile import RuntimeChoice

    mnn = RuntimeChoice(runtime="mnn", precisions=["fp16", "int8"])
    profile = targets.load("rpi5").model_copy(update={"runtimes": [mnn]})
    names = [BuildName("mnn", "fp16"), BuildName("mnn", "int8")]
    assert expected_builds(profile, "one2many").possible == names
    assert list(expected_builds(profile, "end2end").skipped) == names
    assert {graph_of(name) for name in names} == {"fp32"}


def test_no_target_names_it() -> None:
    """It was slower than NCNN where both were measured; whoever wants it writes a profile."""
    from yolo_slim.config import targets

    assert "mnn" not in {choice.runtime for name in targets.names() for choice in targets.load(name).runtimes}


def test_it_prints_nothing(bundle: Bundle) -> None:
    """MNN tells about the processor on standard output, where a command's JSON may go; it is kept away from there."""
    code = (
        "import sys; from yolo_slim.runtime.detector import Detector; import numpy as np\n"
        "print('before'); Detector(sys.argv[1]).detect(np.zeros((64, 64, 3), np.uint8)); print('after')"
    )
    done = subprocess.run([sys.executable, "-c", code, str(bundle.folder)], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("before\nafter\n", "")


@pytest.mark.parametrize("names", [("images", "output0"), ("images", "elsewhere")])
def test_a_model_that_does_not_load(names: tuple[str, str], bundle: Bundle, tmp_path: Path) -> None:
    """A cut file and a wrong tensor are one message, not MNN's SystemError."""
    content = (bundle.folder / "model.mnn").read_bytes()
    (tmp_path / "model.mnn").write_bytes(content if names[1] == "elsewhere" else content[: len(content) // 3])
    spec = replace(bundle.spec, input_name=names[0], output_name=names[1])
    with pytest.raises(SlimError, match=r"can't load model\.mnn"):
        backend("mnn").open(tmp_path, spec, 1)
