"""The table of block costs: what it measures, that pruning follows it, and that a stopped run loses no block."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.helpers.cli import run_cli
from tests.helpers.cuts import ranked
from yolo_slim.config.run import BlockCostsConfig, ExportConfig, PruneConfig
from yolo_slim.errors import SlimError
from yolo_slim.export.onnx import export_onnx
from yolo_slim.files import read_json
from yolo_slim.models import checkpoint
from yolo_slim.pruning.block_costs import load_block_costs
from yolo_slim.pruning.blockwise import blocks_of
from yolo_slim.pruning.groups import trace_channels
from yolo_slim.reporting.block_costs import csv_text, render, text
from yolo_slim.stages import block_costs as block_costs
from yolo_slim.stages import prune
from yolo_slim.stages.context import Context
from yolo_slim.version import __version__

IMGSZ = 160
IDLE, BUSY = "model.8", "model.2"
"""The block whose weakest half nothing reads, and one that everything rests on."""
QUICK = BlockCostsConfig(rounds=2, frames=2)


def only(*blocks: str, **settings: Any) -> PruneConfig:
    """Return settings of prune under which no other blocks give channels up."""
    layers = (*range(11), 13, 16, 17, 19, 20, 22)
    others = [f"model.{i}" for i in layers if f"model.{i}" not in blocks]
    return PruneConfig(protect=[*others, "model.23.cv2", "model.23.cv3"], images=16, bn_images=16, **settings)


def measure(model: Path, data: Path, out: Path, pruning: PruneConfig, **settings: Any) -> dict[str, Any]:
    """Return the map that the stage writes."""
    config = QUICK.model_copy(update=settings)
    given = block_costs.BlockCostsInputs(model=model)
    outputs = block_costs.run(given, config, pruning, out, Context.load(data, "host", imgsz=IMGSZ))
    return read_json(outputs.map)


@pytest.fixture(scope="module")
def idle(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the shipped yolo11n with half of every space of :data:`IDLE` read by nothing."""
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
    """Return the folder of a measured map of two blocks."""
    folder = tmp_path_factory.mktemp("measured") / "map"
    measure(idle, signs, folder, only(IDLE, BUSY))
    return folder


def test_idle_block_costs_nothing(measured: Path) -> None:
    """Cutting what nothing reads costs no mAP, cutting as much of a block that matters does; both save MACs."""
    found = read_json(measured / "block_costs.json")
    rows = {row["name"]: row for row in found["blocks"]}
    assert set(rows) == {IDLE, BUSY}
    assert found["control"]["map50_95"] > 0.2
    assert abs(rows[IDLE]["map_cost"]) < 0.005
    assert rows[BUSY]["map_cost"] > 0.05
    for row in rows.values():
        assert row["map50_95"] == pytest.approx(found["control"]["map50_95"] - row["map_cost"])
        assert row["macs_saved"] > 0
        assert row["channels_kept"] == row["channels"] / 2
        assert row["ms_gain_lowest"] <= row["ms_gain"] <= row["ms_gain_highest"]
        assert len(row["round_ms"]["cut"]) == QUICK.rounds


def test_map_says_where_it_comes_from(measured: Path, signs: Path) -> None:
    """Accuracy is of validation images, and runtime, threads, machine, versions and date stand in the file."""
    found = read_json(measured / "block_costs.json")
    assert found["data"] == {"yaml": signs.name, "split": "val", "images": 16}
    assert found["runtime"] == "onnxruntime fp32"
    assert found["threads"] >= 1
    assert {"machine", "versions", "measured_at", "ms_of", "criterion"} <= set(found)


def test_map_of_another_runtime(idle: Path, signs: Path, tmp_path: Path) -> None:
    """Milliseconds can be those of NCNN, and the map says so."""
    found = measure(idle, signs, tmp_path / "map", only(IDLE), runtime="ncnn")
    assert found["runtime"] == "ncnn fp16"
    (row,) = found["blocks"]
    assert abs(row["map_cost"]) < 0.005
    assert all(ms > 0 for side in row["round_ms"].values() for ms in side)


def test_outputs_for_people(measured: Path) -> None:
    """The table has a block a line, and the page loads nothing from elsewhere and draws every block."""
    found = read_json(measured / "block_costs.json")
    assert (measured / "block_costs.csv").read_text() == csv_text(found)
    assert [line.split(",")[0] for line in csv_text(found).splitlines()] == ["name", BUSY, IDLE]
    page = (measured / "block_costs.html").read_text()
    assert page == render(found)
    assert "http" not in page
    assert page.count('class="slim"') == len(found["blocks"])
    assert all(f">{name}</text>" in page for name in (IDLE, BUSY))
    assert IDLE in text(found)
    assert "unproven" not in text(found)
    assert "This machine is not a host" in text({**found, "target_is_this_machine": False})


def test_prune_follows_a_measured_map(measured: Path, idle: Path, signs: Path, tmp_path: Path) -> None:
    """With the map as it was written, pruning takes from the block that costs nothing and reaches its budget."""
    guided = only(IDLE, BUSY, macs_removed=0.02, scope="block_costs", block_costs=str(measured / "block_costs.json"))
    outputs = prune.dry_run(prune.PruneInputs(model=idle), guided, tmp_path, Context.load(signs, imgsz=IMGSZ))
    table = read_json(outputs.widths)
    assert 1 - table["slim"]["macs"] / table["control"]["macs"] == pytest.approx(0.02, abs=0.01)
    narrowed = {row["layer"].split(".")[1] for row in table["layers"] if row["after"] < row["before"]}
    assert narrowed == {IDLE.split(".")[1]}


@pytest.mark.parametrize("family", ["yolov8n", "yolo26n"])
def test_whole_map_decides_allocation(
    family: str, untrained: Callable[[str], Path], signs: Path, tmp_path: Path
) -> None:
    """A map with a row for every block makes other widths than the global scope, at the same budget."""
    model = untrained(family)
    config = PruneConfig(criterion="l2", normalize="mean", steps=1)
    names = [block.name for block in blocks_of(ranked(checkpoint.load(model).model, config))]
    rows = [{"name": name, "map_cost": 0.1 / (i + 1), "ms_gain": 0.1} for i, name in enumerate(names)]
    path = tmp_path / "map.json"
    head = {"schema": 1, "kind": "block_costs", "model_sha256": checkpoint.load(model).sha256, "removed": 0.5}
    path.write_text(json.dumps({**head, "blocks": rows}))
    guided = config.model_copy(update={"scope": "block_costs", "block_costs": str(path)})
    tables = []
    for scope, settings in (("global", config), ("block_costs", guided)):
        inputs = prune.PruneInputs(model=model)
        tables.append(
            read_json(prune.dry_run(inputs, settings, tmp_path / scope, Context.load(signs, imgsz=64)).widths)
        )
    for table in tables:
        assert 1 - table["slim"]["macs"] / table["control"]["macs"] == pytest.approx(0.5, abs=0.03)
    assert tables[0]["layers"] != tables[1]["layers"]


def test_details_survive_the_file(measured: Path, idle: Path, tmp_path: Path) -> None:
    """Reading a map and writing it again loses nothing."""
    path = measured / "block_costs.json"
    load_block_costs(path, checkpoint.load(idle).sha256, IMGSZ).save(tmp_path / "again.json")
    assert read_json(tmp_path / "again.json") == read_json(path)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch, trained: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Return the list of measured blocks; every network is exported as the same file, which is quick."""
    onnx = tmp_path_factory.getbasetemp() / f"shared-{IMGSZ}.onnx"
    if not onnx.exists():
        export_onnx(trained, ExportConfig(), IMGSZ, onnx)
    monkeypatch.setattr(block_costs, "export_onnx", lambda _w, _c, _i, out: shutil.copyfile(onnx, out))
    seen: list[str] = []
    measure_block = block_costs._Meter._block

    def count(self: Any, ranked: Any, block: Any, *rest: Any) -> Any:
        seen.append(block.name)
        if seen.count("stop") < 1 and len(seen) == 2:
            seen.append("stop")
            raise KeyboardInterrupt
        return measure_block(self, ranked, block, *rest)

    monkeypatch.setattr(block_costs._Meter, "_block", count)
    return seen


def test_stopped_run_goes_on(
    counted: list[str], trained: Path, signs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A finished block isn't measured again, an interrupted one is, and a finished map is kept whole."""
    pruning = only("model.0", "model.1", "model.8")
    with pytest.raises(KeyboardInterrupt):
        measure(trained, signs, tmp_path, pruning, images=4)
    assert not (tmp_path / "manifest.json").exists()
    first = (tmp_path / "blocks/model.0.json").read_bytes()
    found = measure(trained, signs, tmp_path, pruning, images=4)
    assert counted == ["model.0", "model.1", "stop", "model.1", "model.8"]
    assert (tmp_path / "blocks/model.0.json").read_bytes() == first
    assert [row["name"] for row in found["blocks"]] == ["model.0", "model.1", "model.8"]
    assert measure(trained, signs, tmp_path, pruning, images=4) == found
    assert len(counted) == 5
    with pytest.raises(SlimError, match="holds a whole map that was measured otherwise") as caught:
        measure(trained, signs, tmp_path, pruning, images=4, removed=0.25)
    assert caught.value.culprits == ("removed: 0.5 -> 0.25",)
    with monkeypatch.context() as updated:
        updated.setattr("yolo_slim.workspace.job.__version__", "9.9")
        with pytest.raises(SlimError, match="holds a whole map that was measured otherwise") as caught:
            measure(trained, signs, tmp_path, pruning, images=4)
    assert caught.value.culprits == (f"yolo_slim: {__version__} -> 9.9",)
    assert (len(counted), read_json(tmp_path / "block_costs.json")) == (5, found)
    (tmp_path / "manifest.json").unlink()
    measure(trained, signs, tmp_path, pruning, images=4, removed=0.25)
    assert counted[5:] == ["model.0", "model.1", "model.8"]


def test_throttled_block_is_measured_again(
    counted: list[str], trained: Path, signs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A block whose timing doesn't count is told, leaves the map unfinished, and the next call measures it alone."""
    counted.append("stop")
    timed, hot = block_costs._Meter._timed, ["too hot"]

    def throttled(self: Any, *given: Any) -> dict[str, Any]:
        return {**timed(self, *given), "invalid_reasons": [hot.pop()] if hot else []}

    monkeypatch.setattr(block_costs._Meter, "_timed", throttled)
    pruning = only("model.0", "model.1")
    first = measure(trained, signs, tmp_path, pruning, images=4)
    assert [row["invalid_reasons"] for row in first["blocks"]] == [["too hot"], []]
    second = measure(trained, signs, tmp_path, pruning, images=4)
    assert counted == ["stop", "model.0", "model.1", "model.0"]
    assert not any(row["invalid_reasons"] for row in second["blocks"])
    measure(trained, signs, tmp_path, pruning, images=4)
    assert len(counted) == 4


def test_folder_of_another_map(counted: list[str], measured: Path, trained: Path, signs: Path) -> None:
    """A folder that holds another model's map is refused and keeps it."""
    before = (measured / "block_costs.json").read_bytes()
    with pytest.raises(SlimError, match="holds the map of another model"):
        measure(trained, signs, measured, only("model.0"))
    assert (measured / "block_costs.json").read_bytes() == before
    assert not counted


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--removed", "0"], "block_costs.removed: got 0.0; expected: greater than 0"),
        (["--removed", "1"], "block_costs.removed: got 1.0; expected: less than 1"),
        (["--images", "-1"], "block_costs.images: got -1"),
        (["--runtime", "onnxruntim"], "Unknown runtime 'onnxruntim'. Did you mean 'onnxruntime'?"),
        (["--runtime", "tensorrt"], "builds its engines on the device"),
        (["--imgsz", "100"], "Set IMGSZ to 96 or 128"),
        (["--set", "block_costs.round=3"], "Did you mean 'rounds'?"),
    ],
)
def test_bad_settings(trained: Path, signs: Path, tmp_path: Path, options: list[str], message: str) -> None:
    """Impossible settings are refused before anything is measured."""
    out = tmp_path / "map"
    given = ["--model", str(trained), "--data", str(signs), "--out", str(out), "--imgsz", "64"]
    code, _, err = run_cli("block-costs", *given, *options)
    assert code == 2
    assert message in err
    assert not (out / "blocks").exists()


def test_other_tasks_and_few_images(
    trained: Path, signs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only detection has the mAP that is measured, and gradients want images."""
    from ultralytics.nn.tasks import SegmentationModel

    path = tmp_path / "segment.pt"
    torch.save({"model": SegmentationModel("yolo11n-seg.yaml", verbose=False)}, path)
    with pytest.raises(SlimError, match="not a detection checkpoint"):
        measure(path, signs, tmp_path / "out", PruneConfig())
    whole = block_costs.load_dataset(signs)
    few = replace(whole, splits={**whole.splits, "train": whole.splits["train"][:15]})
    monkeypatch.setattr(block_costs, "load_dataset", lambda _: few)
    with pytest.raises(SlimError, match="wants at least 16"):
        measure(trained, signs, tmp_path / "out", PruneConfig())
