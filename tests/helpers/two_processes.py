"""A trainer on two CPU processes: what Ultralytics does on two GPUs, with gloo in place of NCCL.

Ultralytics gives a CPU training one process whatever it is asked. All but the processes' number, backend and the
device of the wrapped network is its own code and ours, the launcher included.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from torch import distributed, nn
from ultralytics.utils import LOCAL_RANK, RANK

from yolo_slim.training.trainer import SlimTrainer

SPOILED_RANK = "TEST_SPOILED_RANK"
"""Environment variable: the process whose images become NaN in the second epoch."""


class _OnCpu(nn.parallel.DistributedDataParallel):
    """Takes no number of a GPU."""

    def __init__(self, module: nn.Module, device_ids: Any = None, **settings: Any) -> None:
        super().__init__(module, **settings)


class TwoProcesses(SlimTrainer):
    """Trains on two processes; each leaves the images it saw and the weights it ended with in ``rank-N.pt``."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.world_size = 2
        self.ddp = LOCAL_RANK == -1
        self.seen: list[tuple[int, str]] = []

    def _setup_ddp(self) -> None:
        distributed.init_process_group("gloo", rank=RANK, world_size=self.world_size)
        setattr(nn.parallel, "DistributedDataParallel", _OnCpu)  # noqa: B010

    def preprocess_batch(self, batch: Any) -> Any:
        """Note the images; spoil those of one process where the test says so."""
        batch = super().preprocess_batch(batch)
        self.seen += [(self.epoch, Path(file).name) for file in batch["im_file"]]
        if self.epoch == 1 and os.environ.get(SPOILED_RANK) == str(RANK):
            batch["img"].fill_(float("nan"))
        return batch

    def final_eval(self) -> None:
        """Leave the record of this process."""
        super().final_eval()
        record = {"seen": self.seen, "weights": [value.detach().clone() for value in self.model.parameters()]}
        torch.save(record, Path(self.save_dir) / f"rank-{RANK}.pt")
