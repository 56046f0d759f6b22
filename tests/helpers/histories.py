"""Generated histories of nights: noise, a slow device, planted regressions, new commits and SDKs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from itertools import product
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from yolo_slim.history.rows import (
    Accuracy,
    Cell,
    Compared,
    Digests,
    Judgement,
    Measurement,
    Night,
    Run,
    Source,
    Speed,
)
from yolo_slim.history.store import MATCHES, RESULT, History, packed
from yolo_slim.measuring.matches import Matches
from yolo_slim.measuring.truth import Truth
from yolo_slim.runtime.decode import Detections
from yolo_slim.verdict.result import ClassAccuracy

NAMES = {0: "person", 1: "helmet", 2: "vest", 3: "<b>cone</b>"}
TARGETS = ("rpi5", "rpi4", "jetson-orin-nano", "workstation", "ssh-lab")
BUILDS = ("onnxruntime-fp32", "onnxruntime-int8", "ncnn-fp16", "tensorrt-fp16")
BEGAN = datetime(2026, 1, 1, 2, 0, tzinfo=timezone.utc)


@dataclass(frozen=True)
class Planted:
    """A change of some cells from a night on."""

    night: int
    latency: float = 0.0
    """Fraction."""
    map50_95: float = 0.0
    cells: Callable[[Cell], bool] = lambda _: True


def cells(count: int) -> list[Cell]:
    """Different cells: up to twenty of one model."""
    found = [
        Cell(model=model, data="hardhat", settings="half", target=target, build=build)
        for model, target, build in product(("yolo11n", "yolo26n", "yolov8n"), TARGETS, BUILDS)
    ]
    return found[:count]


def write_history(
    path: Path, *, nights: int, cells: Sequence[Cell], planted: Sequence[Planted] = (), images: Path | None = None,
    result: object = None, seed: int = 0,
) -> None:  # fmt: skip
    """Write a history with generated figures; the last night and the baselines have matches of images."""
    rng = np.random.default_rng(seed)
    with History.open(path, create=True) as history:
        first: dict[str, Run] = {}
        for number in range(1, nights + 1):
            night = _night(number)
            with history.writing():
                history.add_night(night)
                for index, cell in enumerate(cells):
                    run = _run(rng, night, index, cell, first.get(cell.name), planted)
                    heavy = {RESULT: packed(result)} if result and number == 1 else {}
                    if images and run.measurement and number in (1, nights):
                        heavy[MATCHES] = packed(_matches(images, worse=number == nights and index % 4 == 1).to_json())
                    history.add_run(run, heavy)
                    if cell.name not in first and run.measurement:
                        first[cell.name] = run
                        history.add_baseline(cell.name, run.uid, "the first night", night.started_at)


def _night(number: int) -> Night:
    start = BEGAN + timedelta(days=number)
    return Night(
        number=number, uid=f"night-{number}", kind="night", started_at=start.isoformat(timespec="seconds"),
        ended_at=(start + timedelta(hours=2)).isoformat(timespec="seconds"), matrix="m" * 64,
        source=Source(commit=f"{number // 3:040x}", branch="main", dirty=False, subject=f"Change {number // 3}"),
    )  # fmt: skip


def _run(
    rng: np.random.Generator, night: Night, index: int, cell: Cell, baseline: Run | None, planted: Sequence[Planted]
) -> Run:
    """One run; one in 150 fails."""
    base: dict[str, Any] = {
        "uid": f"{night.number}-{index}", "night": night.number, "cell": cell, "recorded_at": night.started_at,
        "settings": {"imgsz": "640", "prune.target_macs": "0.5", "profile": cell.target},
    }  # fmt: skip
    if baseline and rng.random() < 1 / 150:
        return Run(**base, state="failed", error="the device didn't answer\nTraceback", judgement=_judged("failed"))
    moved = [one for one in planted if night.number >= one.night and one.cells(cell)]
    slower, lost = sum(one.latency for one in moved), sum(one.map50_95 for one in moved)
    drift = 1 + 0.03 * np.sin(night.number / 25 + index) + rng.normal(0, 0.01)
    reference = (12.0 + 4.5 * (index % 7)) * drift
    ratio = (1 + slower) * (1 + rng.normal(0, 0.006))
    found = 0.56 - 0.004 * (index % 9) + lost + rng.normal(0, 0.0008)
    measurement = _measurement(rng, reference * ratio, reference, found)
    digests = Digests(weights=f"{int(lost != 0):064x}", data="d" * 64, bundle="b" * 64, network=f"{index:064x}")
    sdk = "1.32.0" if night.number > 40 else "1.31.0"
    environment = {"model": cell.target, "system": f"Linux 6.{night.number // 120}", "onnxruntime": sdk, "cores": "4"}
    judgement = (
        _judgement(baseline, ratio - 1, lost + rng.normal(0, 0.0008), drift - 1) if baseline else _judged("first")
    )
    return Run(
        **base, state="measured", measurement=measurement, digests=digests, environment=environment,
        reference=baseline.uid if baseline else None, judgement=judgement,
    )  # fmt: skip


def _measurement(rng: np.random.Generator, p50_ms: float, reference_ms: float, map50_95: float) -> Measurement:
    classes = {
        key: ClassAccuracy(ap50_95=float(map50_95 + 0.05 * (key - 1.5) + rng.normal(0, 0.003)), ap50=0.85)
        for key in NAMES
    }
    return Measurement(
        accuracy=Accuracy(
            map50_95=float(map50_95), map50=0.85, per_class=classes, names=NAMES, images=120, boxes=800
        ),
        speed=Speed(
            p50_ms=float(p50_ms), p90_ms=float(p50_ms * 1.07), p99_ms=float(p50_ms * 1.3), fps=float(1000 / p50_ms),
            rounds=20, reference_p50_ms=float(reference_ms),
        ),
        size_mb=2.4, peak_memory_mb=210.0, verdict="pass",
    )  # fmt: skip


def _judged(status: str) -> Judgement:
    return Judgement.model_validate({"status": status, "reason": f"{status}: generated", "baseline": None})


def _judgement(baseline: Run, slower: float, gained: float, device: float) -> Judgement:
    """Judged by limits: this history is drawn, not tested."""
    worse = slower > 0.03 or gained < -0.005
    better = slower < -0.03 or gained > 0.005
    status = "worse" if worse else "better" if better else "same"
    reason = f"latency {slower:+.1%}, mAP50-95 {gained:+.4f}"
    return Judgement.model_validate({
        "status": status, "reason": reason, "baseline": baseline.uid, "moved": (),
        "speed": _compared(slower, 0.008, -slower / 0.03), "accuracy": _compared(gained, 0.003, gained / 0.005),
        "device_change": float(device), "device_changed": bool(abs(device) > 0.045),
    })  # fmt: skip


def _compared(change: float, width: float, gain: float) -> Compared:
    return Compared(
        answer="worse" if gain < -1 else "better" if gain > 1 else "same",
        change=float(change),
        lowest=float(change - width),
        highest=float(change + width),
        p_worse=0.5,
        p_better=0.5,
        samples=20,
    )


def _matches(folder: Path, *, worse: bool) -> Matches:
    """Two objects an image; a worse run misses one in the later half of the images."""
    paths = sorted(folder.glob("*.jpg"))
    boxes = np.array([[20, 20, 100, 120], [150, 60, 260, 200]], np.float32)
    truth = Truth(boxes=boxes.astype(np.float64), class_ids=np.array([0, 1]))
    found = []
    for number in range(len(paths)):
        kept = slice(0, 1) if worse and number >= len(paths) // 2 else slice(0, 2)
        scores = np.array([0.9, 0.8], np.float32)[kept]
        found.append(Detections(boxes=boxes[kept], scores=scores, class_ids=np.array([0, 1])[kept]))
    return Matches.of(paths, [truth] * len(paths), found)


def write_images(folder: Path, count: int) -> Path:
    """Write pictures with two objects; they differ."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(1)
    for number in range(count):
        image = cv2.resize(rng.integers(60, 200, (9, 12, 3), np.uint8), (320, 240), interpolation=cv2.INTER_CUBIC)
        cv2.rectangle(image, (20, 20), (100, 120), (40, 160, 60), -1)
        cv2.rectangle(image, (150, 60), (260, 200), (160, 60, 40), -1)
        cv2.imwrite(str(folder / f"{number:03}.jpg"), image)
    return folder
