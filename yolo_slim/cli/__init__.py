"""The command line: ``yolo-slim run``, one command a stage, ``compare``, ``show``, ``targets`` and ``doctor``.

Heavy imports happen inside the commands, so that ``--help`` and completion answer at once.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from yolo_slim.errors import EXIT_BAD_INPUT, SlimError, did_you_mean, explain_os_error, explain_path
from yolo_slim.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.progress import Progress as Bars

VERDICT_EXIT = {"pass": 0, "fail": 1, "unproven": 3}
EXISTING = click.Path(path_type=Path)
EXPONENT = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+")


class _Group(click.Group):
    """A group that suggests the nearest command."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """Return the command, or an error with a did-you-mean."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError:
            known = self.list_commands(ctx)
            raise click.UsageError(f"No such command '{args[0]}'.{did_you_mean(args[0], known)}") from None


class _Listener:
    """Progress on the terminal: bars where there is one, a line per fact otherwise."""

    def __init__(self, bars: Bars | None, quiet: bool) -> None:
        self._bars, self._quiet = bars, quiet
        self._tasks: dict[str, Any] = {}

    def step(self, text: str, done: int, total: int) -> None:
        """Move a bar."""
        if self._bars is None:
            return
        if text not in self._tasks:
            for task in self._tasks.values():
                self._bars.remove_task(task)
            self._tasks = {text: self._bars.add_task(text, total=total)}
        self._bars.update(self._tasks[text], completed=done, total=total)

    def say(self, text: str) -> None:
        """Print a line."""
        if not self._quiet:
            (self._bars.console.print if self._bars else lambda t, **_: click.echo(t, err=True))(text, highlight=False)


@contextmanager
def _listening(quiet: bool) -> Iterator[_Listener]:
    """Yield a listener that writes to standard error."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield _Listener(None, quiet)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bars:
        yield _Listener(bars, quiet)


def _pairs(_: click.Context, option: click.Parameter, values: tuple[str, ...]) -> dict[str, Any]:
    """Return ``key=value`` texts as a mapping, values read as YAML; 3e-4 is a number, unlike in YAML 1.1."""
    import yaml

    parsed = {}
    for text in values:
        key, separator, value = text.partition("=")
        if not separator:
            raise click.BadParameter(f"'{text}' is not KEY=VALUE", param=option)
        try:
            parsed[key] = float(value) if EXPONENT.fullmatch(value.strip()) else yaml.safe_load(value)
        except yaml.YAMLError:
            told = f"""'{text}': the value isn't YAML; in quotes it is text: '{key}="{value}"'"""
            raise click.BadParameter(told, param=option) from None
    return parsed


def _targets(_: click.Context, __: click.Parameter, start: str) -> list[str]:
    """Complete the names of targets."""
    from yolo_slim.config import targets

    return [name for name in targets.names() if name.startswith(start)]


def _options(*names: str) -> Callable[[Any], Any]:
    """Return a decorator that adds shared options by name."""
    known = {
        "data": click.option("--data", required=True, type=EXISTING, help="Ultralytics data.yaml."),
        "target": click.option("--target", shell_complete=_targets, help="Device profile; see `yolo-slim targets`."),
        "imgsz": click.option("--imgsz", type=int, help="Input side, pixels [default: the target's]."),
        "prune": click.option("--prune", type=float, help="Fraction of the MACs to remove [default: 0.5]."),
        "epochs": click.option("--epochs", type=int, help="Epochs of recovery [default: 30]."),
        "device": click.option("--device", help="Ultralytics device: cpu, 0, or 0,1 for several GPUs."),
        "train": click.option(
            "--train", multiple=True, callback=_pairs, metavar="KEY=VALUE", help="Any Ultralytics training argument."
        ),
        "settings": click.option(
            "--set",
            "settings",
            multiple=True,
            callback=_pairs,
            metavar="KEY=VALUE",
            help="Any setting: prune.steps=2.",
        ),
        "config": click.option("--config", type=EXISTING, help="YAML file of settings; options win over it."),
        "quiet": click.option("--quiet", "-q", is_flag=True, help="No progress, errors only."),
        "json": click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON."),
    }

    def decorate(function: Any) -> Any:
        for name in reversed(names):
            function = known[name](function)
        return function

    return decorate


def _answer(values: dict[str, Any], as_json: bool, text: str = "") -> None:
    """Print an answer as JSON, or as text (by default one ``key: value`` a line)."""
    if as_json:
        click.echo(json.dumps(values, indent=2, default=str))
    else:
        click.echo(text or "\n".join(f"{key}: {value}" for key, value in values.items() if value is not None))


def _command() -> str:
    return shlex.join(["yolo-slim", *sys.argv[1:]])


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="yolo-slim")
def cli() -> None:
    """Take a trained Ultralytics YOLO and make it fast on an edge device, with proof.

    \b
    The whole chain on your model:
      yolo-slim run --model best.pt --data data.yaml --target rpi5 --imgsz 320 --prune 0.5 --epochs 30
    The whole chain on the built-in quickstart:
      yolo-slim run

    Results go to runs/slim/NAME. A killed run goes on where it stopped: give the same command again.
    Exit codes: 0 pass, 1 a gate failed, 2 bad input, 3 unproven (the device wasn't there).

    Shell completion: eval "$(_YOLO_SLIM_COMPLETE=bash_source yolo-slim)" (or zsh_source, fish_source).
    """  # noqa: D301  (click reads the character \b)


@cli.command()
@click.option("--model", type=EXISTING, help="Trained checkpoint [default: the quickstart's].")
@click.option("--data", type=EXISTING, help="Ultralytics data.yaml [default: the quickstart's].")
@_options("target", "imgsz", "prune", "epochs", "device", "train", "settings", "config", "quiet", "json")
@click.option("--teacher", type=EXISTING, help="Larger checkpoint that teaches recovery [default: the model itself].")
@click.option("--project", type=EXISTING, default=Path("runs/slim"), show_default=True, help="Folder of all runs.")
@click.option("--name", help="Name of this run [default: from its settings].")
def run(model: Path | None, data: Path | None, quiet: bool, as_json: bool, **arguments: Any) -> None:
    """Prune, recover, export, build and validate: from best.pt to a proven bundle.

    --model and --data may stand in the --config file. Without them it runs on the built-in quickstart: rendered traffic
    signs and a yolo11n trained on them, 320 px, a few epochs.
    """
    from yolo_slim import api
    from yolo_slim.config.strict import read_yaml
    from yolo_slim.datasets import quickstart

    with _listening(quiet) as listener:
        file = read_yaml(arguments["config"]) if arguments["config"] else {}
        model, data = model or _path(file.get("model")), data or _path(file.get("data"))
        if model is None and data is None:
            listener.say("Quickstart: drawing the traffic signs (about a minute, once)")
            data, model = quickstart.default_data(Path(".quickstart")), quickstart.default_model()
            usual = {"name": f"quickstart-{Path(arguments['target'] or 'host').stem}", **({} if file else QUICKSTART)}
            arguments |= {key: value for key, value in usual.items() if arguments.get(key) is None}
        if model is None or data is None:
            raise SlimError("--model and --data go together.", remedy="Give both, or neither for the quickstart.")
        outcome = api.run(model, data, command=_command(), progress=listener, **arguments)
    _finish(outcome.verdict, {**vars(outcome)}, as_json)


def _path(value: object) -> Path | None:
    """Return a path of a file's value, None where there is none."""
    return Path(str(value)) if value else None


class _Several(click.Command):
    """A command whose options of several values take them one after the other: ``--seeds 0 1 2``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Give every further value its option's name again; values with commas are divided."""
        given: list[str] = []
        option, missing = "", False
        for word in args:
            name, equals, value = word.partition("=")
            if word.startswith("-"):
                _require_value(option, missing=missing)
                option = name if name.removeprefix("--") in SEVERAL else ""
                missing = bool(option) and not equals
                if not option or not equals:
                    given += [] if option else [word]
                    continue
                word = value
            missing = False
            given += [part for value in word.split(",") for part in (option, value)] if option else [word]
        _require_value(option, missing=missing)
        return super().parse_args(ctx, given)


def _require_value(option: str, *, missing: bool) -> None:
    """Raise for an option without any value: an empty shell variable must not start the whole default grid."""
    if missing:
        raise click.BadOptionUsage(option, f"Option '{option}' requires an argument.")


SEVERAL = ("seeds", "arms", "prune", "runtimes", "measured")
"""Options of `compare` that take several values."""


@cli.command(cls=_Several)
@click.option("--model", required=True, type=EXISTING, help="Trained checkpoint.")
@_options("data", "target", "imgsz", "epochs", "device", "train", "settings", "config", "quiet", "json")
@click.option("--prune", "shares", multiple=True, type=float, help="Fractions of the MACs to remove [default: 0.5].")
@click.option("--arms", multiple=True, help="Arms beside ours and the control [default: all but control-trained].")
@click.option("--seeds", multiple=True, type=int, help="One number: how many; several: the seeds [default: 3].")
@click.option("--runtimes", multiple=True, help="Builds: onnxruntime-fp32, ncnn-fp16 [default: the first].")
@click.option("--measured", multiple=True, type=EXISTING, help="compare.json whose trained networks take part.")
@click.option("--project", type=EXISTING, default=Path("runs/compare"), show_default=True, help="Folder of all.")
@click.option("--name", help="Name of this comparison [default: from its settings].")
def compare(
    model: Path,
    data: Path,
    shares: tuple[float, ...],
    seeds: tuple[int, ...],
    quiet: bool,
    as_json: bool,
    **arguments: Any,
) -> None:
    """Compare pruning with every simpler way to as few MACs, at equal training, and say who won.

    \b
    Arms: ours              yolo_slim's pruning by the settings given
          uniform-l2        torch-pruning, L2 magnitude, the same share of every layer
          random            random channels
          narrow, scratch   a narrower stock network, from trained or random weights
          small-input       the unpruned network at a smaller input
          control-trained   the unpruned network, trained on (a reference)
          control           the unpruned network (a reference, always there)

    Writes compare.json, compare.html and compare.md to runs/compare/NAME. Give the command again to go on, or with
    more arms, sizes or seeds to add them; --measured takes over what other machines trained. Exit code 0 whoever
    won: the verdict is printed.
    """  # noqa: D301  (click reads the character \b)
    from yolo_slim import api
    from yolo_slim.files import read_json
    from yolo_slim.reporting.comparison_text import text

    several = {key: list(arguments.pop(key)) for key in ("arms", "runtimes", "measured")}
    arguments |= {key: values for key, values in several.items() if values}
    with _listening(quiet) as listener:
        outcome = api.compare(
            model,
            data,
            prune=list(shares) or None,
            seeds=3 if not seeds else seeds[0] if len(seeds) == 1 else list(seeds),
            command=_command(),
            progress=listener,
            **arguments,
        )
    _answer(vars(outcome), as_json, f"{text(read_json(outcome.result))}\nreport: {outcome.report}")


QUICKSTART = {"imgsz": 320, "epochs": 8}
"""Settings of a run without a model: small enough for two cores and twelve minutes."""


def _finish(verdict: str, values: dict[str, Any], as_json: bool) -> None:
    """Print summary, paths and verdict; exit with the verdict's code."""
    from yolo_slim.files import read_json
    from yolo_slim.reporting.text import summary

    if as_json:
        _answer(values, True)
    else:
        click.echo(summary(read_json(values["result"])))
        click.echo(f"bundle: {values['bundle'] or 'none is inside the accuracy budget'}\nreport: {values['report']}")
    sys.exit(VERDICT_EXIT[verdict])


@cli.command()
@click.argument("model", type=EXISTING)
@_options("data", "target", "imgsz", "prune", "settings", "config", "quiet", "json")
@click.option("--out", type=EXISTING, help="Folder to write [default: runs/slim/NAME/prune].")
def prune(model: Path, data: Path, quiet: bool, as_json: bool, **arguments: Any) -> None:
    """Remove channels of backbone, neck and head from MODEL; write pruned.pt, plan.json and widths.json."""
    from yolo_slim import api
    from yolo_slim.files import read_json
    from yolo_slim.reporting.text import table

    with _listening(quiet) as listener:
        outputs = api.prune(model, data, progress=listener, **arguments)
    rows = [[r["layer"], str(r["before"]), str(r["after"])] for r in read_json(outputs.widths)["layers"]]
    _answer(vars(outputs), as_json, f"{table(['layer', 'before', 'after'], rows)}\nweights: {outputs.weights}")


@cli.command()
@click.option("--model", required=True, type=EXISTING, help="Trained detection checkpoint.")
@_options("data", "target", "imgsz")
@click.option("--removed", type=float, help="Fraction of its channels that a block loses [default: 0.5].")
@click.option("--runtime", help="Where milliseconds are measured: onnxruntime or ncnn [default: onnxruntime].")
@click.option("--images", type=int, help="Measure mAP on the first so many validation images [default: all].")
@_options("settings", "config", "quiet", "json")
@click.option("--out", type=EXISTING, help="Folder to write [default: runs/slim/MODEL-TARGET-IMGSZ-block-costs].")
def block_costs(model: Path, data: Path, quiet: bool, as_json: bool, **arguments: Any) -> None:
    """Measure what each block costs in mAP and gains in milliseconds when it alone is narrowed.

    \b
    Prune by what was measured:
      yolo-slim block-costs --model best.pt --data data.yaml --imgsz 320 --out out/map
      yolo-slim prune best.pt --data data.yaml --imgsz 320 \\
        --set prune.scope=block_costs --set prune.block_costs=out/map/block_costs.json

    Accuracy is measured on validation images, milliseconds on this machine, block against unpruned network in turns.
    A stopped run goes on with the missing blocks.
    """  # noqa: D301
    from yolo_slim import api
    from yolo_slim.files import read_json
    from yolo_slim.reporting.block_costs import text

    with _listening(quiet) as listener:
        outputs = api.block_costs(model, data, command=_command(), progress=listener, **arguments)
    paths = "\n".join(f"{key}: {path}" for key, path in vars(outputs).items())
    found = read_json(outputs.map)
    _answer({**vars(outputs), "blocks": found["blocks"]}, as_json, f"{text(found)}\n{paths}")


@cli.group(cls=_Group)
def plan() -> None:
    """Make, show, compare and carry out prune plans.

    \b
    A plan says which channels of which layers stay. Edit plan.json by hand: set "keep": 48 in a layer, or change its
    "outputs"; what goes with it follows, and `plan apply` holds the result against the model.
    """  # noqa: D301  (click reads the character \b)


@plan.command("make")
@click.argument("model", type=EXISTING)
@_options("data", "target", "imgsz", "prune", "settings", "config", "quiet", "json")
@click.option("--out", required=True, type=EXISTING, help="Folder to write.")
def plan_make(model: Path, data: Path, out: Path, quiet: bool, as_json: bool, **arguments: Any) -> None:
    """Dry run of `prune`: write plan.json and widths.json for MODEL, and no weights."""
    from yolo_slim import api
    from yolo_slim.files import read_json

    with _listening(quiet) as listener:
        outputs = api.make_plan(model, data, out, progress=listener, **arguments)
    sizes = read_json(outputs.widths)
    expected = {
        key: f"{sizes['control'][key] / unit:.3f} -> {sizes['slim'][key] / unit:.3f}"
        for key, unit in (("macs", 1e9), ("params", 1e6))
    }
    about = {"GMACs": expected["macs"], "M parameters": expected["params"]}
    _answer({**vars(outputs), **sizes} if as_json else {**about, **vars(outputs)}, as_json)


@plan.command("show")
@click.argument("path", metavar="PLAN", type=EXISTING)
@_options("json")
def plan_show(path: Path, as_json: bool) -> None:
    """Show a plan's settings and the widths before and after."""
    from yolo_slim.pruning import plan_edits as planning
    from yolo_slim.reporting.text import table

    shown, edits = planning.read(path)
    widths = {name: (cut.outputs_before, len(cut.outputs)) for name, cut in shown.layers.items()}
    text = table(["layer", "before", "after"], [[name, str(a), str(b)] for name, (a, b) in widths.items()])
    settings = " ".join(f"{key}={value}" for key, value in shown.settings.items() if value not in (None, [], 0))
    about = {
        "model_sha256": shown.model_sha256, "settings": shown.settings, "widths": widths, "edited": shown.edited,
        "edits": edits.described(),
    }  # fmt: skip
    lines = [
        text,
        f"model: {shown.model_sha256}",
        f"settings: {settings}",
        *_not_yet_carried_out(path, edits.described()),
    ]
    _answer(about, as_json, "\n".join(lines))


def _not_yet_carried_out(path: Path, edits: list[str]) -> list[str]:
    """Return what to say of a plan's edits, which the widths and lists beside them don't follow yet."""
    if not edits:
        return []
    return [f"Edited by hand in {path}; `yolo-slim plan apply` carries it out:", *(f"  - {edit}" for edit in edits)]


@plan.command("diff")
@click.argument("first", type=EXISTING)
@click.argument("second", type=EXISTING)
@_options("json")
def plan_diff(first: Path, second: Path, as_json: bool) -> None:
    """Show the layers that two plans of one model treat differently."""
    from yolo_slim import api
    from yolo_slim.pruning import plan_edits as planning
    from yolo_slim.reporting.text import table

    rows = [vars(row) for row in api.diff_plans(first, second)]
    edits = {str(path): planning.read(path)[1].described() for path in (first, second)}
    columns = ["layer", "before", "first", "second", "common"]
    lines = [table(columns, [[str(row[column]) for column in columns] for row in rows])] if rows else []
    lines += [line for path, told in edits.items() for line in _not_yet_carried_out(Path(path), told)]
    _answer({"layers": rows, "edits": edits}, as_json, "\n".join(lines or ["The plans keep the same channels."]))


@plan.command("apply")
@click.argument("path", metavar="PLAN", type=EXISTING)
@click.argument("model", type=EXISTING)
@_options("data", "quiet", "json")
@click.option("--out", required=True, type=EXISTING, help="Folder to write.")
def plan_apply(path: Path, model: Path, data: Path, out: Path, quiet: bool, as_json: bool) -> None:
    """Verify PLAN against MODEL and cut it: pruned.pt as `prune` makes it by the same plan, byte for byte."""
    from yolo_slim import api

    with _listening(quiet) as listener:
        outputs = api.apply_plan(path, model, data, out, progress=listener)
    _answer(vars(outputs), as_json)


@cli.command()
@click.argument("weights", type=EXISTING)
@click.option("--teacher", required=True, type=EXISTING, help="The unpruned checkpoint, or a larger one like it.")
@_options("data", "imgsz", "epochs", "device", "train", "settings", "config", "quiet", "json")
@click.option(
    "--out",
    type=EXISTING,
    help="Folder to write [default: recover/ in the run that WEIGHTS and teacher are of, else "
    "runs/slim/WEIGHTS-TARGET-IMGSZ-recover].",
)
def recover(weights: Path, teacher: Path, data: Path, quiet: bool, as_json: bool, **arguments: Any) -> None:
    """Train pruned WEIGHTS back with distillation from the teacher; write recovered.pt."""
    from yolo_slim import api

    with _listening(quiet) as listener:
        outputs = api.recover(weights, teacher, data, progress=listener, **arguments)
    _answer(vars(outputs), as_json)


@cli.command()
@click.argument("weights", type=EXISTING)
@_options("data", "imgsz", "settings", "config", "quiet", "json")
@click.option("--out", type=EXISTING, help="Folder to write [default: runs/slim/NAME/export].")
def export(weights: Path, data: Path, quiet: bool, as_json: bool, **arguments: Any) -> None:
    """Export WEIGHTS to one ONNX file and prove it equal to PyTorch on validation images."""
    from yolo_slim import api

    with _listening(quiet) as listener:
        outputs = api.export(weights, data, progress=listener, **arguments)
    _answer(vars(outputs), as_json)


@cli.command()
@click.argument("onnx", type=EXISTING)
@click.option("--trained", type=EXISTING, help="model-qat.onnx of the same export, after --train quantize=8.")
@click.option("--calibration", type=EXISTING, help="calibration.json of an earlier run [default: a new choice].")
@click.option(
    "--precision",
    "precisions",
    multiple=True,
    type=click.Choice(["int8", "fp16"]),
    default=("int8", "fp16"),
    show_default=True,
    help="Graph to make; give it again for both.",
)
@_options("data", "settings", "config", "quiet", "json")
@click.option("--out", required=True, type=EXISTING, help="Folder to write.")
def quantize(onnx: Path, data: Path, out: Path, quiet: bool, as_json: bool, **arguments: Any) -> None:
    """Make the int8 and fp16 graphs of an exported ONNX file, calibrated on training images of --data."""
    from yolo_slim import api

    with _listening(quiet) as listener:
        outputs = api.quantize(onnx, data, out, progress=listener, **arguments)
    about = {"calibration": outputs.calibration, "layer_errors": outputs.layer_errors}
    _answer({**outputs.graphs, **about}, as_json)


@cli.command()
@click.argument("onnx", type=EXISTING)
@click.option("--quantized", type=EXISTING, help="Folder of `yolo-slim quantize`, for int8 and fp16 builds.")
@_options("data", "target", "quiet", "json")
@click.option("--out", required=True, type=EXISTING, help="Folder to write.")
def build(
    onnx: Path, quantized: Path | None, data: Path, target: str | None, out: Path, quiet: bool, as_json: bool
) -> None:
    """Build the bundles of a target from an exported ONNX file, self-check included."""
    from yolo_slim import api

    with _listening(quiet) as listener:
        outputs = api.build(onnx, data, out, target=target or "host", quantized=quantized, progress=listener)
    _answer({**outputs.bundles, **outputs.skipped}, as_json)


@cli.command()
@click.argument("bundles", nargs=-1, required=True, type=EXISTING)
@click.option("--control", required=True, type=EXISTING, help="The unpruned checkpoint.")
@click.option("--pruned", type=EXISTING, help="Rung of the ladder.")
@click.option("--recovered", type=EXISTING, help="Rung of the ladder.")
@click.option("--onnx", type=EXISTING, help="Rung of the ladder.")
@click.option("--quantized", type=EXISTING, help="Folder of `yolo-slim quantize`, to name bad layers.")
@_options("data", "target", "imgsz", "settings", "config", "quiet", "json")
@click.option("--out", required=True, type=EXISTING, help="Folder to write.")
def validate(
    bundles: tuple[Path, ...], control: Path, data: Path, out: Path, quiet: bool, as_json: bool, **arguments: Any
) -> None:
    """Measure accuracy and speed of BUNDLES and judge them by the target's gates; write result.json and report.html."""
    from yolo_slim import api
    from yolo_slim.bundle import open_bundle

    opened = [open_bundle(path) for path in bundles]
    keys = {f"slim/{b.spec.runtime}-{b.spec.precision}": b.folder for b in opened}
    if len(keys) < len(opened):
        raise SlimError("Two bundles have the same runtime and precision.", remedy="Validate them one after the other.")
    arguments["imgsz"] = arguments["imgsz"] or opened[0].spec.imgsz[0]
    with _listening(quiet) as listener:
        outputs = api.validate(keys, control, data, out, command=_command(), progress=listener, **arguments)
    _finish(outputs.verdict, vars(outputs), as_json)


@cli.command()
@click.argument("path", type=EXISTING)
@_options("json")
def show(path: Path, as_json: bool) -> None:
    """Show a run's folder, a result.json, a bundle, or the size and widths of a checkpoint (.pt)."""
    from yolo_slim.files import read_json
    from yolo_slim.reporting.text import summary

    if not path.exists():
        raise SlimError(
            f"Nothing there: {path}", remedy="Give a run's folder, a result.json, a bundle or a checkpoint."
        )
    result = next((p for p in (path / "validate/result.json", path / "result.json", path) if p.suffix == ".json"
                   and p.is_file()), None)  # fmt: skip
    if path.suffix == ".pt":
        _show_checkpoint(path, as_json)
    elif result is not None:
        try:
            value = read_json(result)
            text = summary(value)
        except (ValueError, KeyError, TypeError):
            raise SlimError(
                f"{result} isn't a result.json.",
                remedy="Run `yolo-slim run` again. Plans have a command of their own: `yolo-slim plan show`.",
            ) from None
        _answer(value, as_json, text)
    elif (path / "run.json").is_file():
        done = sorted(p.parent.name for p in path.rglob("manifest.json"))
        _answer({"run": path, "finished": ", ".join(done) or "nothing yet"}, as_json)
    else:
        from yolo_slim.bundle import open_bundle

        _answer(open_bundle(path).spec.to_json(), as_json)


def _show_checkpoint(path: Path, as_json: bool) -> None:
    """Print a checkpoint's classes, widths, parameters and MACs."""
    from yolo_slim.models import checkpoint
    from yolo_slim.models.size import conv_widths, measure
    from yolo_slim.reporting.text import table

    loaded = checkpoint.load(path, checkpoint.TASKS)
    size, widths = measure(loaded.model, 640), conv_widths(loaded.model)
    text = table(["layer", "width"], [[name, str(width)] for name, width in widths.items()])
    about = f"{len(loaded.names)} classes, {size.params / 1e6:.2f} M parameters, {size.macs / 1e9:.2f} GMACs at 640 px"
    _answer({**size.to_json(), "widths": widths, "names": loaded.names}, as_json, f"{text}\n{about}")


@cli.command()
@click.argument("name", required=False, shell_complete=_targets)
@_options("json")
def targets(name: str | None, as_json: bool) -> None:
    """List the device profiles, or show one of them."""
    from yolo_slim.config import targets as profiles

    if name:
        value = profiles.load(name).model_dump(exclude_none=True)
        _answer(value, as_json)
        return
    found = {known: profiles.load(known).description for known in profiles.names()}
    width = max(map(len, found))
    _answer(found, as_json, "\n".join(f"{key.ljust(width)}  {text}" for key, text in found.items()))


@cli.command()
@_options("json")
def doctor(as_json: bool) -> None:
    """Tell whether this machine can run the chain: packages, versions, cores, memory, GPU."""
    import importlib.util

    from yolo_slim.machine import describe_machine
    from yolo_slim.workspace.job import versions

    modules = [
        "torch",
        "torchvision",
        "ultralytics",
        "torch_pruning",
        "onnx",
        "onnxslim",
        "onnxruntime",
        "ncnn",
        "pnnx",
        "cv2",
        "wheel",
        "jinja2",
    ]
    missing = [module for module in modules if importlib.util.find_spec(module) is None]
    value = {**describe_machine(), **versions(), "missing": missing}
    _answer(value, as_json)
    if missing:
        raise SlimError(
            "Some packages of the workstation half are missing.",
            culprits=missing,
            remedy="Install them: pip install -c constraints.txt 'yolo-slim[host]'",
        )


def main() -> None:
    """Run the command line; a user's error is one message and exit code 2, never a traceback."""
    os.environ.setdefault("YOLO_AUTOINSTALL", "false")
    try:
        code = cli.main(prog_name="yolo-slim", standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except SlimError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(EXIT_BAD_INPUT)
    except click.ClickException as error:
        error.show()
        sys.exit(EXIT_BAD_INPUT)
    except (click.Abort, KeyboardInterrupt):
        click.echo("Stopped; the same command goes on from here.", err=True)
        sys.exit(130)
    except OSError as os_error:
        explained = explain_os_error(os_error, Path.cwd()) or explain_path(os_error)
        if explained is None:
            raise
        click.echo(f"error: {explained}", err=True)
        sys.exit(EXIT_BAD_INPUT)
