"""A complete result of a validation that was never measured, and its parts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from yolo_slim.build_key import BuildKey, BuildName, Model
from yolo_slim.devices.answers import Bench, DeviceFacts, RuntimeRecord, StageSamples
from yolo_slim.machine import MachineState
from yolo_slim.measuring.emulated import Emulated, EmulatedBuild
from yolo_slim.measuring.latency_cut import BuildChoice, LatencyCut, TimedCut
from yolo_slim.measuring.sides import Candidate, Sides
from yolo_slim.runtime.cold_start import ColdStart
from yolo_slim.runtime.load import Load
from yolo_slim.runtime.readings import Extremes, Range
from yolo_slim.runtime.sustained import Point, Sustained
from yolo_slim.verdict.result import (
    Build,
    ClassAccuracy,
    DataFacts,
    Gate,
    LayerWidth,
    NetworkSize,
    PreflightCheck,
    PreflightFacts,
    Result,
    Rung,
    Sizes,
    SpeedUp,
    TargetFacts,
    Verdict,
    WorstClass,
)

MACHINE = DeviceFacts.model_validate(
    {
        "model": "Example Board",
        "arch": "aarch64",
        "cores": 4,
        "cpu_features": ["asimd", "fphp"],
        "memory_total_mb": 8062,
        "system": "Linux-6.6",
    }
)
QUIET = Load(
    seconds=2.0, cores=4, threads=4, own_cores=3.9, other_cores=0.06, stolen_cores=0.0, waiting_share=0.004,
    stalled_share=0.02, stopped_share=0.0, preemptions=12, reference_before_ms=5.0, reference_after_ms=5.2,
)  # fmt: skip
BUSY = replace(QUIET, other_cores=2.9, waiting_share=0.41)
COOL = MachineState(governors=(), cpu_mhz=(), celsius=None, throttled=None)
WARM = MachineState(governors=("performance",), cpu_mhz=(2400.0,), celsius=60.0, throttled=0)
START = ColdStart(start_ms=400.0, load_ms=90.0, first_frame_ms=64.0, total_ms=554.0)
SUSTAINED = Sustained(
    seconds=600.0, frames=9000, window_s=30.0, first_fps=16.0, last_fps=12.0, retention=0.75,
    first_ms=(62.5,) * 3, last_ms=(83.3,) * 3,
    points=tuple(
        Point(
            seconds=float(seconds), frames=90, fps=fps, p99_ms=99.0, celsius=60.0, cpu_mhz=2400.0, gpu_mhz=None,
            watts=6.5, fan_rpm=None, memory_mb=150.0, limits=(),
        )
        for seconds, fps in ((200, 16.0), (400, 14.0), (600, 12.0))
    ),
    sensors=Extremes(
        readings=4, celsius=Range(lowest=50.0, highest=82.5), cpu_mhz=Range(lowest=1500.0, highest=2400.0),
        gpu_mhz=None, watts=Range(lowest=6.5, highest=6.5), fan_rpm=None, limits=(),
    ),
    load=QUIET, limited_by=("soft temperature limit during the run",), invalid_reasons=(),
)  # fmt: skip
"""Ten minutes of a board that throttles."""
WINNER = BuildKey("slim", BuildName("ncnn", "fp16"))


def bench_of(samples_ms: Mapping[str, Any], **changes: Any) -> Bench:
    """Return a timing with these samples of every stage: one round, on a cool machine."""
    samples = StageSamples(**{stage: tuple(float(ms) for ms in values) for stage, values in samples_ms.items()})
    stages = samples.latencies()
    values: dict[str, Any] = {
        "fps": 1000 / stages.total.p50_ms,
        "stages": stages,
        "samples_ms": samples,
        "round_p50_ms": (stages.total.p50_ms,),
        "round_network_p50_ms": (stages.pre.p50_ms + stages.infer.p50_ms,),
        "queries": len(samples.total),
        "seconds": sum(samples.total) / 1000,
        "warmup": 10,
        "images": 64,
        "peak_memory_mb": 212.4,
        "invalid_reasons": (),
        "before": COOL,
        "after": COOL,
        "machine": MACHINE,
        "runtime": RuntimeRecord.model_validate({"version": "1.0", "provider": "CPU", "threads": 4}),
        "measured_at": "2026-01-02T03:04:05+00:00",
    }
    return Bench(**{**values, **changes})


def make_bench(center_ms: float, seed: int, **changes: Any) -> Bench:
    """Return a valid timing of 300 frames with a slow tail."""
    rng = np.random.default_rng(seed)
    parts = {"pre": 0.06, "infer": 0.86, "post": 0.08}
    samples = {k: center_ms * share * (1 + rng.gamma(2.0, 0.02, 300)) for k, share in parts.items()}
    samples["infer"][::60] *= 1.5
    samples["total"] = samples["pre"] + samples["infer"] + samples["post"]
    return bench_of({stage: np.round(ms, 3) for stage, ms in samples.items()}, **changes)


def make_rung(rung: str, label: str, value: float, against: str | None, drop: float | None) -> Rung:
    """Return a rung with three classes; only rungs after the pruned one have a budget."""
    budget = None if rung in ("control", "pruned") else 0.01 if rung == "recovered" else 0.003
    classes = {0: 0.02, 1: 0.06, 2: -0.08}
    return Rung(
        rung=rung,
        build=BuildName.parse(rung) if "-" in rung else None,
        label=label,
        where="this machine",
        map50_95=value,
        map50=value + 0.2871,
        against=against,
        drop=drop,
        budget=budget,
        status="info" if budget is None or drop is None else "pass" if drop <= budget else "fail",
        per_class={k: ClassAccuracy(ap50_95=value + d, ap50=value + 0.28 + d) for k, d in classes.items()},
        worst_class=None if against is None else WorstClass(class_id=2, drop=0.0123),
    )


def make_build(
    model: Model, build: str, map50_95: float, size_mb: float = 3.0, ms: float = 50.0, **bench: Any
) -> Build:
    """Return a timed build; ``bench`` changes its timing."""
    timing = make_bench(ms, round(ms), **bench)
    key = BuildKey(model, BuildName.parse(build))
    return Build(key=key, map50_95=map50_95, map50=map50_95 + 0.28, size_mb=size_mb, bench=timing)


def make_gate(
    name: str, limit: float, value: float | None, unit: str, status: str = "pass", rung: str | None = None
) -> Gate:
    """Return one gate."""
    reason = {"pass": "", "unproven": "this machine is no board", "fail": "outside the limit"}[status]
    values: dict[str, Any] = {"limit": limit, "value": value, "unit": unit, "status": status, "reason": reason}
    return Gate(name=name, rung=rung, **values)


def changed(record: Any, **changes: Any) -> Any:
    """Return a copy of a frozen value with other attributes; its class's checks are not run."""
    return record.model_copy(update=changes)


def with_build(result: Result, index: int, **changes: Any) -> Result:
    """Return a copy of a result in which one build differs; ``bench`` may be a mapping of changes to its timing."""
    builds = list(result.builds)
    if isinstance(bench := changes.get("bench"), Mapping):
        changes["bench"] = changed(builds[index].bench, **bench)
    builds[index] = changed(builds[index], **changes)
    return changed(result, builds=tuple(builds))


def complete_result() -> Result:
    """Return a result that passes."""
    seen: dict[str, Any] = {"cold_start": START, "sensors": SUSTAINED.sensors, "load": QUIET, "after": WARM}
    builds = (
        make_build("control", "onnxruntime-fp32", 0.6123, 10.62, 182.0, **seen),
        make_build("slim", "onnxruntime-fp32", 0.6057, 4.31, 101.0, **seen),
        make_build("control", "ncnn-fp16", 0.6119, 5.34, 121.0, **seen),
        make_build("slim", "ncnn-fp16", 0.6051, 2.18, 64.0, **seen),
    )
    best = builds[3].bench
    assert best is not None
    widths = [(f"model.{i}.conv", 16 * (1 + i % 8), 8 * (1 + i % 8 + i % 3)) for i in range(36)]
    return Result(
        name="hardhat-yolo11n",
        measured_at="2026-01-02T03:04:05+00:00",
        command="make yolo-slim MODEL=best.pt DATA=hardhat.yaml TARGET=board",
        target=TargetFacts(name="board", description="An invented board", is_measured=True),
        imgsz=640,
        data=DataFacts(
            yaml="hardhat.yaml", split="test", images=500, boxes=2345, names={0: "head", 1: "helmet", 2: "person"}
        ),
        verdict=Verdict(
            status="pass",
            gates=(
                make_gate("rung:recovered", 0.01, 0.0066, "mAP50-95 drop", rung="recovered"),
                make_gate("rung:onnx", 0.003, 0.0001, "mAP50-95 drop", rung="onnx"),
                make_gate("min_fps", 10.0, best.fps, "FPS"),
                make_gate("max_p99_ms", 150.0, best.stages.total.p99_ms, "ms"),
                make_gate("max_map50_95_drop", 0.02, 0.0072, "mAP50-95"),
                make_gate("max_size_mb", 50.0, 2.18, "MB"),
            ),
        ),
        winner=WINNER,
        size=Sizes(
            control=NetworkSize(params=2590425, macs=3220000000), slim=NetworkSize(params=1012345, macs=1598000000)
        ),
        widths=tuple(
            LayerWidth(layer=layer, before=before, after=min(before, after)) for layer, before, after in widths
        ),
        ladder=(
            make_rung("control", "PyTorch control", 0.6123, None, None),
            make_rung("pruned", "PyTorch pruned, not trained", 0.2744, "control", 0.3379),
            make_rung("recovered", "PyTorch recovered", 0.6057, "control", 0.0066),
            make_rung("onnx", "ONNX in ONNX Runtime", 0.6056, "recovered", 0.0001),
            make_rung("onnxruntime-fp32", "bundle onnxruntime-fp32", 0.6058, "onnx", -0.0002),
            make_rung("ncnn-fp16", "bundle ncnn-fp16", 0.6051, "onnx", 0.0005),
        ),
        builds=builds,
        speedups=(SpeedUp(build=WINNER.build, ratio=1.876, lowest=1.8, highest=1.95, rounds=5, valid=True),),
        preflight={BuildName("tensorrt", "int8"): preflight()},
        machine=MACHINE,
        versions={"yolo_slim": "0.1.0", "torch": "2.9.0"},
        notes=(),
    )


def preflight() -> PreflightFacts:
    """Return one answered question."""
    check = PreflightCheck(name="parse", status="pass", detail="parsed by TensorRT-RTX")
    return PreflightFacts(
        onnx="model.onnx", target="board", precision="int8", layout="one2many", checks=(check,), passed=True
    )


def unproven_result() -> Result:
    """Return a result without timings, the ladder broken off after two rungs."""
    result = complete_result()
    builds = [changed(build, bench=None) for build in result.builds]
    builds[3] = changed(builds[3], map50_95=None, map50=None)
    return changed(
        result,
        builds=tuple(builds),
        winner=None,
        speedups=(),
        ladder=result.ladder[:2],
        verdict=Verdict(status="unproven", gates=(make_gate("min_fps", 10.0, None, "FPS", "unproven"),)),
        notes=("slim/ncnn-int8 was not built: NCNN needs calibration images",),
    )


def emulated_build(**changes: Any) -> EmulatedBuild:
    """Return a bundle that an emulated processor runs as the workstation does."""
    values: dict[str, Any] = {
        "key": WINNER, "status": "pass", "self_check": True, "matched": 31, "largest_score_difference": 0.0084,
        "lowest_iou": 0.985, "largest_shift_px": 0.4, "map50_95": 0.611, "workstation_map50_95": 0.612,
        "peak_memory_mb": 190.2, "seconds": 61.0,
    }  # fmt: skip
    return EmulatedBuild(**{**values, **changes})


def emulated_result() -> Result:
    """Return a result whose target isn't there, with its bundles on an emulated processor."""
    result = complete_result()
    emulated = Emulated(
        device="rpi5-emulated", model="emulated Cortex-A76 (QEMU 7.2)", processor="Cortex-A76", python="3.11",
        packages=("ncnn==1.0",), split="test", images=tuple(f"{number}.jpg" for number in range(8)),
        builds=(emulated_build(), emulated_build(key=BuildKey("control", WINNER.build))),
    )  # fmt: skip
    target = changed(result.target, is_measured=False)
    return changed(result, emulated=emulated, target=target, verdict=changed(result.verdict, status="unproven"))


def sides() -> Sides:
    """Return three input sides: one that can't reach the budget, one that was stopped, and the winner."""
    return Sides(
        asked_ms=8.0, first_epochs=1, epochs=3, winner=256,
        candidates=(
            Candidate(imgsz=640, unpruned_ms=50.0, predicted_ms=9.1, reason="the budget can't be reached"),
            Candidate(
                imgsz=320, build="ncnn-fp16", unpruned_ms=14.0, predicted_ms=7.8, measured_ms=7.9, macs_removed=0.55,
                map50_95_first=0.41, reason="stopped after one epoch: 1 was better",
            ),
            Candidate(
                imgsz=256, build="ncnn-fp16", unpruned_ms=10.0, predicted_ms=7.7, measured_ms=7.95, macs_removed=0.25,
                map50_95_first=0.45, map50_95=0.52, reason="won: the highest mAP",
            ),
        ),
    )  # fmt: skip


def latency_cut(**changes: Any) -> LatencyCut:
    """Return a cut to 8 ms a frame that was made twice, for the one of three builds that loses least."""
    values: dict[str, Any] = {
        "budget_ms": 8.0, "build": WINNER.build, "device": "board", "unpruned_ms": 14.0, "overhead_ms": 1.0,
        "table_error_median": 0.02, "table_error_worst": 0.05, "kept": 1,
        "cuts": (TimedCut(predicted_ms=7.9, measured_ms=8.4), TimedCut(predicted_ms=7.9, measured_ms=7.88)),
        "choices": (
            BuildChoice(build=WINNER.build, smallest_ms=3.1, loss=1.0),
            BuildChoice(build=BuildName("onnxruntime", "fp32"), smallest_ms=9.2, loss=None),
        ),
        "without_table": {"onnxruntime-int8": "int8 is not timed"},
    }  # fmt: skip
    return LatencyCut(**{**values, **changes})
