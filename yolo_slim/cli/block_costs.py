"""``yolo-slim block-costs``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from yolo_slim.cli.answer import answer, command_line
from yolo_slim.cli.group import cli
from yolo_slim.cli.options import answering, out, setting, settings_of
from yolo_slim.cli.progress import listening

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from yolo_slim.config.options import BlockCostsOptions


@cli.command("block-costs")
@setting("model", required=True)
@setting("data", required=True)
@settings_of("block_costs")
@out("runs/slim/MODEL-TARGET-IMGSZ-block-costs")
@answering
def block_costs(
    model: Path, data: Path, out: Path | None, quiet: bool, as_json: bool, **options: Unpack[BlockCostsOptions]
) -> None:
    """Measure what each block costs in mAP and saves in ms.

    Each block is narrowed alone.

    \b
    Prune by what was measured:
      yolo-slim block-costs --model best.pt --data data.yaml --imgsz 320 --out out/costs
      yolo-slim prune best.pt --data data.yaml --imgsz 320 \\
        --set prune.scope=block_costs --set prune.block_costs=out/costs/block_costs.json

    mAP is measured on validation images, milliseconds on the device: every round times the cut network and the unpruned
    one. To resume an interrupted measurement, give the same command again.
    """  # noqa: D301
    from yolo_slim import api
    from yolo_slim.measuring.block_costs import BlockCostTable
    from yolo_slim.reporting.block_costs import text

    with listening(quiet=quiet) as listener:
        outputs = api.block_costs(model, data, out, command=command_line(), progress=listener, **options)
    paths = "\n".join(f"{key}: {path}" for key, path in vars(outputs).items())
    costs = BlockCostTable.load(outputs.table)
    rows = [row.to_json() for row in costs.blocks]
    answer({**vars(outputs), "blocks": rows}, as_json=as_json, text=f"{text(costs)}\n{paths}")
