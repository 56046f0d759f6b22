"""The commands' group: a typing error gets a suggestion, an old name the new one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import click

from yolo_slim.cli.inputs import require_inputs, right_line
from yolo_slim.config.commands import CompareConfig
from yolo_slim.config.declaration import options_in
from yolo_slim.config.run import RunConfig
from yolo_slim.config.strict import hint, keys_in_sections
from yolo_slim.errors import MAX_MEANT, did_you_mean, meant
from yolo_slim.files import DESCRIPTIONS, NETWORKS
from yolo_slim.training.defaults import ultralytics_names
from yolo_slim.version import __version__

WHOLE = 1000
"""Longest first sentence in a list of commands, characters: click would cut it off after 45."""

NETWORK_WORDS = {"MODEL", "WEIGHTS", "ONNX", "PATH"}
"""What commands call the network that they read."""
_FLAGS = {item.key: item.option.dashed for item in options_in(RunConfig).values() if item.option}
"""Key of a setting to its option."""
TYPED = "yolo_slim.typed"
"""Key of a context's words as they were typed."""


class Command(click.Command):
    """A command that says what was meant, and looks at its files before it begins."""

    renamed: ClassVar[Mapping[str, str]] = {f"--{old}": f"--{new}" for old, new in CompareConfig.renamed.items()}
    # Otherwise click refuses words that belong to no option before :meth:`unexpected` can explain them.
    allow_extra_args = True

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse; see click.

        Raises:
            click.UsageError: what click doesn't understand, with what was probably meant.
        """
        # click empties the list.
        ctx.meta[TYPED] = list(args)
        try:
            left = super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            option = error.option_name
            instead = self._as_argument(ctx, option) or self.meant(option) or _elsewhere(ctx, option)
            raise click.UsageError(f"No such option '{error.option_name}'.{instead}", ctx) from None
        except click.UsageError as error:
            # What click's own parser refuses doesn't say by which command.
            error.ctx = error.ctx or ctx
            raise
        # Shell completion parses unfinished lines, where nothing is an error.
        if left and not ctx.resilient_parsing:
            raise click.UsageError(self.unexpected(ctx, left), ctx)
        return left

    def invoke(self, ctx: click.Context) -> Any:
        """Run; see click.

        Raises:
            SlimError: a file that isn't there, or in another's place.
        """
        require_inputs(ctx, ctx.meta[TYPED])
        return super().invoke(ctx)

    def unexpected(self, ctx: click.Context, left: Sequence[str]) -> str:
        """Explain words that belong to no option."""
        model = next((word for word in left if word.endswith(NETWORKS)), "best.pt")
        data = next((word for word in left if word.endswith(DESCRIPTIONS)), "data.yaml")
        others = [word for word in ctx.meta[TYPED] if word not in left]
        start = f"Unexpected: {' '.join(left)}."
        if {"--model", "--data"} <= self._options and not {"--model", "--data"} & set(others):
            line = right_line(ctx, ["--model", model, "--data", data, *others])
            return f"{start} Model and data are given by option, so that they can't be exchanged: {line}"
        return start

    @property
    def _options(self) -> set[str]:
        """Every option as it is typed."""
        options = [parameter for parameter in self.params if isinstance(parameter, click.Option)]
        return {name for option in options for name in (*option.opts, *option.secondary_opts)}

    def _as_argument(self, ctx: click.Context, option: str) -> str:
        """Say that a value is given without the option; empty where the command takes no such one."""
        arguments = [one for one in self.params if isinstance(one, click.Argument)]
        words = {option.strip("-").upper()}
        if words & NETWORK_WORDS:
            words |= NETWORK_WORDS
        if not any(one.human_readable_name.upper() in words for one in arguments):
            return ""
        usage = " ".join(piece for one in arguments for piece in one.get_usage_pieces(ctx))
        return f" It is given without an option: {ctx.command_path} {usage} ..."

    def meant(self, option: str) -> str:
        """What to write in place of an option that doesn't exist; empty where nothing is like it."""
        if self.renamed.get(option) in self._options:
            return hint(option, [], self.renamed)
        key = option.strip("-").replace("-", "_")
        keys = [one for one, last in keys_in_sections(RunConfig).items() if key in (one, last)]
        short = [flag for one in keys if (flag := _FLAGS.get(one, "")) in self._options]
        if short:
            return meant(short)
        if any(one in _FLAGS for one in keys):
            return ""  # an option of other commands, which _elsewhere() names
        if keys and "--set" in self._options:
            return f" It is a setting without an option: {' or '.join(f'--set {one}=VALUE' for one in keys)}"
        if "--train" in self._options and key in ultralytics_names():
            return f" It is an argument of Ultralytics' training: --train {key}=VALUE"
        return did_you_mean(option, sorted(self._options))

    def get_short_help_str(self, limit: int = WHOLE) -> str:
        """The whole first sentence of the help; see click."""
        return super().get_short_help_str(max(limit, WHOLE))


def _elsewhere(ctx: click.Context, option: str) -> str:
    """Which commands have an option that this one lacks; empty: none."""
    root = ctx.find_root().command
    known = root.commands if isinstance(root, click.Group) else {}
    having = [name for name, one in known.items() if any(option in parameter.opts for parameter in one.params)]
    return f" It is an option of {', '.join(f'`yolo-slim {name}`' for name in having[:MAX_MEANT])}." if having else ""


class Group(click.Group):
    """A group that suggests the nearest command."""

    command_class = Command
    renamed: ClassVar[Mapping[str, str]] = {"sensitivity": "block-costs"}

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; see click.

        Raises:
            click.UsageError: no such command, with the name that was probably meant.
        """
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError:
            meant = _on_the_device(args[0]) or hint(args[0], self.list_commands(ctx), self.renamed)
            raise click.UsageError(f"No such command '{args[0]}'.{meant}", ctx) from None

    def get_short_help_str(self, limit: int = WHOLE) -> str:
        """The whole first sentence of the help; see click."""
        return super().get_short_help_str(max(limit, WHOLE))


def _on_the_device(command: str) -> str:
    """How a command of the device half is given; empty: it is none."""
    from yolo_slim.runtime.arguments import PROG, has_command

    return f" It takes a bundle, on any machine: `{PROG} {command} BUNDLE`." if has_command(command) else ""


def _show_version(ctx: click.Context, _: click.Parameter, asked: bool) -> None:
    """Print the version and end."""
    if asked and not ctx.resilient_parsing:
        from yolo_slim.commit import commit_text

        click.echo(f"yolo-slim {__version__} ({commit_text()})")
        ctx.exit()


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--version", is_flag=True, expose_value=False, is_eager=True, callback=_show_version,
              help="Show the version with its commit, and exit.")  # fmt: skip
def cli() -> None:
    """Make a trained Ultralytics YOLO faster on an edge device, and measure what that costs in accuracy.

    \b
    The whole chain on your model:
      yolo-slim run --model best.pt --data data.yaml --target rpi5 --imgsz 320 --prune 0.5 --epochs 30
    The whole chain on the built-in example:
      yolo-slim run

    Results are written to runs/slim/NAME. To resume an interrupted run, give the same command again.
    Exit codes: 0 pass, 1 a gate failed, 2 bad input, 3 unproven (not measured on the target).

    Shell completion: eval "$(_YOLO_SLIM_COMPLETE=bash_source yolo-slim)" (or zsh_source, fish_source).
    """  # noqa: D301  (click reads the character \b)
