"""One walk through a folder for every command: what is an image, and a word about everything else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.helpers.tiny_detector import save_scene
from yolo_slim.errors import SlimError
from yolo_slim.runtime.folders import find_images


def found(folder: Path) -> list[str]:
    """Return the images' paths below a folder."""
    return [path.relative_to(folder).as_posix() for path in find_images(folder).images]


def test_images_of_all_folders(tmp_path: Path) -> None:
    """Images are found in folders of any depth, in order, and everything else is counted by its reason."""
    for name in ("b.png", "a.PNG", "sub/c.jpg", "._b.png", ".cache/d.png", "__MACOSX/sub/c.jpg"):
        save_scene(tmp_path / name)
    for name in ("1.heic", "2.HEIC", "3.heic", "4.heic", "clip.mp4", "LICENSE", ".DS_Store"):
        (tmp_path / name).write_bytes(b"")
    assert found(tmp_path) == ["a.PNG", "b.png", "sub/c.jpg"]
    assert find_images(tmp_path).left_out == (
        ".heic files: 4 (1.heic, 2.HEIC, 3.heic, ...)",
        "files without a suffix: 1 (LICENSE)",
        "hidden files and folders: 4 (.DS_Store, ._b.png, .cache, ...)",
        "videos (give each by itself): 1 (clip.mp4)",
    )


def test_nothing_left_out(tmp_path: Path) -> None:
    """Negative control: a folder of images alone has nothing to say."""
    save_scene(tmp_path / "a.png")
    assert find_images(tmp_path).left_out == ()


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege")
def test_links(tmp_path: Path) -> None:
    """Linked folders and files are followed; a link back up, and a second link to a folder, are not."""
    save_scene(tmp_path / "elsewhere/a.png")
    folder = tmp_path / "in"
    save_scene(folder / "b.png")
    for name, target in (("one", "elsewhere"), ("two", "elsewhere"), ("loop", "in"), ("up", "."), ("gone.png", "gone")):
        (folder / name).symlink_to(tmp_path / target)
    (folder / "file.png").symlink_to(tmp_path / "elsewhere/a.png")
    assert found(folder) == ["b.png", "file.png", "one/a.png"]
    assert find_images(folder).left_out == (
        "broken links: 1 (gone.png)",
        "folders that were read already: 3 (loop, two, up)",
    )


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_folder_without_permission(tmp_path: Path) -> None:
    """A folder that can't be opened is named."""
    save_scene(tmp_path / "a.png")
    save_scene(tmp_path / "closed/b.png")
    (tmp_path / "closed").chmod(0)
    assert find_images(tmp_path).left_out == ("folders that can't be opened: 1 (closed)",)


def test_file_that_is_no_file(tmp_path: Path) -> None:
    """What is named as an image but is no file, such as a pipe, isn't called a broken link."""
    save_scene(tmp_path / "a.png")
    os.mkfifo(tmp_path / "pipe.png")
    assert find_images(tmp_path).left_out == ("files that can't be opened: 1 (pipe.png)",)


def test_folder_that_may_only_be_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of a folder that may be listed, but not entered, are named instead of ending the walk."""
    save_scene(tmp_path / "a.png")
    save_scene(tmp_path / "listed" / "b.png")
    stat = os.stat

    def refused(path: str | Path, *args: object, **named: object) -> os.stat_result:
        if str(path).endswith("b.png"):
            raise PermissionError(13, "Permission denied", str(path))
        return stat(path, *args, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "stat", refused)
    assert find_images(tmp_path).left_out == ("files that can't be opened: 1 (listed/b.png)",)


def test_nothing_there(tmp_path: Path) -> None:
    """A missing path and a folder without images are errors, which name what is there instead."""
    with pytest.raises(SlimError, match="not found"):
        find_images(tmp_path / "nothing")
    (tmp_path / "a.heic").write_bytes(b"")
    with pytest.raises(SlimError, match=r"No image(.|\n)*\.heic files: 1"):
        find_images(tmp_path)
