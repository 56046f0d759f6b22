"""``calibration.json``: a choice of calibration images with their hashes, so that other graphs get the same ones."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from yolo_slim.config.run import QuantizeConfig
from yolo_slim.datasets.description import Dataset
from yolo_slim.errors import SlimError
from yolo_slim.files import JsonObject, read_json, sha256, write_atomic, write_json
from yolo_slim.quantization.calibration import MIN_IMAGES, Calibration, choose, judged_images

SCHEMA = 1
REMEDY = "Leave the file out, and a new one is made from the training split."


@dataclass(frozen=True, kw_only=True)
class ListedImage:
    """One image of the file."""

    image: str
    """Path from the data set's root, or an absolute path for an image elsewhere."""
    sha256: str


@dataclass(frozen=True, kw_only=True)
class CalibrationFile:
    """Content of a ``calibration.json``."""

    imgsz: int
    seed: int
    images: tuple[ListedImage, ...]
    check: tuple[ListedImage, ...]

    def to_json(self) -> JsonObject:
        """The JSON value of everything."""
        return {"schema": SCHEMA, "split": "train", **asdict(self)}


def save(calibration: Calibration, dataset: Dataset, path: Path) -> None:
    """Write a choice with the SHA-256 of every image."""

    def listed(images: Sequence[Path]) -> tuple[ListedImage, ...]:
        return tuple(ListedImage(image=_name(dataset, image), sha256=sha256(image)) for image in images)

    content = CalibrationFile(
        imgsz=calibration.imgsz,
        seed=calibration.seed,
        images=listed(calibration.images),
        check=listed(calibration.check),
    )
    write_json(path, content.to_json())


def save_or_copy(calibration: Calibration, dataset: Dataset, path: Path, given: Path | None) -> None:
    """Write ``calibration.json``; a given file is copied, so that it has the same bytes in every stage."""
    if given is None:
        save(calibration, dataset, path)
    elif given.resolve() != path.resolve():
        write_atomic(path, lambda temporary: shutil.copyfile(given, temporary))


def load_or_choose(
    given: Path | None, dataset: Dataset, config: QuantizeConfig, *, imgsz: int, seed: int
) -> Calibration:
    """The given calibration, verified, or a new choice. Raises as :func:`load` and ``choose``."""
    if given:
        return load(given, dataset, imgsz=imgsz)
    return choose(dataset, count=config.images, check=config.check_images, imgsz=imgsz, seed=seed)


def load(path: Path, dataset: Dataset, *, imgsz: int) -> Calibration:
    """Read a frozen choice and verify all of it.

    Raises:
        SlimError: not a calibration file, another input side, too few images, images that are gone or changed, or that
            are also in a judging split.
    """
    content = _read(path)
    _require_usable(path, content, imgsz)
    listed = [*content.images, *content.check]
    problems = [problem for entry in listed if (problem := _changed(dataset, entry))]
    if problems:
        raise SlimError(
            f"{path}: {len(problems)} of its {len(listed)} images are gone or have changed.",
            culprits=problems,
            remedy="Restore them, or leave the file out, and a new one is made.",
        )
    # pathlib keeps an absolute entry as it is: images outside the data set's root are listed so.
    files = [dataset.root / entry.image for entry in listed]
    _refuse_judged(path, dataset, files)
    count = len(content.images)
    return Calibration(images=tuple(files[:count]), check=tuple(files[count:]), imgsz=imgsz, seed=content.seed)


def _require_usable(path: Path, content: CalibrationFile, imgsz: int) -> None:
    """Raise for another input side, and for too few images."""
    if content.imgsz != imgsz:
        raise SlimError(
            f"{path} was made for imgsz {content.imgsz}, not {imgsz}: activation ranges differ between sizes.",
            remedy="Leave the file out, and a new one is made; or give its size (--imgsz).",
        )
    if len(content.images) < MIN_IMAGES:
        raise SlimError(
            f"{path} lists {len(content.images)} images; int8 ranges need at least {MIN_IMAGES}.", remedy=REMEDY
        )


def _refuse_judged(path: Path, dataset: Dataset, files: list[Path]) -> None:
    """Raise when an image is also in a judging split."""
    judged = judged_images(dataset, files)
    if judged:
        raise SlimError(
            f"{path}: {len(judged)} of its images are also in val or test; calibrating on them would make int8 look "
            "better than it is.",
            culprits=[f"{image.name}: in {split}" for image, split in judged.items()],
            remedy=REMEDY,
        )


def _name(dataset: Dataset, image: Path) -> str:
    # Lines of a list of images may be relative to the working folder.
    image = image.absolute()
    return image.relative_to(dataset.root).as_posix() if image.is_relative_to(dataset.root) else image.as_posix()


def _changed(dataset: Dataset, entry: ListedImage) -> str:
    """What is wrong with a listed image, or an empty string."""
    image = dataset.root / entry.image
    if not image.is_file():
        return f"{entry.image}: no such file"
    return "" if sha256(image) == entry.sha256 else f"{entry.image}: other bytes than were recorded"


def _read(path: Path) -> CalibrationFile:
    """Read the file; every key is checked."""
    try:
        value = read_json(path)
        content = CalibrationFile(
            imgsz=value["imgsz"],
            seed=value["seed"],
            images=tuple(ListedImage(image=e["image"], sha256=e["sha256"]) for e in value["images"]),
            check=tuple(ListedImage(image=e["image"], sha256=e["sha256"]) for e in value["check"]),
        )
    except FileNotFoundError:
        raise SlimError(f"Calibration file not found: {path}", remedy=REMEDY) from None
    except (ValueError, KeyError, TypeError) as error:
        raise SlimError(f"{path} isn't a calibration file: {error!r}", remedy=REMEDY) from None
    if not _is_typed(content) or value.get("schema") != SCHEMA:
        raise SlimError(f"{path} isn't a calibration file of schema {SCHEMA}.", remedy=REMEDY)
    return content


def _is_typed(content: CalibrationFile) -> bool:
    texts = [text for entry in (*content.images, *content.check) for text in (entry.image, entry.sha256)]
    return all(isinstance(n, int) for n in (content.imgsz, content.seed)) and all(isinstance(t, str) for t in texts)
