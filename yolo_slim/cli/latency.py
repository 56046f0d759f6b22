"""``yolo-slim latency``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from yolo_slim.cli.answer import answer, command_line
from yolo_slim.cli.group import cli
from yolo_slim.cli.options import answering, out, setting, settings_of
from yolo_slim.cli.progress import listening

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from yolo_slim.config.options import LatencyOptions


@cli.command("latency")
@setting("model", required=True)
@setting("data", required=True)
@settings_of("latency")
@out("runs/slim/MODEL-SHA256-TARGET-IMGSZ-DEVICE-latency, where `run --target-fps` looks for it")
@answering
def latency(
    model: Path, data: Path, out: Path | None, quiet: bool, as_json: bool, **options: Unpack[LatencyOptions]
) -> None:
    """Measure on the device how long a model's layers take.

    --target-fps and --latency-ms of `run` and `prune` need this table.

    \b
    Prune to a frame rate; `run` measures a missing table by itself:
      yolo-slim run --model best.pt --data data.yaml --target-fps 30

    It times single convolutions, if the runtime can, and whole networks on a few validation images. To resume an
    interrupted measurement, give the same command again.
    """  # noqa: D301
    from yolo_slim import api
    from yolo_slim.measuring.latency import LatencyTable
    from yolo_slim.reporting.latency import text

    with listening(quiet=quiet) as listener:
        outputs = api.latency(model, data, out, command=command_line(), progress=listener, **options)
    tables = [LatencyTable.load(path) for path in outputs.tables.values()]
    paths = [f"{build}: {path}" for build, path in outputs.tables.items()]
    value = {
        "tables": {str(build): str(path) for build, path in outputs.tables.items()},
        "page": str(outputs.page),
        "builds": [
            {
                "build": str(one.build), "control_ms": one.control_ms, "overhead_ms": one.overhead_ms,
                "error_median": one.error.median, "error_worst": one.error.worst,
                "invalid_reasons": list(one.invalid_reasons),
            }
            for one in tables
        ],
    }  # fmt: skip
    answer(value, as_json=as_json, text="\n".join([text(tables), *paths, f"page: {outputs.page}"]))
