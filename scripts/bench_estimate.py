"""Hold the estimate of inference time against published rows that its fit didn't see.

    python -m scripts.bench_estimate --write
    python -m scripts.bench_estimate --yolobench merged_results.csv
    python -m scripts.bench_estimate --count

``--yolobench`` takes YOLO_latency.csv or merged_results.csv of deeplite-torch-zoo in place of the part that is kept in
docs/benchmarks/records. ``--write`` records the errors, and the factors that the band of an estimate is made of.
``--count`` counts the MACs of all networks again; only this needs Ultralytics.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from scripts.yolobench import COLUMNS, CPUS, FITTED_SIDE, GPU, RECORDS, YOLOBENCH, YOLOBENCH_MACS, YoloBench, shape
from yolo_slim.build_key import BuildName
from yolo_slim.files import read_json, write_json
from yolo_slim.measuring import published
from yolo_slim.measuring.estimate import ERRORS, fit
from yolo_slim.measuring.published import PublishedRow
from yolo_slim.version import __version__

PRUNED = ("ours", "uniform-l2", "random")
"""Methods of a comparison that cut channels out of a network, unlike a narrower stock network."""
COMPARISONS = (
    *(f"{family}-{epochs}" for family in ("yolo11n", "yolo26n", "yolov8n") for epochs in ("10ep", "20ep")),
    *("yolov8n-10ep-1000", "yolov8n-10ep-sizes"),
)
"""Their records, after ``compare-hardhat-``: a later one changes nothing here before its name is added."""
QENGINEERING = {"yolov8n": 1000 / 3.1, "yolov8s": 1000 / 1.47}
"""NCNN on a Raspberry Pi 4, milliseconds: Qengineering, README of YoloX-ncnn-Raspberry-Pi-4, at 1950 MHz."""
CLOCK = 1950 / 1800
"""That clock against a Raspberry Pi 4's own."""
QENGINEERING_SIDES = ((640, 2.1), (412, 4.43))
"""Input side and FPS of YOLOv7-tiny there: README of YoloV7-ncnn-Raspberry-Pi-4."""


@dataclass(frozen=True, kw_only=True)
class Errors:
    """How far held-out latencies were from their estimates."""

    step: str
    """network, imgsz, pruned, all or another hand."""
    rows: str
    """Which rows."""
    number: int
    within_10: float
    """Share of them within 10 %."""
    within_25: float
    median: float
    """Of the absolute relative error."""
    worst: float
    factor: float
    """What nine of ten kept: measured / estimated or its inverse."""
    in_band: float | None = None
    """Share inside the band that an estimate is printed with."""


def errors_of(step: str, rows: str, logs: Sequence[float], in_band: float | None = None) -> Errors:
    """Sum up ``log(published / estimated)`` of held-out rows."""
    relative = np.abs(np.expm1(np.array(logs)))
    return Errors(
        step=step, rows=rows, number=len(logs),
        within_10=float(np.mean(relative <= 0.1)), within_25=float(np.mean(relative <= 0.25)),
        median=float(np.median(relative)), worst=float(relative.max()),
        factor=float(np.exp(np.quantile(np.abs(logs), 0.9))), in_band=in_band,
    )  # fmt: skip


def without_each(rows: Sequence[PublishedRow]) -> list[float]:
    """Estimate the rows of every network from those of all others."""
    found = []
    for network in {row.network for row in rows}:
        cost = fit([row for row in rows if row.network != network])
        held_out = [row for row in rows if row.network == network]
        found += [math.log(row.infer_ms / cost.infer_ms(row.macs, row.imgsz)) for row in held_out] if cost else []
    return found


def by_power(rows: Sequence[PublishedRow], row: PublishedRow) -> float:
    """Another way to estimate a row: a power of the MACs, fitted to the logarithms."""
    slope, start = np.polyfit([math.log(one.macs) for one in rows], [math.log(one.infer_ms) for one in rows], 1)
    return math.exp(start + slope * math.log(row.macs))


def by_nearest(rows: Sequence[PublishedRow], row: PublishedRow) -> float:
    """Another way to estimate a row: the row of the most similar MACs, in proportion to them."""
    near = min(rows, key=lambda one: abs(math.log(one.macs / row.macs)))
    return near.infer_ms * row.macs / near.macs


def other_ways() -> list[Errors]:
    """The errors of both on each runtime's rows, every network left out in turn."""
    found = []
    for runtime in sorted({row.build.runtime for row in published.rows()}):
        rows = [row for row in published.rows() if row.build.runtime == runtime]
        for way in (by_power, by_nearest):
            pairs = [(row, _without(row, rows)) for row in rows]
            logs = [math.log(row.infer_ms / way(others, row)) for row, others in pairs if fit(others)]
            found.append(errors_of("network", f"all of {runtime}, {way.__name__[3:]} instead", logs))
    return found


def _without(row: PublishedRow, rows: Iterable[PublishedRow]) -> list[PublishedRow]:
    """The rows of the same device and build, but of other networks."""
    return [one for one in rows if _group(one) == _group(row) and one.network != row.network]


def network_errors() -> dict[str, list[tuple[str, list[float]]]]:
    """Runtime to the errors of each device and precision."""
    found: dict[str, list[tuple[str, list[float]]]] = {}
    for (device, build), rows in groupby(sorted(published.rows(), key=_group), key=_group):
        if logs := without_each(list(rows)):
            found.setdefault(build.runtime, []).append((f"{device} {build}", logs))
    return found


def _group(row: PublishedRow) -> tuple[str, BuildName]:
    return row.device, row.build


def pruned_errors(runtime: str) -> list[float]:
    """Speed-ups of pruned networks, measured on workstations, against those that the MACs give on a Pi 5."""
    build = next(row.build for row in published.rows() if row.device == "rpi5" and row.build.runtime == runtime)
    cost = fit([row for row in published.rows() if row.device == "rpi5" and row.build == build])
    assert cost is not None
    found = []
    for name in COMPARISONS:
        record = read_json(RECORDS / f"compare-hardhat-{name}.json")
        arms = record.get("methods") or record["arms"]
        control = next(arm for arm in arms if arm.get("method", arm.get("arm")) == "control")
        for arm in arms:
            speedup = (arm["runtimes"].get(str(build)) or {}).get("speedup")
            if arm.get("method", arm.get("arm")) in PRUNED and speedup and speedup["valid"]:
                side = record["imgsz"]
                by_macs = cost.infer_ms(control["macs"], side) / cost.infer_ms(arm["macs"], side)
                found.append(math.log(by_macs / speedup["ratio"]))
    return found


def another_hand() -> list[float]:
    """A second publisher's rows of a Raspberry Pi 4 at another clock, against the fit of the first's."""
    rows = [row for row in published.rows() if row.device == "rpi4" and row.build == BuildName("ncnn", "fp16")]
    cost = fit(rows)
    assert cost is not None
    macs = {row.network: row.macs for row in rows}
    return [math.log(ms * CLOCK / cost.infer_ms(macs[name], 640)) for name, ms in QENGINEERING.items()]


def ncnn_side() -> list[float]:
    """The only published pair of NCNN at two input sides, against the ratio of pixels."""
    (large, slow), (small, fast) = QENGINEERING_SIDES
    return [math.log((slow / fast) / (small / large) ** 2)]


def evaluate(bench: YoloBench) -> tuple[list[Errors], dict[str, dict[str, float]]]:
    """All errors, and the factors of the band by runtime and step."""
    networks = network_errors()
    found = [errors_of("network", name, logs) for group in networks.values() for name, logs in group]
    pooled = {runtime: [log for _, logs in group for log in logs] for runtime, group in networks.items()}
    found += [errors_of("network", f"all of {runtime}", logs) for runtime, logs in pooled.items()]
    found += other_ways()
    sides = {column: bench.sides(column) for column in COLUMNS}
    widths = {column: bench.widths(column) for column in COLUMNS}
    found += [errors_of("imgsz", f"YOLOBench {column}", logs) for column, logs in sides.items()]
    found += [
        errors_of("imgsz", f"YOLOBench {column}, fixed part swapped", bench.sides(column, swapped=True))
        for column in COLUMNS
    ]
    found += [errors_of("imgsz", "Qengineering rpi4 ncnn, yolov7-tiny", ncnn_side())]
    found += [errors_of("pruned", f"YOLOBench {column}, width by MACs", logs) for column, logs in widths.items()]
    for column in COLUMNS:
        in_proportion, by_x86 = bench.widths_in_proportion(column), bench.widths_by_x86(column)
        found.append(errors_of("pruned", f"YOLOBench {column}, in proportion to MACs instead", in_proportion))
        found.append(errors_of("pruned", f"YOLOBench {column}, by x86 speed-up instead", by_x86))
    own = {runtime: pruned_errors(runtime) for runtime in ("onnxruntime", "ncnn")}
    found += [errors_of("pruned", f"own pruned networks on x86, {runtime}", logs) for runtime, logs in own.items()]
    on_cpu = [log for column in CPUS for log in sides[column]]
    factors = {
        "onnxruntime": _factors(pooled["onnxruntime"], [on_cpu], [own["onnxruntime"], *(widths[c] for c in CPUS)]),
        "ncnn": _factors(pooled["ncnn"], [on_cpu, ncnn_side()], [own["ncnn"], *(widths[c] for c in CPUS)]),
        "tensorrt": _factors(pooled["tensorrt"], [sides[GPU]], [widths[GPU]]),
    }
    for column in COLUMNS:
        factor = factors["tensorrt" if column == GPU else "onnxruntime"]
        steps = bench.all_steps(column)
        bands = [math.hypot(math.log(factor["network"]), math.log(factor["imgsz"]) * other) for _, other in steps]
        inside = float(np.mean([abs(log) <= band for (log, _), band in zip(steps, bands, strict=True)]))
        found.append(errors_of("all", f"YOLOBench {column}, from 4 rows at 320 px", [log for log, _ in steps], inside))
    hand, band = another_hand(), math.log(factors["ncnn"]["network"])
    inside = float(np.mean([abs(log) <= band for log in hand]))
    found.append(errors_of("another hand", "Qengineering rpi4 ncnn at 1950 MHz, scaled to 1800", hand, inside))
    return found, factors


def _factors(network: list[float], imgsz: list[list[float]], pruned: list[list[float]]) -> dict[str, float]:
    """The factor that nine of ten held-out rows kept at each step; of several sets of rows, the largest."""
    sets = {"network": [network], "imgsz": imgsz, "pruned": pruned}
    return {step: round(max(errors_of("", "", logs).factor for logs in found), 3) for step, found in sets.items()}


def table(errors: Iterable[Errors]) -> str:
    """The page's table."""
    lines = [
        "| step | rows | number | within 10 % | within 25 % | median | worst | nine of ten | in the band |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for one in errors:
        band = "" if one.in_band is None else f"{one.in_band:.0%}"
        lines.append(
            f"| {one.step} | {one.rows} | {one.number} | {one.within_10:.0%} | {one.within_25:.0%} | {one.median:.0%} "
            f"| {one.worst:.0%} | {one.factor:.2f}x | {band} |"
        )
    return "\n".join(lines)


def count_macs() -> None:
    """Count the MACs of every network again, from Ultralytics' own yaml files, with 80 classes."""
    from ultralytics.nn.tasks import DetectionModel, yaml_model_load

    from yolo_slim.models.macs import measure

    def counted(yaml: str, side: int, **scale: Any) -> int:
        return measure(DetectionModel({**yaml_model_load(yaml), **scale}, nc=80, verbose=False), side).macs

    # Ultralytics builds some blocks otherwise for m, l and x, so the scale goes by its name.
    stock = {
        name: counted(f"{name[:-1]}.yaml", published.SIDE_OF_MACS, scale=name[-1])
        for name in dict.fromkeys(row.network for row in published.rows())
    }
    _write_macs(published.FOLDER / "networks.csv", stock)
    names = sorted({name for name, _ in YoloBench(YOLOBENCH).rows if name.startswith(("yolo5", "yolo8"))})
    # Unlike Ultralytics, YOLOBench doesn't cap the widths of its larger networks.
    bench = {
        name: counted(f"yolov{name[4]}.yaml", FITTED_SIDE, scale="n", scales={"n": [*shape(name)[1:], 1024]})
        for name in names
    }
    _write_macs(YOLOBENCH_MACS, bench)


def _write_macs(path: Path, macs: dict[str, int]) -> None:
    lines = ["model,macs", *(f"{name},{count}" for name, count in macs.items())]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def main() -> None:
    """Evaluate, print, and record on request."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--yolobench", type=Path, default=YOLOBENCH, help="its table, or the part that is kept")
    parser.add_argument("--write", action="store_true", help="record the errors and the factors of the band")
    parser.add_argument("--count", action="store_true", help="count the MACs of the networks again, and write them")
    options = parser.parse_args()
    if options.count:
        count_macs()
        return
    errors, factors = evaluate(YoloBench(options.yolobench))
    print(table(errors))
    print(json.dumps(factors, indent=2))
    if options.write:
        made = {"command": "python -m scripts.bench_estimate --write", "date": str(date.today())}
        found = {**made, "yolo_slim": __version__, "factors": factors}
        write_json(ERRORS, found)
        write_json(RECORDS / "estimate.json", {**found, "errors": [asdict(one) for one in errors]})


if __name__ == "__main__":
    main()
