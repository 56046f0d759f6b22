"""Wrong commands on a device: what is printed, word by word."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from yolo_slim.bundle import BUNDLE_JSON
from yolo_slim.runtime.__main__ import main
from yolo_slim.runtime.arguments import PROG

WHAT = (
    "A bundle is a folder with bundle.json and the files of a model, or its .tar.gz. On the workstation, "
    "`yolo-slim run` writes bundles to runs/slim/NAME/build/slim."
)


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in an empty folder."""
    monkeypatch.chdir(tmp_path)


def printed(typed: str, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The lines of a refusal; nothing else is printed, and the exit code is 2."""
    try:
        code: object = main(shlex.split(typed))
    except SystemExit as ended:
        code = ended.code
    out, err = capsys.readouterr()
    assert (code, out) == (2, ""), err
    return err.splitlines()


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("bench x --minuets 10", "No such option '--minuets'. Did you mean '--minutes'?"),
        ("bench x --qiuet", "No such option '--qiuet'. Did you mean '--quiet'?"),
        ("bench x --onyl", "No such option '--onyl'."),
        ("bench x --threads", "--threads: expected one argument"),
        ("bench x --queries 0", "--queries: got 0, expected a positive integer"),
        ("infer x y --out z --mode vla", "--mode: got 'vla'. Did you mean 'val'?"),
        ("infer x y --out z --mode other", "--mode: got 'other'. Choose from val, predict."),
        ("check", "The following arguments are required: BUNDLE"),
        ("check x y z", "Unexpected: y z."),
        ("camera x --host 0.0.0.0", "No such option '--host'. It is now called '--listen'."),
        ("camera x --host=0.0.0.0", "No such option '--host'. It is now called '--listen'."),
    ],
)
def test_options(typed: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    """An option that is mistyped, renamed or none says what was meant, and where the help is."""
    assert printed(typed, capsys) == [f"error: {message}", f"See `{PROG} {typed.split()[0]} --help`."]


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("chek x", "No such command 'chek'. Did you mean 'check'?"),
        (
            "fly",
            "No such command 'fly'. "
            "Choose from doctor, build, check, tune, bench, detect, infer, pair, layers, camera.",
        ),
        ("", "The following arguments are required: COMMAND"),
    ],
)
def test_commands(typed: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A command that is mistyped says what was meant, another one what there is."""
    assert printed(typed, capsys) == [f"error: {message}", f"See `{PROG} --help`."]


@pytest.mark.parametrize(
    ("typed", "lines"),
    [
        ("check no", ["File not found: no (BUNDLE)", "Give a bundle folder or its .tar.gz."]),
        ("camera no", ["File not found: no (BUNDLE)", "Give a bundle folder or its .tar.gz."]),
        (
            "camera here --control no --source scene",
            ["File not found: no (--control)", "Give a bundle folder or its .tar.gz."],
        ),
        ("detect here no", ["File not found: no (SOURCE)", "Give an image, a folder of images or a video."]),
        ("bench here --images no", ["File not found: no (--images)", "Give an image, a folder of images or a video."]),
        (
            "pair no other --images here",
            [
                "2 files are not found.",
                "  - no (BEFORE)",
                "  - other (AFTER)",
                "Give a bundle folder or its .tar.gz.",
            ],
        ),
    ],
)
def test_files_that_are_not_there(
    typed: str, lines: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every one is named with what named it."""
    (tmp_path / "here").mkdir()
    assert printed(typed, capsys) == [f"error: {lines[0]}", *lines[1:]]


COMMANDS = ("doctor here", "build here", "check here", "tune here", "bench here", "detect here here", "layers here",
            "pair here here --images here")  # fmt: skip
"""All that have --json."""


@pytest.mark.parametrize("command", [*COMMANDS, "infer here here"])
def test_answer_that_can_not_be_written(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is refused before anything is read, which would find no bundle here; a good place reaches that (control)."""
    (tmp_path / "here").mkdir()
    (tmp_path / "photo.jpg").touch()
    option = "--out" if command.startswith("infer") else "--json"
    for place in (".", "..", "here", "''"):
        name = "." if place == "''" else place
        assert printed(f"{command} {option} {place}", capsys) == [
            f"error: A folder where a file is wanted: {name} ({option})", f"Name a file in it: {Path(name) / 'NAME'}",
        ]  # fmt: skip
    if option == "--json":
        assert printed(f"{command} --json 'my out/deep/b.json'", capsys) == [
            "error: There is no folder my out/deep (--json my out/deep/b.json).",
            "Make it first: mkdir -p 'my out/deep'",
        ]
        assert printed(f"{command} --json photo.jpg/b.json", capsys) == [
            "error: photo.jpg is a file, not a folder (--json photo.jpg/b.json).", "Name a file in a folder.",
        ]  # fmt: skip
    assert printed(f"{command} {option} /dev/null", capsys)[0] == f"error: No ordinary file: /dev/null ({option})"
    with monkeypatch.context() as closed:
        closed.setattr("yolo_slim.files.os.access", lambda *_: False)
        lines = printed(f"{command} {option} here/b.json", capsys)
        assert lines[0] == f"error: The folder can't be written: here ({option} here/b.json)."
    assert f"({option}" not in printed(f"{command} {option} here/b.json", capsys)[0]
    assert f"({option}" not in printed(f"{command} {option} photo.jpg", capsys)[0]


def test_folder_that_is_no_bundle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The message says what a bundle is and where one is made; half of one is to be copied again."""
    (tmp_path / "photos").mkdir()
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "model.ncnn.param").touch()
    (tmp_path / "data.yaml").touch()
    assert printed("check photos", capsys) == ["error: Not a bundle: photos has no bundle.json.", WHAT]
    assert printed("check half", capsys)[1] == "Copy the bundle to this device again, or build it again."
    assert printed("check data.yaml", capsys) == [
        "error: Not a bundle: data.yaml is neither a folder nor a .tar.gz.", WHAT,
    ]  # fmt: skip


@pytest.mark.parametrize("given", ["run", "run/build", "run/build/slim"])
def test_folder_with_bundles(given: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The folder of a run, and every folder in it above the bundles, leads to them."""
    for build in ("ncnn-fp16", "onnxruntime-fp32"):
        place = tmp_path / "run" / "build" / "slim" / build
        place.mkdir(parents=True)
        (place / BUNDLE_JSON).touch()
    assert printed(f"check {given}", capsys) == [
        f"error: Not a bundle: {given} has no bundle.json.",
        "  - run/build/slim/ncnn-fp16 is a bundle", "  - run/build/slim/onnxruntime-fp32 is a bundle",
        "Give one of these.",
    ]  # fmt: skip
