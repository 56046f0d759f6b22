"""A result.json value as the validate stage writes it, and example images."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.helpers.timings import MACHINE, make_bench
from yolo_slim.reporting.html import Example


def make_rung(rung: str, label: str, value: float, against: str | None, drop: float | None) -> dict[str, Any]:
    """Return a rung with two classes; only rungs after the pruned one have a budget."""
    budget = None if rung in ("control", "pruned") else 0.01 if rung == "recovered" else 0.003
    status = "info" if budget is None or drop is None else "pass" if drop <= budget else "fail"
    classes = {"head": 0.02, "helmet": 0.06, "person": -0.08}
    return {
        "rung": rung,
        "label": label,
        "map50_95": value,
        "map50": value + 0.2871,
        "against": against,
        "drop": drop,
        "budget": budget,
        "status": status,
        "per_class": {k: {"ap50_95": value + d, "ap50": value + 0.28 + d} for k, d in classes.items()},
        "worst_class": None if against is None else {"name": "person", "drop": 0.0123},
        "where": "this machine",
    }


def make_build(model: str, runtime: str, precision: str, accuracy: float, size_mb: float, ms: float) -> dict[str, Any]:
    """Return a timed build that hasn't won."""
    return {
        "name": f"{model}/{runtime}-{precision}",
        "model": model,
        "runtime": runtime,
        "precision": precision,
        "map50_95": accuracy,
        "map50": accuracy + 0.28,
        "size_mb": size_mb,
        "winner": False,
        "bench": make_bench(ms, round(ms)),
    }


@pytest.fixture
def result() -> dict[str, Any]:
    """Return a complete result that passes."""
    builds = [
        make_build("control", "onnxruntime", "fp32", 0.6123, 10.62, 182.0),
        make_build("slim", "onnxruntime", "fp32", 0.6057, 4.31, 101.0),
        make_build("control", "ncnn", "fp16", 0.6119, 5.34, 121.0),
        make_build("slim", "ncnn", "fp16", 0.6051, 2.18, 64.0),
    ]
    builds[3]["winner"] = True
    widths = [(f"model.{i}.conv", 16 * (1 + i % 8), 8 * (1 + i % 8 + i % 3)) for i in range(36)]
    return {
        "schema": 1,
        "name": "hardhat-yolo11n",
        "measured_at": "2026-01-02T03:04:05+00:00",
        "command": "make yolo-slim MODEL=best.pt DATA=hardhat.yaml TARGET=board",
        "target": {"name": "board", "description": "An invented board", "is_this_machine": True},
        "imgsz": 640,
        "data": {
            "yaml": "hardhat.yaml",
            "split": "test",
            "images": 500,
            "boxes": 2345,
            "names": {"0": "head", "1": "helmet", "2": "person"},
        },
        "verdict": {
            "status": "pass",
            "gates": [
                make_gate("rung:recovered", 0.01, 0.0066, "mAP50-95 drop"),
                make_gate("rung:onnx", 0.003, 0.0001, "mAP50-95 drop"),
                make_gate("min_fps", 10.0, builds[3]["bench"]["fps"], "FPS"),
                make_gate("max_p99_ms", 150.0, builds[3]["bench"]["stages"]["total"]["p99_ms"], "ms"),
                make_gate("max_map50_95_drop", 0.02, 0.0072, "mAP50-95"),
                make_gate("max_size_mb", 50.0, 2.18, "MB"),
            ],
        },
        "size": {
            "control": {"params": 2590425, "macs": 3220000000},
            "slim": {"params": 1012345, "macs": 1598000000},
        },
        "widths": [{"layer": layer, "before": before, "after": min(before, after)} for layer, before, after in widths],
        "ladder": [
            make_rung("control", "PyTorch control", 0.6123, None, None),
            make_rung("pruned", "PyTorch pruned, not trained", 0.2744, "control", 0.3379),
            make_rung("recovered", "PyTorch recovered", 0.6057, "control", 0.0066),
            make_rung("onnx", "ONNX in ONNX Runtime", 0.6056, "recovered", 0.0001),
            make_rung("onnxruntime-fp32", "bundle onnxruntime-fp32", 0.6058, "onnx", -0.0002),
            make_rung("ncnn-fp16", "bundle ncnn-fp16", 0.6051, "onnx", 0.0005),
        ],
        "builds": builds,
        "speedups": [
            {"runtime": "ncnn", "precision": "fp16", "ratio": 1.876, "lowest": 1.8, "highest": 1.95, "rounds": 5}
        ],
        "preflight": {
            "tensorrt-int8": {"checks": [{"name": "parse", "status": "pass", "detail": "parsed by TensorRT-RTX"}]}
        },
        "machine": MACHINE,
        "versions": {"yolo_slim": "0.1.0", "torch": "2.9.0"},
        "notes": [],
    }


def make_gate(name: str, limit: float, value: float | None, unit: str, status: str = "pass") -> dict[str, Any]:
    """Return one gate."""
    reason = {"pass": "", "unproven": "this machine is no board", "fail": "outside the limit"}[status]
    return {"name": name, "limit": limit, "value": value, "unit": unit, "status": status, "reason": reason}


@pytest.fixture
def unproven(result: dict[str, Any]) -> dict[str, Any]:
    """Return a result without timings, the ladder broken off after two rungs."""
    for build in result["builds"]:
        build["bench"], build["winner"] = None, False
    result["builds"][3]["map50_95"] = result["builds"][3]["map50"] = None
    result["speedups"] = []
    result["ladder"] = result["ladder"][:2]
    result["verdict"] = {"status": "unproven", "gates": [make_gate("min_fps", 10.0, None, "FPS", "unproven")]}
    result["notes"] = ["slim/ncnn-int8 was not built: NCNN needs calibration images"]
    return result


@pytest.fixture(scope="session")
def examples() -> list[Example]:
    """Return one small image."""
    image = np.tile(np.linspace(40, 220, 96, dtype=np.uint8)[None, :, None], (64, 1, 3))
    return [Example(file="a.jpg", truth=3, control=image, slim=np.ascontiguousarray(image[:, ::-1]))]
