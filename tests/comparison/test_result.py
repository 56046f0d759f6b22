"""compare.json: typed, complete, and readable from every schema there has been."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.helpers.comparisons import TRAINING, about, bench, network, timings, write_result
from tests.helpers.constants import ROOT
from tests.helpers.results import bench_of
from yolo_slim.comparison import page, text
from yolo_slim.comparison.about import settings_of
from yolo_slim.comparison.imported import read
from yolo_slim.comparison.methods import METHODS
from yolo_slim.comparison.migration import migrated
from yolo_slim.comparison.request import fair
from yolo_slim.comparison.result import CompareResult, Timing, load
from yolo_slim.comparison.summary import summarize
from yolo_slim.config.run import RunConfig
from yolo_slim.errors import SlimError
from yolo_slim.files import flat, read_json, write_json
from yolo_slim.measuring.rounds import merged

ALL_RECORDS = sorted((ROOT / "docs/benchmarks/records").glob("compare-*.json"))
RECORDS = [path for path in ALL_RECORDS if read_json(path)["schema"] == 1]


def test_to_and_from_json(tmp_path: Path) -> None:
    """What is written is read again as it was, timings, failures and trainings included."""
    networks = [network("ours", maps={"r": 0.5}, made=TRAINING), network("control", maps={"r": 0.6})]
    by_method = {"ours": bench(4.0), "control": bench(8.0, valid=False, invalid_reasons=("throttled",))}
    result = summarize(about("r", distill=3.0), networks, timings(networks, by_method))
    write_json(tmp_path / "compare.json", result.to_json())
    assert load(tmp_path / "compare.json") == result
    assert read_json(tmp_path / "compare.json")["schema"] == 2


def test_a_timing_keeps_its_statistics() -> None:
    """The statistics of a merged timing are taken out, the raw samples are not."""
    samples = {"pre": [1.0] * 3, "infer": [2.0] * 3, "post": [1.0] * 3, "total": [4.0] * 3}
    one = bench_of(samples, seconds=1.0, invalid_reasons=("throttled",))
    found = Timing.of(merged([one, one]))
    assert (found.p50_ms, found.fps, found.queries, found.seconds) == (4.0, 250.0, 6, 2.0)
    assert (found.round_p50_ms, found.round_network_p50_ms) == ((4.0, 4.0), (3.0, 3.0))
    assert (found.valid, found.invalid_reasons) == (False, ("throttled",))


def test_records_of_today() -> None:
    """A record that this version wrote is read as it is."""
    records = [path for path in ALL_RECORDS if path not in RECORDS]
    assert records
    assert all(load(path).to_json() == read_json(path) for path in records)


@pytest.mark.parametrize("record", RECORDS, ids=lambda path: path.stem)
def test_records_of_schema_1(record: Path) -> None:
    """A record of the first schema loses no figure, and page, table and text are made of it."""
    old = read_json(record)
    assert old["schema"] == 1
    result = load(record)
    assert len(result.methods) == len(old["arms"])
    values, before = _leaves(result.to_json()), _leaves(old)
    # Each seed's own MACs of the cut came later; the schema is another.
    for key in [key for key in values if key.endswith(".cut_macs")]:
        assert values.pop(key) == before.pop(
            key.replace("methods", "arms"), values[f"{key.removesuffix('cut_macs')}macs"]
        )
    assert sorted(map(str, values.values())) == sorted(map(str, {**before, "schema": 2}.values()))
    for shown in (page.render(result), text.markdown(result)):
        assert "ours" in shown
    words = " ".join(text.text(result).split())
    assert f"VERDICT: {old['verdict']['status']}" in words


def test_records_have_the_settings_of_today(tmp_path: Path) -> None:
    """A record's networks are imported by a comparison of today with the same settings, and refused by another one."""
    record = RECORDS[0]
    old = read_json(record)["settings"]
    model = tmp_path / "model.pt"
    model.write_text("weights")
    values = {"model": str(model), "data": "data.yaml", "imgsz": old["imgsz"], "target": old["target"]}
    pruning, training = {"round_to": old["prune.round_to"]}, {"epochs": old["recover.epochs"]}
    config = fair(RunConfig.model_validate({**values, "prune": pruning, "recover": training}))
    settings = {**settings_of(config, old["data_digest"]), "model_sha256": old["model_sha256"]}
    networks = read(record, settings)
    trained = [arm for arm in read_json(record)["arms"] if METHODS[arm["arm"]].trained]
    assert len(networks) == sum(len(arm["seeds"]) for arm in trained) > 0
    with pytest.raises(SlimError, match=r"prune\.steps: 3 there, 4 now"):
        read(record, {**settings, "prune.steps": 4})


def test_renamed_words_of_settings() -> None:
    """The scope that was called sensitivity is today's block_costs; a value that is no word stays."""
    settings = {"prune.scope": "sensitivity", "prune.sensitivity": "0" * 64, "prune.rounds": 2, "imgsz": 96}
    value = migrated({"kind": "comparison", "schema": 1, "settings": settings})
    assert value["settings"] == {
        "prune.scope": "block_costs",
        "prune.block_costs": "0" * 64,
        "prune.steps": 2,
        "imgsz": 96,
    }


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("", "Expecting value"),
        ("[]", "its kind isn't comparison"),
        ('{"schema": 1}', "its kind isn't comparison"),
        ('{"kind": "comparison", "schema": 3}', "its schema is 3"),
        ('{"kind": "comparison", "schema": 1, "settings": {}, "arms": [{"seeds": [{}]}]}', "Field required"),
        ('{"kind": "comparison", "schema": 2, "settings": [1], "methods": []}', "valid dictionary"),
    ],
)
def test_other_files(tmp_path: Path, content: str, why: str) -> None:
    """Files that aren't such results are refused by name and reason."""
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(SlimError, match=r"x.json isn't the result of a comparison") as caught:
        load(tmp_path / "x.json")
    assert why in " ".join(caught.value.culprits)
    with pytest.raises(SlimError, match=r"y.json can't be read"):
        load(tmp_path / "y.json")


def test_methods_of_a_newer_version_are_refused(tmp_path: Path) -> None:
    """A method that this version doesn't know is named."""
    value = write_result(tmp_path / "a.json", [network("ours", maps={"r": 0.1}, made=TRAINING)], {}).to_json()
    value["methods"][0]["method"] = "magic"
    write_json(tmp_path / "a.json", value)
    assert CompareResult.from_json(value).methods[0].method == "magic"
    with pytest.raises(SlimError, match="magic"):
        read(tmp_path / "a.json", {})


def _leaves(value: Any) -> dict[str, Any]:
    """Return every value of a JSON value by its path."""
    if isinstance(value, list):
        return _leaves({str(index): inner for index, inner in enumerate(value)})
    return flat({key: _leaves(inner) if isinstance(inner, (dict, list)) else inner for key, inner in value.items()})
