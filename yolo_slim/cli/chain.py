"""``yolo-slim run``: the whole chain."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from yolo_slim.cli.answer import command_line, judged
from yolo_slim.cli.group import cli
from yolo_slim.cli.options import answering, place, retrain, setting, settings_of
from yolo_slim.cli.progress import listening
from yolo_slim.errors import SlimError
from yolo_slim.files import flat

if TYPE_CHECKING:
    from collections.abc import Mapping

    from typing_extensions import Unpack

    from yolo_slim.config.options import RunOptions
    from yolo_slim.config.run import RunConfig
    from yolo_slim.progress import Progress

QUICKSTART_IMGSZ, QUICKSTART_EPOCHS = 320, 20
"""Settings of a run without a model: two cores need a few minutes. On an AMD EPYC the cut costs 10 points of mAP, and
recovery wins all but half a point back."""
QUICKSTART_PRUNE, QUICKSTART_PRUNE_COARSE = 0.685, 0.66
"""Share of the MACs to remove; less where the target's widths are multiples of more than 8 channels: they lose more."""


@cli.command()
@setting("model")
@setting("data")
@settings_of("run")
@place("runs/slim")
@retrain
@answering
def run(
    model: Path | None,
    data: Path | None,
    name: str | None,
    project: Path,
    retrain: bool,
    quiet: bool,
    as_json: bool,
    **options: Unpack[RunOptions],
) -> None:
    """Run the whole chain: from best.pt to a measured bundle.

    The stages are prune, recover, export, quantize, build and validate.

    The --config file may give model and data. Without a model and data, the built-in example runs: rendered traffic
    signs and a yolo11n trained on them, 320 px, 68.5 % of the MACs removed (66 % for the target host), 20 epochs.
    """
    from yolo_slim import api

    with listening(quiet=quiet) as listener:
        from_file = _inputs_of(options)
        model, data = model or from_file[0], data or from_file[1]
        if model is None and data is None:
            model, data, target = _quickstart(options, listener)
            name = name or f"quickstart-{Path(target).stem}"
        if model is None or data is None:
            raise SlimError(
                f"{'--model' if model is None else '--data'} is missing: --model and --data go together.",
                remedy="Give both, or neither for the built-in example.",
            )
        outcome = api.run(
            model,
            data,
            project=project,
            name=name,
            retrain=retrain,
            command=command_line(),
            progress=listener,
            **options,
        )
    judged(outcome.verdict, outcome.result, vars(outcome), as_json=as_json)


def _inputs_of(options: RunOptions) -> tuple[Path | None, Path | None]:
    """Model and data of the --config file, None where it has none."""
    from yolo_slim.config.strict import read_yaml

    config = options.get("config")
    values = read_yaml(Path(config)) if config else {}
    model, data = (Path(str(values[key])) if values.get(key) else None for key in ("model", "data"))
    return model, data


def _quickstart(options: RunOptions, listener: Progress) -> tuple[Path, Path, str]:
    """Model, data and target of the built-in example; without a --config file its settings too where no option is.

    Raises:
        SlimError: wrong settings; before the minute that drawing takes.
    """
    from yolo_slim.datasets import quickstart
    from yolo_slim.exploration import frame_ms_of
    from yolo_slim.input_check import require_good_settings

    model, root = quickstart.default_model(), Path(".quickstart")
    place = quickstart.default_place(root)
    if not options.get("config"):
        if not _is_set(options, "imgsz"):
            options["imgsz"] = QUICKSTART_IMGSZ
        if not _is_set(options, "epochs"):
            options["epochs"] = QUICKSTART_EPOCHS
        if not _has_budget(options):
            options["prune"] = _share(_config_of(model, place, options).target)
    config = _config_of(model, place, options)
    if not quickstart.is_drawn(root):
        if options.get("imgsz") == "auto":
            frame_ms_of(config)
        require_good_settings(config)
        listener.say(quickstart.IS_DRAWING)
    return model, quickstart.default_data(root), config.target


def _share(target: str) -> float:
    """The share of the MACs that the example removes for a target."""
    from yolo_slim.config import targets

    return QUICKSTART_PRUNE if targets.load(target).channel_multiple <= 8 else QUICKSTART_PRUNE_COARSE


def _has_budget(options: RunOptions) -> bool:
    """Whether the call says how much is to be removed."""
    from yolo_slim.config.run import BUDGETS

    keys = {f"prune.{key}" for key in BUDGETS}
    short = any(_is_set(options, name) for name in ("prune", "target_fps", "latency_ms"))
    return short or not keys.isdisjoint(_settings(options))


def _is_set(options: RunOptions, name: str) -> bool:
    """Whether the call gives a setting: by its short option, or by its key."""
    from yolo_slim.config.declaration import options_in
    from yolo_slim.config.run import RunConfig

    return options.get(name) is not None or options_in(RunConfig)[name].key in _settings(options)


def _settings(options: RunOptions) -> Mapping[str, object]:
    """What --set gives, by dotted keys: a section may be given as a whole."""
    return flat(options.get("settings") or {})


def _config_of(model: Path, data: Path, options: RunOptions) -> RunConfig:
    """The settings of the run; where the input side is still to be chosen, with the target's."""
    from yolo_slim import api

    others = options.copy()
    others["imgsz"] = None if options.get("imgsz") == "auto" else options.get("imgsz")
    return api.make_config(model, data, **others)
