"""The table of block costs: what it measures, that pruning follows it, and that an interruption loses no block."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.helpers.charts import charts, loads_nothing
from tests.helpers.cli import run_cli
from tests.helpers.constants import ROOT
from tests.helpers.cuts import ranked
from tests.helpers.devices import FakeDevice, UnloadedDevice
from tests.helpers.listeners import Remembers
from yolo_slim.config.run import BlockCostsConfig, ExportConfig, PruneConfig
from yolo_slim.devices.base import Placed
from yolo_slim.errors import SlimError
from yolo_slim.export.onnx import export_onnx
from yolo_slim.files import read_json
from yolo_slim.measuring.block_costs import BlockCostTable, ScoredData
from yolo_slim.models import checkpoint
from yolo_slim.pruning.block_costs import load_block_costs
from yolo_slim.pruning.blockwise import blocks_of
from yolo_slim.pruning.groups import trace_channels
from yolo_slim.reporting.block_costs import csv_text, render, text
from yolo_slim.runtime.paired import Paired
from yolo_slim.stages import block_costs, network_meter, plan
from yolo_slim.stages.context import Context
from yolo_slim.workspace.folder import stage_claimed

IMGSZ = 160
SMALL = 96
"""Input side where the device is invented, and no accuracy is asked for."""
IDLE, BUSY = "model.8", "model.2"
"""The block whose weakest half nothing reads, and one that everything rests on."""
QUICK = BlockCostsConfig(rounds=2, frames=2)


def only(*blocks: str, **settings: Any) -> PruneConfig:
    """Make settings of prune under which no other blocks give channels up."""
    layers = (*range(11), 13, 16, 17, 19, 20, 22)
    others = [f"model.{i}" for i in layers if f"model.{i}" not in blocks]
    return PruneConfig(protect=[*others, "model.23.cv2", "model.23.cv3"], images=16, bn_images=16, **settings)


def measure(model: Path, data: Path, out: Path, pruning: PruneConfig, **others: Any) -> BlockCostTable:
    """Run the stage; ``others`` are settings of block_costs and fields of the context."""
    settings = {key: others.pop(key) for key in BlockCostsConfig.model_fields if key in others}
    inputs = block_costs.BlockCostsInputs(model=model, pruning=pruning)
    context = Context.load(data, "host", **{"imgsz": IMGSZ, "device": UnloadedDevice(), **others})
    return BlockCostTable.load(block_costs.run(inputs, QUICK.model_copy(update=settings), out, context).table)


@pytest.fixture(scope="module")
def idle(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the shipped yolo11n with half of every space of :data:`IDLE` read by nothing."""
    loaded = checkpoint.load(trained)
    graph = trace_channels(loaded.model, 64)
    spaces = [s for s in graph.spaces if not s.frozen and any(n.startswith(f"{IDLE}.") for n in graph.members(s))]
    gone = {label for s in spaces for label in s.channels[: len(s.channels) // 2].tolist()}
    modules = dict(loaded.model.named_modules())
    for name, site in graph.convs.items():
        if site.inputs is not None and not site.depthwise:
            columns = [i for i, label in enumerate(site.inputs.tolist()) if label in gone]
            modules[name].weight.data[:, columns] = 0
    path = tmp_path_factory.mktemp("idle") / "idle.pt"
    checkpoint.save(path, loaded, loaded.model)
    return path


@pytest.fixture(scope="module")
def measured(idle: Path, signs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Measure two blocks into a folder."""
    folder = tmp_path_factory.mktemp("measured") / "costs"
    measure(idle, signs, folder, only(IDLE, BUSY))
    return folder


def test_idle_block_costs_nothing(measured: Path) -> None:
    """Cutting what nothing reads costs no mAP, cutting as much of a block that matters does; both save MACs."""
    found = BlockCostTable.load(measured / "block_costs.json")
    rows = {row.name: row for row in found.blocks}
    assert set(rows) == {IDLE, BUSY}
    assert found.control.map50_95 > 0.2
    assert abs(rows[IDLE].map_cost) < 0.005
    assert rows[BUSY].map_cost > 0.05
    for row in rows.values():
        assert row.map50_95 == pytest.approx(found.control.map50_95 - row.map_cost)
        assert row.macs_saved > 0
        assert row.channels_kept == row.channels / 2
        assert row.ms_gain_lowest <= row.ms_gain <= row.ms_gain_highest
        assert len(row.round_ms.cut) == QUICK.rounds
        assert row.ms_gain == pytest.approx(float(np.median(row.round_ms.gains)))


def test_table_says_where_it_comes_from(measured: Path, signs: Path) -> None:
    """Accuracy is of validation images, and runtime, threads, machine, versions and date are in the file."""
    found = BlockCostTable.load(measured / "block_costs.json")
    assert found.data == ScoredData(yaml=signs.name, split="val", images=16)
    assert found.runtime == "onnxruntime fp32"
    assert min(found.threads) >= 1
    assert found.is_measured_on_target
    assert {"machine", "versions", "measured_at", "ms_of", "criterion"} <= set(read_json(measured / "block_costs.json"))


def test_table_of_another_runtime(idle: Path, signs: Path, tmp_path: Path) -> None:
    """Milliseconds can be those of NCNN, and the table says so."""
    found = measure(idle, signs, tmp_path / "costs", only(IDLE), runtime="ncnn")
    assert found.runtime == "ncnn fp16"
    (row,) = found.blocks
    assert abs(row.map_cost) < 0.005
    assert min(row.round_ms.control + row.round_ms.cut) > 0


def test_outputs_for_people(measured: Path) -> None:
    """The CSV file has a block a line, and the page loads nothing from elsewhere and draws every block."""
    found = BlockCostTable.load(measured / "block_costs.json")
    assert (measured / "block_costs.csv").read_text() == csv_text(found)
    assert [line.split(",")[0] for line in csv_text(found).splitlines()] == ["name", BUSY, IDLE]
    page = (measured / "block_costs.html").read_text()
    assert page == render(found)
    assert loads_nothing(page)
    drawn = "".join(json.dumps(chart.document) for chart in charts(page))
    assert all(name in drawn for name in (IDLE, BUSY))
    assert IDLE in text(found)
    assert "unproven" not in text(found)
    assert "isn't the target host" in text(found.model_copy(update={"is_measured_on_target": False}))


def test_prune_follows_a_measured_table(measured: Path, idle: Path, signs: Path, tmp_path: Path) -> None:
    """With the table as it was written, pruning takes from the block that costs nothing and reaches its budget."""
    guided = only(IDLE, BUSY, macs_removed=0.02, scope="block_costs", block_costs=str(measured / "block_costs.json"))
    outputs = plan.make(idle, guided, tmp_path, Context.load(signs, imgsz=IMGSZ))
    table = read_json(outputs.widths)
    assert 1 - table["slim"]["macs"] / table["control"]["macs"] == pytest.approx(0.02, abs=0.01)
    narrowed = {row["layer"].split(".")[1] for row in table["layers"] if row["after"] < row["before"]}
    assert narrowed == {IDLE.split(".")[1]}


@pytest.mark.parametrize("family", ["yolov8n", "yolo26n"])
def test_complete_table_decides_allocation(
    family: str, untrained: Callable[[str], Path], signs: Path, tmp_path: Path
) -> None:
    """A table with a row for every block makes other widths than the global scope, at the same budget."""
    model = untrained(family)
    config = PruneConfig(criterion="l2", normalize="mean", steps=1)
    names = [block.name for block in blocks_of(ranked(checkpoint.load(model).model, config))]
    rows = [{"name": name, "map_cost": 0.1 / (i + 1), "ms_gain": 0.1} for i, name in enumerate(names)]
    path = tmp_path / "costs.json"
    head = {"schema": 1, "kind": "block_costs", "model_sha256": checkpoint.load(model).sha256, "removed": 0.5}
    path.write_text(json.dumps({**head, "blocks": rows}))
    guided = config.model_copy(update={"scope": "block_costs", "block_costs": str(path)})
    tables = []
    for scope, settings in (("global", config), ("block_costs", guided)):
        outputs = plan.make(model, settings, tmp_path / scope, Context.load(signs, imgsz=64))
        tables.append(read_json(outputs.widths))
    for table in tables:
        assert 1 - table["slim"]["macs"] / table["control"]["macs"] == pytest.approx(0.5, abs=0.03)
    assert tables[0]["layers"] != tables[1]["layers"]


def test_everything_survives_the_file(measured: Path, tmp_path: Path) -> None:
    """Reading a table and writing it again loses nothing; a key that is missing is named."""
    path = measured / "block_costs.json"
    BlockCostTable.load(path).save(tmp_path / "again.json")
    assert read_json(tmp_path / "again.json") == read_json(path)
    value = read_json(path)
    del value["blocks"][1]["round_ms"]["cut"]
    with pytest.raises(SlimError) as caught:
        BlockCostTable.from_json(value, "table")
    assert caught.value.culprits == ("blocks.1.round_ms.cut: Field required",)


class CountingDevice(FakeDevice):
    """Notes which block it is asked to time; one of them is interrupted, and one is timed on a hot board."""

    def __init__(self, *, interrupted: str = "", hot: str = "") -> None:
        super().__init__()
        self.interrupted, self.hot = interrupted, hot
        self.timed: list[str] = []

    def time_paired(
        self, before: Placed, after: Placed, images: Path, *, rounds: int, frames: int, max_celsius: float | None = None
    ) -> Paired:
        """Invent a gain, after the first call for a block has failed as it should."""
        name = after.spec.name
        self.timed.append(name)
        if name == self.interrupted:
            self.interrupted = ""
            raise KeyboardInterrupt
        reasons = ("too hot",) if name == self.hot else ()
        self.hot = "" if reasons else self.hot
        found = super().time_paired(before, after, images, rounds=rounds, frames=frames, max_celsius=max_celsius)
        return replace(found, invalid_reasons=reasons)


@pytest.fixture
def quick_export(monkeypatch: pytest.MonkeyPatch, trained: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Export every network as the same file."""
    onnx = tmp_path_factory.getbasetemp() / f"shared-{SMALL}.onnx"
    if not onnx.exists():
        export_onnx(trained, ExportConfig(), SMALL, onnx)
    monkeypatch.setattr(network_meter, "export_onnx", lambda _w, _c, _i, out: shutil.copyfile(onnx, out))


@pytest.mark.usefixtures("quick_export")
def test_interrupted_measurement_resumes(trained: Path, signs: Path, tmp_path: Path) -> None:
    """A finished block isn't measured again, an interrupted one is, and a complete table is skipped."""
    device, log = CountingDevice(interrupted="model.1"), Remembers()
    given = {"images": 4, "imgsz": SMALL, "device": device, "progress": log}
    pruning = only("model.0", "model.1", "model.8")
    with pytest.raises(KeyboardInterrupt):
        measure(trained, signs, tmp_path, pruning, **given)
    assert not (tmp_path / "manifest.json").exists()
    first = (tmp_path / "blocks/model.0.json").read_bytes()
    found = measure(trained, signs, tmp_path, pruning, **given)
    assert device.timed == ["model.0", "model.1", "model.1", "model.8"]
    assert "block-costs: resumes after 1 of 3 blocks" in log.said
    assert (tmp_path / "blocks/model.0.json").read_bytes() == first
    assert [row.name for row in found.blocks] == ["model.0", "model.1", "model.8"]
    assert measure(trained, signs, tmp_path, pruning, **given) == found
    assert log.said.endswith("block-costs: up to date, skipped\n")
    assert len(device.timed) == 4


@pytest.mark.usefixtures("quick_export")
def test_complete_table_by_other_settings(trained: Path, signs: Path, tmp_path: Path) -> None:
    """It is refused and kept, and what differs is named; an incomplete one is measured again."""
    device = CountingDevice()
    given = {"images": 4, "imgsz": SMALL, "device": device}
    found = measure(trained, signs, tmp_path, only("model.0"), **given)
    with pytest.raises(SlimError, match="complete table that was measured with other settings") as caught:
        measure(trained, signs, tmp_path, only("model.0"), removed=0.25, **given)
    assert caught.value.culprits == ("removed 0.5 -> 0.25",)
    other = CountingDevice()
    other.model = "Other Board"
    with pytest.raises(SlimError) as caught:
        measure(trained, signs, tmp_path, only("model.0"), images=4, imgsz=SMALL, device=other)
    assert caught.value.culprits == ("machine Example Board -> Other Board",)
    assert (device.timed, other.timed) == (["model.0"], [])
    assert BlockCostTable.load(tmp_path / "block_costs.json") == found
    (tmp_path / "manifest.json").unlink()
    measure(trained, signs, tmp_path, only("model.0"), removed=0.25, **given)
    assert device.timed == ["model.0", "model.0"]


@pytest.mark.usefixtures("quick_export")
def test_complete_table_by_another_revision(
    trained: Path, signs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is kept and named; with other settings beside the revision, it is refused."""
    device, log = CountingDevice(), Remembers()
    given = {"images": 4, "imgsz": SMALL, "device": device, "progress": log}
    found = measure(trained, signs, tmp_path, only("model.0"), **given)
    revision = f"this stage's own revision {block_costs.REVISION} -> 99"
    monkeypatch.setattr(block_costs, "REVISION", 99)
    assert measure(trained, signs, tmp_path, only("model.0"), **given) == found
    assert f"block-costs: kept although {revision}; choose another folder (--out) to measure again" in log.said
    with pytest.raises(SlimError, match="complete table that was measured with other settings") as caught:
        measure(trained, signs, tmp_path, only("model.0"), removed=0.25, **given)
    assert set(caught.value.culprits) == {"removed 0.5 -> 0.25", revision}
    assert device.timed == ["model.0"]


@pytest.mark.usefixtures("quick_export")
def test_throttled_block_is_measured_again(trained: Path, signs: Path, tmp_path: Path) -> None:
    """A block whose timing doesn't count is shown, leaves the table incomplete, and is measured by the next call."""
    device = CountingDevice(hot="model.0")
    pruning, given = only("model.0", "model.1"), {"images": 4, "imgsz": SMALL, "device": device}
    first = measure(trained, signs, tmp_path, pruning, **given)
    assert [row.invalid_reasons for row in first.blocks] == [("too hot",), ()]
    assert "Timings that don't count: too hot." in text(first)
    with pytest.raises(SlimError, match="the machine throttled") as caught:
        load_block_costs(tmp_path / "block_costs.json", first.model_sha256, SMALL)
    assert caught.value.culprits == ("model.0",)
    second = measure(trained, signs, tmp_path, pruning, **given)
    assert device.timed == ["model.0", "model.1", "model.0"]
    assert not any(row.invalid_reasons for row in second.blocks)
    measure(trained, signs, tmp_path, pruning, **given)
    assert len(device.timed) == 3


@pytest.mark.usefixtures("quick_export")
def test_everything_of_the_device_is_recorded(trained: Path, signs: Path, tmp_path: Path) -> None:
    """Machine, threads and whether it is the target are the device's, not this machine's."""
    device = CountingDevice()
    device.answer = False
    found = measure(trained, signs, tmp_path, only("model.0"), images=4, imgsz=SMALL, device=device)
    assert (found.machine.model, found.threads, found.is_measured_on_target) == ("Example Board", [4], False)
    assert "Example Board isn't the target host: the gains there are unproven." in text(found)


def test_folder_of_another_model(trained: Path, idle: Path, signs: Path, tmp_path: Path) -> None:
    """The folder of another model's table is refused as such, before anything is measured, and kept."""
    sha256 = checkpoint.load(idle).sha256
    with stage_claimed(tmp_path, "block-costs", model_sha256=sha256):
        (tmp_path / "block_costs.json").write_text("hours of work")
    call = ["block-costs", "--model", str(trained), "--data", str(signs), "--imgsz", "64", "--out", str(tmp_path)]
    code, _, err = run_cli(*call)
    assert code == 2
    assert "contains the results of another model" in err
    assert f"model_sha256: {sha256} there, {checkpoint.load(trained).sha256} now" in err
    assert (tmp_path / "block_costs.json").read_text() == "hours of work"
    assert not (tmp_path / "blocks").exists()


AGAIN = """
import json, sys
from pathlib import Path
from yolo_slim.config.run import BlockCostsConfig, PruneConfig
from yolo_slim.stages import block_costs
from yolo_slim.stages.context import Context
model, data, out, pruning, config, imgsz = sys.argv[1:]
inputs = block_costs.BlockCostsInputs(model=Path(model), pruning=PruneConfig(**json.loads(pruning)))
context = Context.load(Path(data), imgsz=int(imgsz), only_check=True)
block_costs.run(inputs, BlockCostsConfig(**json.loads(config)), Path(out), context)
print("torch" in sys.modules)
"""


def test_complete_table_is_recognised_without_torch(measured: Path, idle: Path, signs: Path) -> None:
    """The same call again is answered from the files, without torch, which takes seconds to import."""
    settings = [only(IDLE, BUSY).model_dump_json(), QUICK.model_dump_json(), str(IMGSZ)]
    command = [sys.executable, "-c", AGAIN, str(idle), str(signs), str(measured), *settings]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert (done.stdout, done.returncode) == ("False\n", 0), done.stderr


def test_table_of_an_earlier_version(measured: Path, idle: Path, tmp_path: Path) -> None:
    """A table of kind "sensitivity" is refused with what to do, by pruning and by the page."""
    path = tmp_path / "sensitivity.json"
    path.write_text(json.dumps({**read_json(measured / "block_costs.json"), "kind": "sensitivity"}))
    for read in (BlockCostTable.load, lambda file: load_block_costs(file, checkpoint.load(idle).sha256, IMGSZ)):
        with pytest.raises(
            SlimError, match=r'an earlier version of yolo_slim measured this table \(kind "sens'
        ) as caught:
            read(path)
        assert caught.value.remedy == "Measure the model again with `yolo-slim block-costs`."


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--removed", "0"], "block_costs.removed (--removed): got 0.0; expected: greater than 0"),
        (["--removed", "1"], "block_costs.removed (--removed): got 1.0; expected: less than 1"),
        (["--images", "-1"], "block_costs.images (--images): got -1"),
        (["--runtime", "onnxruntim"], "Unknown runtime 'onnxruntim'. Did you mean 'onnxruntime'?"),
        (["--runtime", "tensorrt"], "builds its engines on the device"),
        (["--imgsz", "100"], "Give --imgsz 96 or 128"),
        (["--set", "block_costs.round=3"], "Did you mean 'rounds'?"),
    ],
)
def test_bad_settings(trained: Path, signs: Path, tmp_path: Path, options: list[str], message: str) -> None:
    """Impossible settings are refused before anything is measured."""
    out = tmp_path / "costs"
    given = ["--model", str(trained), "--data", str(signs), "--out", str(out), "--imgsz", "64"]
    code, _, err = run_cli("block-costs", *given, *options)
    assert code == 2
    assert message in err
    assert not (out / "blocks").exists()


def test_other_tasks_and_few_images(trained: Path, signs: Path, tmp_path: Path) -> None:
    """Only detection has the mAP that is measured, and gradients need images."""
    from ultralytics.nn.tasks import SegmentationModel

    path = tmp_path / "segment.pt"
    torch.save({"model": SegmentationModel("yolo11n-seg.yaml", verbose=False)}, path)
    with pytest.raises(SlimError, match="not a detection checkpoint"):
        measure(path, signs, tmp_path / "out", PruneConfig())
    context = Context.load(signs, "host", imgsz=IMGSZ)
    splits = {**context.dataset.splits, "train": context.dataset.splits["train"][:15]}
    few = replace(context, dataset=replace(context.dataset, splits=splits))
    inputs = block_costs.BlockCostsInputs(model=trained, pruning=PruneConfig())
    with pytest.raises(SlimError, match="at least 16"):
        block_costs.run(inputs, QUICK, tmp_path / "out", few)
