"""Which settings each command, and the API function of the same name, takes as short options."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from yolo_slim.config.declaration import Option, Setting, options_in
from yolo_slim.config.run import RunConfig
from yolo_slim.config.strict import Frozen, Positive


class Sources(Frozen):
    """Where a command reads further settings."""

    settings: Annotated[dict[str, Any], Option("settings", flag="--set")] = {}
    """Any setting of docs/configuration.md, such as ``prune.steps=2``."""
    config: Annotated[str | None, Option("config", path=True)] = None
    """YAML file with settings; options win over it."""


class RunChoices(Frozen):
    """What `yolo-slim run` chooses by itself where it is asked to."""

    imgsz: Annotated[Positive | Literal["auto"] | None, Option("imgsz", default="the target's")] = None
    """Input side in pixels, a multiple of the model's stride; ``auto``: the best one for ``--target-fps``."""


class CompareConfig(Frozen):
    """What `yolo-slim compare` compares (docs/compare.md). These are options only, not keys of a ``--config`` file."""

    renamed: ClassVar[dict[str, str]] = {"arms": "methods"}

    methods: Annotated[list[str] | None, Option("methods")] = None
    """Methods to compare with ours and the control. None: all but ``control-trained``; with a frame rate ``macs``
    alone."""
    prune: Annotated[list[float] | None, Option("prune")] = None
    """Fractions of the multiply-accumulates (MACs) to remove; none: ``prune.macs_removed``."""
    seeds: Annotated[int | list[int], Option("seeds")] = 3
    """Number of seeds (``3``: seeds 0, 1 and 2), or the seeds themselves (``0,1,2``; ``4,`` is seed 4 alone)."""
    runtimes: Annotated[list[str], Option("runtimes")] = ["onnxruntime-fp32"]
    """Builds to compare, such as ``onnxruntime-fp32`` and ``ncnn-fp16``; the first decides the verdict."""
    measured: Annotated[list[str], Option("measured", path=True)] = []
    """``compare.json`` of an earlier comparison: import the networks that it trained. Give it once per file."""


class QuantizeFiles(Frozen):
    """What `yolo-slim quantize` makes, and from which files."""

    precisions: Annotated[list[Literal["int8", "fp16"]], Option("precisions", flag="--precision")] = ["int8", "fp16"]
    """Graphs to make."""
    trained: Annotated[str | None, Option("trained", path=True)] = None
    """``model-qat.onnx`` of the same export, if the recovery was trained with ``--train quantize=8``."""
    calibration: Annotated[str | None, Option("calibration", path=True)] = None
    """``calibration.json`` of an earlier run, to use its images; none: new images are chosen."""


class ValidateFiles(Frozen):
    """Results of earlier stages that `yolo-slim validate` scores too, each a rung of the ladder."""

    pruned: Annotated[str | None, Option("pruned", path=True)] = None
    """Pruned checkpoint (``pruned.pt``), a rung of the ladder."""
    recovered: Annotated[str | None, Option("recovered", path=True)] = None
    """Recovered checkpoint (``recovered.pt``), a rung of the ladder."""
    onnx: Annotated[str | None, Option("onnx", path=True)] = None
    """Exported ONNX file, a rung of the ladder."""
    quantized: Annotated[str | None, Option("quantized", path=True)] = None
    """Folder of `yolo-slim quantize`; if int8 loses too much, its layer errors name the layer to look at first."""


@dataclass(frozen=True)
class Takes:
    """The options of one command: some settings of a run by their short names, and its own."""

    names: tuple[str, ...]
    own: type[Frozen] | None = None

    @property
    def settings(self) -> dict[str, Setting]:
        """The options by name, in the order of the help."""
        known = options_in(RunConfig)
        # A command's own `prune` of several fractions takes the place of the run's single one.
        own = options_in(self.own) if self.own else {}
        return {name: known[name] for name in self.names} | own | options_in(Sources)


DEVICE = ("host", "any_device", "offline", "wait")
"""Options of the commands that run bundles."""

AMOUNTS = ("prune", "target_fps", "latency_ms")
"""Options that say how much is removed."""

TAKES = {
    "run": Takes(("target", *DEVICE, *AMOUNTS, "epochs", "device", "train", "teacher"), RunChoices),
    "compare": Takes(
        ("target", *DEVICE, "target_fps", "latency_ms", "imgsz", "epochs", "device", "train"), CompareConfig
    ),
    "prune": Takes(("target", *DEVICE, "imgsz", *AMOUNTS)),
    "latency": Takes(("target", *DEVICE, "imgsz")),
    "block_costs": Takes(("target", *DEVICE, "imgsz", "removed", "runtime", "images")),
    # Without `teacher`, which the command and the API function require as an argument of their own.
    "recover": Takes(("target", "imgsz", "epochs", "device", "train")),
    "export": Takes(("target", "imgsz")),
    "quantize": Takes((), QuantizeFiles),
    "validate": Takes(("target", *DEVICE, "imgsz"), ValidateFiles),
}
