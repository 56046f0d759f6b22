"""A result.json is read back unchanged, or refused clearly."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.helpers.results import changed, complete_result, unproven_result
from yolo_slim.build_key import BuildKey, BuildName
from yolo_slim.errors import SlimError
from yolo_slim.verdict.result import RESULT_SCHEMA, Result


@pytest.mark.parametrize("result", [complete_result(), unproven_result()], ids=["complete", "unproven"])
def test_saved_and_loaded(result: Result, tmp_path: Path) -> None:
    """Nothing is lost between memory and file, raw samples included."""
    path = tmp_path / "result.json"
    result.save(path)
    assert Result.load(path) == result
    assert json.loads(path.read_text())["schema"] == RESULT_SCHEMA


def test_earlier_version_is_refused() -> None:
    """Schema 1 named builds otherwise: it isn't read by halves."""
    with pytest.raises(SlimError, match="earlier version of yolo_slim") as refusal:
        Result.from_json({"schema": 1, "ladder": [], "builds": [], "verdict": {}}, "old.json")
    assert "yolo-slim validate" in refusal.value.remedy


def test_newer_version_is_refused() -> None:
    """What a newer yolo_slim wrote may mean something else."""
    newer = {**complete_result().to_json(), "schema": RESULT_SCHEMA + 1}
    with pytest.raises(SlimError, match="a newer version made it"):
        Result.from_json(newer)


@pytest.mark.parametrize("value", [None, [], {}, {"kind": "comparison", "schema": 2}])
def test_other_files_are_refused(value: object) -> None:
    """A JSON file that isn't a result is called so."""
    with pytest.raises(SlimError, match="is no result of a validation"):
        Result.from_json(value)


def test_damaged_result_names_every_problem(tmp_path: Path) -> None:
    """A key that is missing, one that is unknown and a wrong type are reported at once; broken JSON too."""
    value = complete_result().to_json()
    value["imgsz"] = "640"
    value["unknown"] = 1
    del value["notes"]
    with pytest.raises(SlimError, match="damaged or incomplete") as refusal:
        Result.from_json(value)
    assert {problem.split(":")[0] for problem in refusal.value.culprits} == {"imgsz", "unknown", "notes"}
    (tmp_path / "cut.json").write_text('{"schema": 2, ')
    with pytest.raises(SlimError, match="damaged"):
        Result.load(tmp_path / "cut.json")


def test_finding_parts() -> None:
    """The winner, its control, its speed-up and the rung that stands for the slim model belong together."""
    result = complete_result()
    best = result.best
    assert best is not None
    partner, gain, rung = result.partner(best), result.speedup(best), result.slim_rung
    assert partner is not None
    assert gain is not None
    assert rung is not None
    assert (str(partner.key), gain.ratio, rung.rung) == ("control/ncnn-fp16", 1.876, "ncnn-fp16")
    assert result.speedup(partner) is None
    assert result.missing_rungs == ()
    assert unproven_result().missing_rungs == ("recovered", "onnx", "onnxruntime-fp32", "ncnn-fp16")


def test_without_a_winner_the_last_rung_stands_for_slim() -> None:
    """The report still has something to compare with the control."""
    rung = changed(complete_result(), winner=None).slim_rung
    assert rung.rung == "ncnn-fp16"
    assert unproven_result().slim_rung.rung == "pruned"  # type: ignore[union-attr]


def test_key_is_written_and_read() -> None:
    """The written form and its parts."""
    key = BuildKey("slim", BuildName("ncnn", "fp16"))
    assert str(key) == "slim/ncnn-fp16"
    assert BuildKey.parse("slim/ncnn-fp16") == key
    assert key.is_slim
    assert not BuildKey.parse("control/ncnn-fp16").is_slim


@pytest.mark.parametrize(
    ("text", "fact"),
    [("slim-ncnn-fp16", "no build of a model"), ("slim/ncnm-fp16", "ncnn"), ("slim/ncnn", "precision"), ("", "model")],
)
def test_wrong_keys_are_refused(text: str, fact: str) -> None:
    """A typo is named, never guessed."""
    with pytest.raises(SlimError) as refusal:
        BuildKey.parse(text)
    assert fact in str(refusal.value)
