"""An ONNX file that is given to build, quantize, validate or estimate."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from tests.helpers.cli import run_cli
from tests.helpers.tiny_detector import IMGSZ, NAMES, write_described
from yolo_slim.errors import SlimError
from yolo_slim.models.exported import layout_of, require_same_layout


def test_blank_names_in_an_onnx_file(tmp_path: Path) -> None:
    """A name that no bundle may contain is refused when the file is read; complete names pass (negative control)."""
    assert layout_of(write_described(tmp_path / "good.onnx")).names == NAMES
    with pytest.raises(SlimError, match=r"class 1 has the name ' '\nName every class in the checkpoint"):
        layout_of(write_described(tmp_path / "blank.onnx", names={0: "red", 1: " "}))


@pytest.mark.parametrize(
    ("free", "shown"), [((2, 3), "height x width"), ((3,), "64 x width"), ((2,), "height x 64"), ((0,), None)]
)
def test_input_without_a_fixed_size(free: tuple[int, ...], shown: str | None, signs: Path, tmp_path: Path) -> None:
    """Every command refuses it with how to export; a batch of any size is none of that (negative control)."""
    path = write_described(tmp_path / "dynamic.onnx")
    graph = onnx.load(str(path))
    for place in free:
        graph.graph.input[0].type.tensor_type.shape.dim[place].dim_param = ("batch", "", "height", "width")[place]
    onnx.save(graph, str(path))
    if shown is None:
        assert layout_of(path).imgsz == IMGSZ
        return
    given = ("--data", str(signs), "--out", str(tmp_path / "out"))
    for words in (("estimate", "--target", "rpi5"), ("quantize", *given), ("build", *given, "--target", "host")):
        code, out, err = run_cli(words[0], str(path), *words[1:])
        assert (code, out) == (2, "")
        assert err.splitlines() == [
            f"error: {path}: its input has no fixed height and width ({shown}).",
            "Export it with a fixed imgsz, without dynamic=True: `yolo-slim export` does.",
        ]


def test_graph_without_an_input(tmp_path: Path) -> None:
    """Weights may be listed among the inputs, as old exporters did; where nothing else is, that is said."""
    path = write_described(tmp_path / "constant.onnx")
    graph = onnx.load(str(path))
    image = graph.graph.input[0]
    del graph.graph.input[:]
    graph.graph.input.append(onnx.helper.make_tensor_value_info("bias", onnx.TensorProto.FLOAT, [2]))
    onnx.save(graph, str(path))
    with pytest.raises(SlimError, match=r"no fixed height and width \(none\)"):
        layout_of(path)
    graph.graph.input.append(image)
    onnx.save(graph, str(path))
    assert layout_of(path).imgsz == IMGSZ


def test_graphs_of_another_export(tmp_path: Path) -> None:
    """Each graph that wasn't made from the exported one is named with what it is; one that was passes (control)."""
    own = write_described(tmp_path / "model.onnx")
    graphs = {
        "int8": write_described(tmp_path / "int8.onnx"),
        "fp16": write_described(tmp_path / "fp16.onnx", imgsz=(128, 128)),
        "other": write_described(tmp_path / "other.onnx", names={0: "red", 1: "green"}),
    }
    require_same_layout(own, {"int8": graphs["int8"]})
    with pytest.raises(
        SlimError, match=r"Some graphs weren't made from .*model.onnx \(64x64, classes red, blue\)"
    ) as error:
        require_same_layout(own, graphs)
    assert error.value.culprits == (
        f"{graphs['fp16']} (fp16): 128x128, classes red, blue", f"{graphs['other']} (other): 64x64, classes red, green",
    )  # fmt: skip
