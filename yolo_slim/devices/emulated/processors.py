"""The processors that are emulated, and what each says of itself in ``/proc/cpuinfo``."""

from __future__ import annotations

import re
from dataclasses import dataclass

from yolo_slim.config.profile import Profile

CORES = 4
"""Cores of a Raspberry Pi 4 and 5."""


@dataclass(frozen=True, kw_only=True)
class Processor:
    """One board's processor."""

    name: str
    """What people call the emulated device."""
    board: str
    """The board that has it, as its device tree says."""
    label: str
    """The processor, for people."""
    cpu: str
    """QEMU's name of it (``-cpu``)."""
    features: str
    """Features that the board's kernel lists."""
    variant: int
    part: int
    revision: int

    def cpuinfo(self) -> str:
        """The text of ``/proc/cpuinfo``.

        ONNX Runtime chooses its kernels by it. It must list no feature that the emulated processor lacks: the kernel
        would end with an illegal instruction.
        """
        return "".join(
            f"processor\t: {core}\nBogoMIPS\t: 108.00\nFeatures\t: {self.features}\nCPU implementer\t: 0x41\n"
            f"CPU architecture: 8\nCPU variant\t: {self.variant:#x}\nCPU part\t: {self.part:#x}\n"
            f"CPU revision\t: {self.revision}\n\n"
            for core in range(CORES)
        )

    def stands_for(self, profile: Profile) -> bool:
        """Whether the profile is of the board that has this processor."""
        model = profile.device_model
        return model is not None and profile.arch == "aarch64" and re.search(model, self.board) is not None


PROCESSORS = {
    processor.name: processor
    for processor in (
        Processor(
            name="rpi4-emulated",
            board="Raspberry Pi 4 Model B",
            label="Cortex-A72",
            cpu="cortex-a72",
            # Broadcom's chip lacks the instructions for AES and SHA that QEMU's has.
            features="fp asimd evtstrm crc32 cpuid",
            variant=0x0,
            part=0xD08,
            revision=3,
        ),
        Processor(
            name="rpi5-emulated",
            board="Raspberry Pi 5 Model B",
            label="Cortex-A76",
            cpu="cortex-a76",
            features="fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop "
            "asimddp",
            variant=0x4,
            part=0xD0B,
            revision=1,
        ),
    )
}
"""Name to processor."""


def processor_for(profile: Profile) -> Processor | None:
    """The emulated processor that stands for a profile's board; None: there is none."""
    return next((one for one in PROCESSORS.values() if one.stands_for(profile)), None)
