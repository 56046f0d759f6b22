"""The commands' group: a typing error gets a suggestion, an old name the new one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import click

from yolo_slim.config.commands import CompareConfig
from yolo_slim.config.strict import hint
from yolo_slim.version import __version__

WHOLE = 1000
"""Longest first sentence in a list of commands, characters: click would cut it off after 45."""


class Command(click.Command):
    """A command that answers an option's old name with the new one."""

    renamed: ClassVar[Mapping[str, str]] = {f"--{old}": f"--{new}" for old, new in CompareConfig.renamed.items()}

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse; see click.

        Raises:
            click.UsageError: what click doesn't understand.
        """
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            if error.option_name not in self.renamed:
                raise
            now = hint(error.option_name, [], self.renamed)
            raise click.UsageError(f"No such option '{error.option_name}'.{now}", ctx) from None

    def get_short_help_str(self, limit: int = WHOLE) -> str:
        """The whole first sentence of the help; see click."""
        return super().get_short_help_str(max(limit, WHOLE))


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
