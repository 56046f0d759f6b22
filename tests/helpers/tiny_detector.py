"""A detector of 64 x 64 pixels that needs no training: red cells are class 0, blue cells are class 1."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from yolo_slim.backends import backend
from yolo_slim.bundle import Bundle, BundleSpec, open_bundle, write_bundle_json
from yolo_slim.runtime.detector import Detector
from yolo_slim.runtime.selfcheck import make_selfcheck

IMGSZ = (64, 64)
CELL, BOX = 8, 12
NAMES = {0: "red", 1: "blue"}
PRECISION = {"onnxruntime": "fp32", "ncnn": "fp16", "mnn": "fp16"}


def write_onnx(path: Path) -> Path:
    """Write the graph: average every 8 x 8 cell, score its redness and blueness, append the cell's fixed box."""
    cells = IMGSZ[0] // CELL
    grid = np.arange(cells, dtype=np.float32) * CELL + CELL / 2
    y, x = np.meshgrid(grid, grid, indexing="ij")
    side = np.full(cells * cells, BOX, np.float32)
    boxes = np.stack([x.ravel(), y.ravel(), side, side])[None]
    weights = np.array([[8, -8, -8], [-8, -8, 8]], np.float32).reshape(2, 3, 1, 1)
    constants = {
        "weights": weights,
        "bias": np.array([-4, -4], np.float32),
        "shape": np.array([1, 2, cells * cells], np.int64),
        "boxes": boxes,
    }
    nodes = [
        helper.make_node("AveragePool", ["images"], ["mean"], kernel_shape=[CELL, CELL], strides=[CELL, CELL]),
        helper.make_node("Conv", ["mean", "weights", "bias"], ["logits"], kernel_shape=[1, 1]),
        helper.make_node("Sigmoid", ["logits"], ["scores"]),
        helper.make_node("Reshape", ["scores", "shape"], ["flat"]),
        helper.make_node("Concat", ["boxes", "flat"], ["output0"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, *IMGSZ])],
        [helper.make_tensor_value_info("output0", TensorProto.FLOAT, [1, 6, cells * cells])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def write_described(path: Path, *, names: Mapping[int, str] = NAMES, imgsz: tuple[int, int] = IMGSZ) -> Path:
    """Write the graph with the metadata of an export, which may describe another input or other classes."""
    graph = onnx.load(str(write_onnx(path)))
    metadata = {
        "task": "detect",
        "names": str(names),
        "imgsz": str(list(imgsz)),
        "stride": str(CELL),
        "end2end": "False",
    }
    onnx.helper.set_model_props(graph, metadata)
    onnx.save(graph, str(path))
    return path


def scene(height: int = 64, width: int = 64) -> np.ndarray:
    """Return a black image with a red square at (0, 0) and a blue one in the middle, an eighth of its size each."""
    image = np.zeros((height, width, 3), np.uint8)
    tall, wide = height // 8, width // 8
    image[:tall, :wide] = (0, 0, 255)
    image[4 * tall : 5 * tall, 4 * wide : 5 * wide] = (255, 0, 0)
    return image


def save_scene(path: Path) -> Path:
    """Write a scene in a folder that needn't exist."""
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), scene())
    return path


def build_bundle(onnx_path: Path, folder: Path, runtime: str) -> Bundle:
    """Write a whole bundle with a self-check of two images into ``folder``."""
    folder.mkdir(parents=True)
    built = backend(runtime).build(onnx_path, folder, precision=PRECISION[runtime], imgsz=IMGSZ)
    spec = BundleSpec(
        name="tiny",
        target="host",
        runtime=runtime,
        precision=PRECISION[runtime],
        imgsz=IMGSZ,
        stride=CELL,
        names=NAMES,
        layout="one2many",
        threads=1,
        model=built.model,
        input_name=built.input_name,
        output_name=built.output_name,
        files={},
        provenance={"weights": "made by hand"},
    )
    write_bundle_json(folder, spec)
    images = [folder.parent / f"{folder.name}-{size}.png" for size in (64, 128)]
    for path, size in zip(images, (64, 128), strict=True):
        cv2.imwrite(str(path), scene(size, size))
    with Detector(folder) as detector:
        make_selfcheck(folder, images, detector)
    write_bundle_json(folder, spec)
    return open_bundle(folder)
