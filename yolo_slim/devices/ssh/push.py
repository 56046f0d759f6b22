"""Bring files to a device: each is sent once, under its SHA-256, and goes on where an interrupted push ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from yolo_slim.bundle import BUNDLE_JSON, Bundle
from yolo_slim.devices.ssh.link import Link
from yolo_slim.devices.ssh.session import Session
from yolo_slim.errors import MachineError
from yolo_slim.files import sha256, sha256_json
from yolo_slim.runtime.folders import find_images

CHUNK = 1 << 16
TRIES = 2
"""How often a file is sent whose content arrives changed."""


@dataclass(frozen=True, kw_only=True)
class Parcel:
    """Files that belong together on the device."""

    folder: str
    """Where they go, below the device's folder."""
    files: Mapping[str, Path]
    """Relative path to the file here."""
    digests: Mapping[str, tuple[str, int]]
    """Relative path to SHA-256 and size."""

    @classmethod
    def of(cls, kind: str, files: Mapping[str, Path]) -> Parcel:
        """Describe files; the folder is named after their names and contents."""
        digests = {name: (sha256(path), path.stat().st_size) for name, path in files.items()}
        return cls(folder=f"{kind}/{sha256_json(digests)[:16]}", files=files, digests=digests)

    @classmethod
    def of_bundle(cls, bundle: Bundle) -> Parcel:
        """Describe a bundle by its own record; the folder is named after that record's content."""
        record = bundle.folder / BUNDLE_JSON
        digests = {name: (entry["sha256"], entry["size_bytes"]) for name, entry in bundle.spec.files.items()}
        # Files that a device built beside them aren't in the record, and belong to that device.
        digests[BUNDLE_JSON] = (sha256(record), record.stat().st_size)
        files = {name: bundle.folder / name for name in digests}
        return cls(folder=f"bundles/{digests[BUNDLE_JSON][0][:16]}", files=files, digests=digests)


def image_files(images: Path) -> dict[str, Path]:
    """List an image, or the images of a folder, by their paths below it.

    Raises:
        SlimError: there is none.
    """
    root = images if images.is_dir() else images.parent
    return {path.relative_to(root).as_posix(): path for path in find_images(images).images}


async def push(session: Session, parcel: Parcel, what: str) -> str:
    """Send what the device lacks of a parcel; return the folder's path there.

    Args:
        session: with the device.
        parcel: files.
        what: they are, for messages.

    Raises:
        MachineError: the disk there is full, or the link changes bytes.
    """
    phase = f"send {what}"
    missing = await session.keep(phase, lambda link: _missing(link, parcel))
    sizes = {digest: size for digest, size in parcel.digests.values() if digest in missing}
    total, done = sum(sizes.values()), 0
    by_digest = {parcel.digests[name][0]: path for name, path in parcel.files.items()}
    for digest in missing:
        await session.keep(phase, _Sending(session, by_digest[digest], digest, sizes[digest]))
        done += sizes[digest]
        session.progress.step(f"device: {phase}", done, total)
    reply = await session.keep(phase, lambda link: link.ask("place", folder=parcel.folder, files=dict(parcel.digests)))
    return str(reply.values["path"])


async def _missing(link: Link, parcel: Parcel) -> list[str]:
    reply = await link.ask("look", folder=parcel.folder, files=dict(parcel.digests))
    return list(reply.values["missing"])


class _Sending:
    """One file on its way."""

    def __init__(self, session: Session, path: Path, digest: str, size: int) -> None:
        self.session, self.path, self.digest, self.size = session, path, digest, size
        self.furthest = 0

    async def __call__(self, link: Link) -> None:
        """Send what isn't there yet.

        Raises:
            MachineError: it arrives changed twice.
        """
        for _ in range(TRIES):
            reply = await link.ask("begin", digest=self.digest, size=self.size)
            offset = int(reply.values["offset"])
            if offset > self.furthest:
                self.session.moves, self.furthest = True, offset
            with self.path.open("rb") as stream:
                stream.seek(offset)
                while block := stream.read(CHUNK):
                    await link.send_chunk(block)
            reply = await link.ask("end", digest=self.digest)
            if reply.values["is_whole"]:
                return
        raise MachineError(
            f"{self.path.name} arrives at {self.session.address.name} with another content than it was sent with.",
            remedy="Look at the device's disk (SD card) and memory; if the file was being written here, try again.",
        )
