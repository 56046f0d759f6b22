"""YOLOBench: latencies of networks of several widths and depths, at several input sides, on several devices.

The table is ``results/yolobench`` of Deeplite/deeplite-torch-zoo (Apache-2.0); docs/benchmarks/records has part of it.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import groupby, pairwise
from pathlib import Path

from yolo_slim.build_key import BuildName
from yolo_slim.measuring.estimate import Cost, fit
from yolo_slim.measuring.published import PublishedRow, Source

RECORDS = Path(__file__).parents[1] / "docs/benchmarks/records"
YOLOBENCH, YOLOBENCH_MACS = RECORDS / "yolobench.csv", RECORDS / "yolobench_macs.csv"
SCALES = {"n": (0.33, 0.25), "s": (0.33, 0.5), "m": (0.67, 0.75), "l": (1.0, 1.0)}
"""YOLOBench's short names: depth and width."""
COLUMNS = {
    "rpi5_onnxruntime": "pi5_ort_latency",
    "rpi4_tflite": "raspi4_tflite_latency",
    "jetson_nano_onnxruntime": "nano_gpu_latency",
}
"""Device and runtime of YOLOBench, and the column of the original files."""
GPU, CPUS = "jetson_nano_onnxruntime", ("rpi5_onnxruntime", "rpi4_tflite")
FITTED = ("yolo8n", "yolo8s", "yolo8m", "yolo8l")
FITTED_SIDE = 320


class YoloBench:
    """Latencies of many networks at many input sides."""

    def __init__(self, path: Path) -> None:
        self.rows: dict[tuple[str, int], dict[str, float]] = {}
        """Network and input side to milliseconds by device and runtime."""
        with path.open(encoding="utf-8", newline="") as stream:
            for line in csv.DictReader(stream):
                name, side = line.get("model", ""), line.get("imgsz", "")
                if not name:
                    name, _, side = line["model_name"].rpartition("_")
                self.rows[name, int(side)] = dict(_latencies(line))
        with YOLOBENCH_MACS.open(encoding="utf-8", newline="") as stream:
            self.macs = {line["model"]: int(line["macs"]) for line in csv.DictReader(stream)}
            """Network to its MACs at 320 pixels, where they are known."""

    def macs_at(self, network: str, side: int) -> float:
        """Its MACs at an input side."""
        return self.macs[network] * (side / FITTED_SIDE) ** 2

    def held(self, column: str) -> Iterator[tuple[str, int, float]]:
        """Network, input side and latency of one device."""
        for (network, side), found in self.rows.items():
            if column in found:
                yield network, side, found[column]

    def cost(self, column: str, networks: Iterable[str], side: int = FITTED_SIDE) -> Cost:
        """Fit some networks at one input side."""
        known = [(name, self.rows[name, side][column]) for name in networks if (name, side) in self.rows]
        nowhere = Source(project="YOLOBench", page="", version="", date="", commit="")
        build = BuildName("tensorrt" if column == GPU else "onnxruntime", "fp32")
        cost = fit([
            PublishedRow(
                device=column, build=build, network=name, imgsz=side, macs=int(self.macs_at(name, side)),
                infer_ms=ms, source=nowhere,
            )
            for name, ms in known
        ])  # fmt: skip
        assert cost is not None
        return cost

    def sides(self, column: str, *, swapped: bool = False) -> list[float]:
        """Estimate every network at a smaller input side from its own latency at the next larger one.

        Without known MACs only pixels count, on a CPU. ``swapped``: the fixed part as on the other kind of processor.
        """
        cost = self.cost(column, FITTED)
        cost = replace(cost, on_gpu=cost.on_gpu != swapped)
        found = []
        for network in dict.fromkeys(name for name, _, _ in self.held(column)):
            if network not in self.macs and (swapped or cost.on_gpu):
                continue
            sides = [side for side in (480, 320, 160) if column in self.rows.get((network, side), {})]
            for large, small in pairwise(sides):
                ratio = (small / large) ** 2
                if network in self.macs:
                    before, after = (cost.infer_ms(self.macs_at(network, side), side) for side in (large, small))
                    ratio = after / before
                found.append(math.log(self.rows[network, small][column] / self.rows[network, large][column] / ratio))
        return found

    def widths(self, column: str) -> list[float]:
        """Estimate every network from the next wider one, by the fit of another family at the same input side."""
        found = []
        for (wide, narrow), side in self._steps(column):
            other = "yolo5" if wide.startswith("yolo8") else "yolo8"
            cost = self.cost(column, [name for name in self.macs if re.fullmatch(f"{other}[nsml]", name)], side)
            ratio = cost.infer_ms(self.macs_at(narrow, side), side) / cost.infer_ms(self.macs_at(wide, side), side)
            found.append(math.log(self.rows[narrow, side][column] / self.rows[wide, side][column] / ratio))
        return found

    def widths_in_proportion(self, column: str) -> list[float]:
        """The same in proportion to the MACs."""
        return [
            math.log(self.rows[narrow, side][column] / self.rows[wide, side][column])
            - math.log(self.macs[narrow] / self.macs[wide])
            for (wide, narrow), side in self._steps(column)
        ]

    def widths_by_x86(self, column: str) -> list[float]:
        """The same by the ratio on an x86 processor."""
        found = []
        for (wide, narrow), side in self._steps(column):
            before, after = self.rows[wide, side], self.rows[narrow, side]
            found.append(math.log(after[column] / before[column] / (after["x86_openvino"] / before["x86_openvino"])))
        return found

    def _steps(self, column: str) -> Iterator[tuple[tuple[str, str], int]]:
        """Two networks that differ in width alone, neighbours in width, and an input side that both have."""
        for side in sorted({side for _, side, _ in self.held(column)}):
            shapes = sorted(
                (shape(name), name) for name, at, _ in self.held(column) if at == side and name in self.macs
            )
            for _, same in groupby(shapes, key=lambda item: item[0][:2]):
                for (_, narrow), (_, wide) in pairwise(same):
                    yield (wide, narrow), side

    def all_steps(self, column: str) -> list[tuple[float, bool]]:
        """Estimate every network of known MACs at every input side from four rows; and whether the side is another."""
        cost = self.cost(column, FITTED)
        return [
            (math.log(ms / cost.infer_ms(self.macs_at(network, side), side)), side != FITTED_SIDE)
            for network, side, ms in self.held(column)
            if network in self.macs and (network not in FITTED or side != FITTED_SIDE)
        ]


def _latencies(line: dict[str, str]) -> Iterator[tuple[str, float]]:
    """Milliseconds of one line of the kept part, or of an original file."""
    for ours, theirs in {**COLUMNS, "x86_openvino": "openvino_latency"}.items():
        if line.get(ours):
            yield ours, float(line[ours])
        elif line.get(theirs):
            # YOLO_latency.csv is in seconds; merged_results.csv is in milliseconds, but for the Raspberry Pi 5.
            seconds = "model_family" not in line or ours == "rpi5_onnxruntime"
            yield ours, float(line[theirs]) * (1000 if seconds else 1)


def shape(name: str) -> tuple[str, float, float]:
    """Family, depth and width of a network of YOLOBench: ``yolo8d67w25`` has .67 and .25 of the whole."""
    family, scale = name[:5], name[5:]
    if scale in SCALES:
        return family, *SCALES[scale]
    depth, width = (float(text if text == "1" else f".{text}") for text in scale[1:].split("w"))
    return family, depth, width
