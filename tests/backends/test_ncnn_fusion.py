"""Hardswish becomes part of NCNN's convolutions, with equal outputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from yolo_slim.backends import backend
from yolo_slim.backends.ncnn.fusion import fuse_hardswish

PARAM = """7767517
8 9
Input                    in0                      0 1 in0
Convolution              conv_0                   1 1 in0 1 0=16 1=3 5=1 6=432
HardSwish                hswish_0                 1 1 1 2 0=0.166666672 1=0.5
Split                    splitncnn_0              1 2 2 3 4
ConvolutionDepthWise     convdw_1                 1 1 3 5 0=16 1=3 5=1 6=144 7=16
HardSwish                hswish_1                 1 1 5 6
HardSwish                hswish_2                 1 1 4 7
BinaryOp                 add_0                    2 1 6 7 out0 0=0
"""
FUSED = """7767517
6 7
Input                    in0                      0 1 in0
Convolution              conv_0                   1 1 in0 2 0=16 1=3 5=1 6=432 9=6 -23310=2,0.166666672,0.5
Split                    splitncnn_0              1 2 2 3 4
ConvolutionDepthWise     convdw_1                 1 1 3 6 0=16 1=3 5=1 6=144 7=16 9=6 -23310=2,0.2,0.5
HardSwish                hswish_2                 1 1 4 7
BinaryOp                 add_0                    2 1 6 7 out0 0=0
"""


def test_text() -> None:
    """Hardswish behind a convolution disappears into it, one behind another layer stays, and the counts are right."""
    assert fuse_hardswish(PARAM) == FUSED


@pytest.mark.parametrize("text", [FUSED, PARAM.replace("6=432", "6=432 9=1").replace("6=144", "6=144 9=1")])
def test_nothing_to_fuse(text: str) -> None:
    """A file without such a Hardswish comes back as it is, also where the convolution has an activation already."""
    assert fuse_hardswish(text) == text


class Small(nn.Module):
    """Two convolutions, one of them depth-wise, with Hardswish, and one Hardswish behind an addition."""

    def __init__(self) -> None:
        """Make the layers with equal weights every time."""
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.act = nn.Hardswish()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Give a matrix, as detectors do."""
        wide = self.act(self.first(images))
        return self.act(wide + self.act(self.second(wide))).flatten(2)


def output(folder: Path, built: Any, blob: Any) -> np.ndarray:
    """Run the files in a folder."""
    return np.array(backend("ncnn").open(folder, built, 1).infer(blob))


def test_equal_outputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fused network's outputs equal the unfused one's to the last bit, and PyTorch's nearly."""
    blob = np.random.default_rng(0).random((1, 3, 32, 32), np.float32)
    model, onnx = Small().eval(), tmp_path / "model.onnx"
    torch.onnx.export(model, (torch.from_numpy(blob),), str(onnx), opset_version=17, dynamo=False)
    outputs, texts = [], []
    for name in ("fused", "unfused"):
        folder = tmp_path / name
        folder.mkdir()
        built = backend("ncnn").build(onnx, folder, precision="fp16", imgsz=(32, 32))
        texts.append((folder / built.model["param"]).read_text())
        outputs.append(output(folder, built, blob))
        monkeypatch.setattr("yolo_slim.backends.ncnn.fuse_hardswish", lambda text: text)
    assert [text.count("HardSwish") for text in texts] == [1, 3]
    assert np.array_equal(*outputs)
    with torch.no_grad():
        assert np.abs(outputs[0] - model(torch.from_numpy(blob)).numpy()).max() < 0.05
