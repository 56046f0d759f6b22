"""One command per stage."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from yolo_slim.cli.answer import answer, command_line, judged
from yolo_slim.cli.group import cli
from yolo_slim.cli.inputs import INPUT, InputPath
from yolo_slim.cli.options import answering, out, retrain, setting, settings_of
from yolo_slim.cli.progress import listening
from yolo_slim.errors import SlimError

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from yolo_slim.config.options import (
        ExportOptions,
        PruneOptions,
        QuantizeOptions,
        RecoverOptions,
        ValidateOptions,
    )

BUNDLE = InputPath("Make bundles with `yolo-slim build`.", may_be_folder=True)
FOLDER = InputPath(may_be_folder=True)
GRAPH = InputPath("Make it with `yolo-slim export`.")


@cli.command()
@click.argument("model", type=INPUT)
@setting("data", required=True)
@settings_of("prune")
@out("runs/slim/NAME/prune")
@retrain
@answering
def prune(
    model: Path,
    data: Path,
    out: Path | None,
    retrain: bool,
    quiet: bool,
    as_json: bool,
    **options: Unpack[PruneOptions],
) -> None:
    """Remove channels of backbone, neck and head from MODEL.

    Writes pruned.pt, plan.json and widths.json.
    """
    from yolo_slim import api
    from yolo_slim.files import read_json
    from yolo_slim.reporting.text import table

    with listening(quiet=quiet) as listener:
        outputs = api.prune(model, data, out, retrain=retrain, progress=listener, **options)
    rows = [[r["layer"], str(r["before"]), str(r["after"])] for r in read_json(outputs.widths)["layers"]]
    shown = f"{table(['layer', 'before', 'after'], rows)}\nweights: {outputs.weights}"
    answer(vars(outputs), as_json=as_json, text=shown)


@cli.command()
@click.argument("weights", type=INPUT)
@click.option("--teacher", required=True, type=INPUT, help="The unpruned checkpoint, or a larger one like it.")
@setting("data", required=True)
@settings_of("recover")
@out("recover/ of the run that made WEIGHTS from the teacher, else runs/slim/WEIGHTS-TARGET-IMGSZ-recover")
@retrain
@answering
def recover(
    weights: Path,
    teacher: Path,
    data: Path,
    out: Path | None,
    retrain: bool,
    quiet: bool,
    as_json: bool,
    **options: Unpack[RecoverOptions],
) -> None:
    """Train pruned WEIGHTS to win accuracy back.

    The teacher is the unpruned network (distillation). Writes recovered.pt.
    """
    from yolo_slim import api

    with listening(quiet=quiet) as listener:
        outputs = api.recover(weights, teacher, data, out, retrain=retrain, progress=listener, **options)
    answer(vars(outputs), as_json=as_json)


@cli.command()
@click.argument("weights", type=INPUT)
@setting("data", required=True)
@settings_of("export")
@out("runs/slim/NAME/export")
@answering
def export(
    weights: Path, data: Path, out: Path | None, quiet: bool, as_json: bool, **options: Unpack[ExportOptions]
) -> None:
    """Export WEIGHTS to one ONNX file, and check it.

    On validation images its outputs must equal PyTorch's.
    """
    from yolo_slim import api

    with listening(quiet=quiet) as listener:
        outputs = api.export(weights, data, out, progress=listener, **options)
    answer(vars(outputs), as_json=as_json)


@cli.command()
@click.argument("onnx", type=GRAPH)
@setting("data", required=True)
@settings_of("quantize")
@out()
@answering
def quantize(onnx: Path, data: Path, out: Path, quiet: bool, as_json: bool, **options: Unpack[QuantizeOptions]) -> None:
    """Make the int8 and fp16 graphs of an exported ONNX file.

    They are calibrated on training images of --data.
    """
    from yolo_slim import api

    with listening(quiet=quiet) as listener:
        outputs = api.quantize(onnx, data, out, progress=listener, **options)
    about = {"calibration": outputs.calibration, "layer_errors": outputs.layer_errors}
    answer({**outputs.graphs, **about}, as_json=as_json)


@cli.command()
@click.argument("onnx", type=GRAPH)
@click.option("--quantized", type=FOLDER, help="Folder of `yolo-slim quantize`, for int8 and fp16 builds.")
@setting("data", required=True)
@setting("target")
@out()
@answering
def build(
    onnx: Path, quantized: Path | None, data: Path, target: str | None, out: Path, quiet: bool, as_json: bool
) -> None:
    """Make the bundles of a target from an exported ONNX file.

    Each has a self-check.
    """
    from yolo_slim import api

    with listening(quiet=quiet) as listener:
        outputs = api.build(onnx, data, out, target=target, quantized=quantized, progress=listener)
    found = {**outputs.bundles, **outputs.skipped}
    answer({str(build): value for build, value in found.items()}, as_json=as_json)


@cli.command()
@click.argument("bundles", nargs=-1, required=True, type=BUNDLE)
@click.option("--control", required=True, type=INPUT, help="The unpruned checkpoint.")
@setting("data", required=True)
@settings_of("validate")
@out()
@answering
def validate(
    bundles: tuple[Path, ...],
    control: Path,
    data: Path,
    out: Path,
    quiet: bool,
    as_json: bool,
    **options: Unpack[ValidateOptions],
) -> None:
    """Measure accuracy and speed of BUNDLES and judge them.

    The target's gates decide. Writes result.json and report.html.
    """
    from yolo_slim import api
    from yolo_slim.build_key import BuildKey, BuildName
    from yolo_slim.bundle import open_bundle

    opened = [open_bundle(path) for path in bundles]
    keys = {str(BuildKey("slim", BuildName.of(one.spec))): one.folder for one in opened}
    if len(keys) < len(opened):
        raise SlimError("Two bundles have the same runtime and precision.", remedy="Validate them one after the other.")
    # Not the target's default: bundles have a fixed input side.
    options["imgsz"] = options.get("imgsz") or opened[0].spec.imgsz[0]
    with listening(quiet=quiet) as listener:
        outputs = api.validate(keys, control, data, out, command=command_line(), progress=listener, **options)
    judged(outputs.verdict, outputs.result, vars(outputs), as_json=as_json)
