"""Bad models, data sets and profiles: one clear message with exit code 2, before anything is written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.helpers.cli import edit, refused, run_cli


def test_bad_models(trained: Path, signs: Path, tmp_path: Path) -> None:
    """Missing, truncated, foreign, fused and non-detection checkpoints are each told apart."""
    from ultralytics.nn.tasks import SegmentationModel

    assert f"File not found: {tmp_path / 'no.pt'}" in refused(tmp_path / "no.pt", signs, tmp_path)
    damaged = tmp_path / "cut.pt"
    damaged.write_bytes(trained.read_bytes()[:100_000])
    assert "truncated" in refused(damaged, signs, tmp_path)
    torch.save({"weights": torch.zeros(3)}, damaged)
    assert "not an Ultralytics checkpoint" in refused(damaged, signs, tmp_path)
    torch.save({"model": SegmentationModel("yolo11n-seg.yaml", verbose=False)}, damaged)
    assert "not a detection checkpoint" in refused(damaged, signs, tmp_path)
    content = torch.load(trained, weights_only=False)
    content["model"] = content["model"].float().fuse(verbose=False)
    torch.save(content, damaged)
    assert "fused checkpoint" in refused(damaged, signs, tmp_path)


def test_bad_data(trained: Path, copied: Path, tmp_path: Path) -> None:
    """All problems of a data set are reported at once, before anything is written."""
    root = copied.parent
    (root / "images/train/00003.jpg").write_bytes(b"\xff\xd8 no jpeg")
    (root / "labels/train/00004.txt").write_text("0 1.5 0.5 0.2 0.2\n")
    (root / "labels/val/00001.txt").write_text("99 0.5 0.5 0.2 0.2\n")
    message = refused(trained, copied, tmp_path)
    assert "00003.jpg" in message
    assert "outside the image" in message
    assert "class 99 is out of range" in message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"val": None}, "val: this key is missing"),
        ({"train": "images/none"}, "does not exist"),
        ({"names": ["a", "b"]}, "it has 2 classes, the model has 8"),
        ({"names": list("abcdefgh")}, "its classes have other names than the model's."),
        ({"names": [*"abcdefg", " "]}, "names: class 7 has the name ' '"),
        ({"names": {None: "cat"}}, "names: got {None: 'cat'}; expected a list or a mapping of class id to name"),
        ({"names": {float("inf"): "cat"}}, "names: got {inf: 'cat'}; expected a list"),
    ],
)
def test_bad_description(trained: Path, copied: Path, tmp_path: Path, change: dict[str, object], message: str) -> None:
    """Missing splits and images, and classes other than the model's, are refused."""
    edit(copied, **change)
    assert message in refused(trained, copied, tmp_path)


def test_bad_profile(trained: Path, signs: Path, tmp_path: Path) -> None:
    """An own profile's unknown keys and wrong types are reported together."""
    profile = tmp_path / "mine.yaml"
    profile.write_text("name: mine\ndescription: x\narch: any\nthreads: two\nbudgett: {}\nruntimes: []\n")
    message = refused(trained, signs, tmp_path, "--target", str(profile))
    assert "budgett: unknown key. Did you mean 'budget'?" in message
    assert "threads: got 'two'" in message


def test_missing_files_and_folders(trained: Path, signs: Path, tmp_path: Path) -> None:
    """What isn't there, or is a folder, is one message, whichever file it is."""
    given = ["--data", str(signs), "--imgsz", "64"]
    by_map = ["--set", "prune.scope=block_costs", "--set", "prune.block_costs=map.json"]
    for command, message in (
        (["plan", "show", str(tmp_path)], "A folder where a file is wanted"),
        (["prune", str(trained), *given, "--config", str(tmp_path)], "A folder where a file is wanted"),
        (["compare", "--model", "no.pt", *given, *by_map], "File not found: no.pt"),
    ):
        code, _, err = run_cli(*command)
        assert (code, message in err, "Traceback" in err) == (2, True, False), err


def test_two_teachers(trained: Path, untrained: Callable[[str], Path], signs: Path, tmp_path: Path) -> None:
    """Recover doesn't let --teacher silently win over the settings' teacher; the same one twice is fine."""
    given = ["recover", str(trained), "--teacher", str(trained), "--data", str(signs), "--imgsz", "64"]
    larger = f"recover.teacher={untrained('yolo11n')}"
    code, _, err = run_cli(*given, "--out", str(tmp_path / "out"), "--set", larger)
    assert (code, "Two teachers are given" in err) == (2, True)
