from __future__ import annotations

import io
import json
import os
import re
import shutil
import tarfile
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from yolo_slim.bundle import (
    BUNDLE_JSON,
    BUNDLE_SCHEMA,
    PRECISIONS,
    RUNTIMES,
    BundleSpec,
    open_bundle,
    pack,
)
from yolo_slim.errors import SlimError
from yolo_slim.requirements import Requirements


def edit(bundle: Path, **changes: Any) -> None:
    """Change keys of bundle.json."""
    path = bundle / BUNDLE_JSON
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def refusal(path: Path) -> SlimError:
    """Return the error that opening raises."""
    with pytest.raises(SlimError) as caught:
        open_bundle(path)
    return caught.value


def test_json_round_trip(tiny_bundle: Path) -> None:
    """bundle.json read and written again is the same."""
    value = json.loads((tiny_bundle / BUNDLE_JSON).read_text())
    assert BundleSpec.from_json(value).to_json() == value


def test_changed_byte_is_named(own_bundle: Path) -> None:
    """One changed byte of the model is found, the file named."""
    content = bytearray((own_bundle / "model.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (own_bundle / "model.onnx").write_bytes(content)
    assert refusal(own_bundle).culprits == ("model.onnx: content changed (SHA-256 differs)",)


def test_every_damaged_file_is_named(own_bundle: Path) -> None:
    """Missing and cut off files are all named at once."""
    (own_bundle / "model.onnx").unlink()
    (own_bundle / "selfcheck/1.png").write_bytes(b"")
    culprits = refusal(own_bundle).culprits
    assert culprits[0] == "model.onnx: missing"
    assert culprits[1].startswith("selfcheck/1.png: 0 bytes, expected ")
    assert len(culprits) == 2


def test_schema_1_is_read(own_bundle: Path) -> None:
    """A bundle of an earlier yolo_slim opens: what it named ``build`` is ``engine``, and it requires nothing."""
    edit(own_bundle, schema=1, build={"workspace_mb": 512})
    spec = open_bundle(own_bundle).spec
    assert spec.engine == {"workspace_mb": 512}
    assert spec.requires.to_json() == {}
    assert spec.schema == BUNDLE_SCHEMA


def test_build_is_unknown_in_schema_2(own_bundle: Path) -> None:
    """The old name isn't accepted where it can't come from an earlier yolo_slim."""
    edit(own_bundle, build={"workspace_mb": 512})
    assert "build: unknown key" in refusal(own_bundle).culprits[0]


def test_newer_schema(own_bundle: Path) -> None:
    """A bundle of a newer yolo_slim says so, even when its keys are unknown here."""
    edit(own_bundle, schema=BUNDLE_SCHEMA + 1, brand_new_key=1)
    error = refusal(own_bundle)
    assert f"schema {BUNDLE_SCHEMA + 1}, this yolo_slim reads up to {BUNDLE_SCHEMA}" in error.fact
    assert "pip install --upgrade" in error.remedy


def test_all_problems_at_once(own_bundle: Path) -> None:
    """Unknown keys and impossible values are listed together, with the key meant."""
    edit(own_bundle, thread=2, threads=0, runtime="tflite", conf=2, model={"onnx": "../model.onnx"})
    text = str(refusal(own_bundle))
    assert "5 problem(s)" in text
    for part in ("Did you mean 'threads'?", "threads: got 0", "runtime: got 'tflite'", "conf: got 2", "model: got"):
        assert part in text


@pytest.mark.parametrize("content", ["", "{", "[]", '{"schema": 1'])
def test_cut_off_bundle_json(own_bundle: Path, content: str) -> None:
    """A bundle.json that isn't complete JSON is refused with the remedy to copy again."""
    (own_bundle / BUNDLE_JSON).write_text(content)
    assert "Copy the bundle" in refusal(own_bundle).remedy


def test_not_a_bundle(tmp_path: Path) -> None:
    """A folder without bundle.json and a path that doesn't exist have different messages."""
    assert "Not a bundle" in refusal(tmp_path).fact
    assert "not found" in refusal(tmp_path / "nothing").fact


def test_tar_is_deterministic(own_bundle: Path, tmp_path: Path) -> None:
    """Packing twice, with other file times in between, gives equal bytes."""
    (tmp_path / "a").mkdir()
    pack(own_bundle, tmp_path / "a" / "tiny.tar.gz")
    for path in own_bundle.rglob("*"):
        os.utime(path, (1, 1))
    (tmp_path / "b").mkdir()
    pack(own_bundle, tmp_path / "b" / "tiny.tar.gz")
    assert (tmp_path / "a/tiny.tar.gz").read_bytes() == (tmp_path / "b/tiny.tar.gz").read_bytes()


def test_tar_opens_as_the_folder_does(own_bundle: Path, tmp_path: Path) -> None:
    """An archive opens to the same specification and is unpacked only once."""
    archive = tmp_path / "tiny.tar.gz"
    pack(own_bundle, archive)
    first = open_bundle(archive)
    assert first.spec == open_bundle(own_bundle).spec
    stamp = (first.folder / BUNDLE_JSON).stat().st_mtime_ns
    again = open_bundle(archive)
    assert again.folder == first.folder
    assert (again.folder / BUNDLE_JSON).stat().st_mtime_ns == stamp


def test_spoiled_bundle_is_not_packed(own_bundle: Path, tmp_path: Path) -> None:
    """A bundle that lacks a file is refused, and no archive is left."""
    (own_bundle / "model.onnx").unlink()
    with pytest.raises(SlimError):
        pack(own_bundle, tmp_path / "tiny.tar.gz")
    assert not (tmp_path / "tiny.tar.gz").exists()


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_truncated_tar(own_bundle: Path, tmp_path: Path, share: float) -> None:
    """An archive cut off anywhere is refused and leaves no half-unpacked folder."""
    archive = tmp_path / "tiny.tar.gz"
    pack(own_bundle, archive)
    content = archive.read_bytes()
    archive.write_bytes(content[: int(len(content) * share)])
    assert "damaged, cut off or not a .tar.gz" in refusal(archive).fact
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "tiny.tar.gz"]


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "bundle/../../evil"])
def test_tar_that_leaves_its_folder(tmp_path: Path, name: str) -> None:
    """An archive with a path outside the bundle is refused and nothing is written."""
    archive = tmp_path / "evil.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.addfile(tarfile.TarInfo(name), io.BytesIO())
    assert "doesn't belong" in refusal(archive).fact
    assert [path.name for path in tmp_path.iterdir()] == ["evil.tar.gz"]


def table_keys(text: str) -> list[str]:
    """The keys in the first column of a page's tables."""
    return [key for row in re.findall(r"^\| ([a-z0-9_, ]+) \|", text, re.MULTILINE) for key in row.split(", ")]


def test_page_describes_every_key() -> None:
    """docs/bundle.md has the keys, runtimes and precisions that the code has."""
    text = (Path(__file__).parents[2] / "docs/bundle.md").read_text(encoding="utf-8")
    section = text.split(f"## bundle.json (schema {BUNDLE_SCHEMA})")[1].split("\n## ")[0]
    of_bundle, of_requires = section.split("| part of `requires` |")
    assert set(table_keys(of_bundle)) - {"key"} == {field.name for field in fields(BundleSpec)}
    assert set(table_keys(of_requires)) == {field.name for field in fields(Requirements)}
    assert [name for name in (*RUNTIMES, *PRECISIONS) if name not in section] == []


def test_what_people_take_for_a_bundle(tiny_bundle: Path, tmp_path: Path) -> None:
    """A model file is named as such, and a folder of bundles lists them."""
    (tmp_path / "best.pt").write_bytes(b"PK")
    assert refusal(tmp_path / "best.pt").fact == f"{tmp_path / 'best.pt'} is a model, not a bundle."
    shutil.copytree(tiny_bundle, tmp_path / "build" / "onnxruntime-fp32")
    found = refusal(tmp_path / "build")
    assert found.culprits == (f"{tmp_path / 'build' / 'onnxruntime-fp32'} is a bundle",)
    assert found.remedy == "Give one of these."
    assert refusal(tmp_path).culprits == found.culprits
    (tmp_path / "photos").mkdir()
    assert refusal(tmp_path / "photos").culprits == ()
