"""The entry point: all commands, and one clear message for every error of the user's."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from yolo_slim.child_process import ended_by_sigterm
from yolo_slim.cli import (
    block_costs,
    chain,
    compare,
    device,
    device_inventory,
    doctor,
    estimate,
    latency,
    nightly,
    nightly_dashboard,
    nightly_history,
    plans,
    show,
    stages,
)
from yolo_slim.cli.group import cli
from yolo_slim.errors import EXIT_BAD_INPUT, SlimError, explain_os_error, explain_path
from yolo_slim.system_libraries import explain_import, extra_line

COMMANDS = (
    chain, stages, block_costs, latency, compare, nightly, nightly_dashboard, nightly_history, plans, show, estimate,
    doctor, device, device_inventory,
)  # fmt: skip
"""Importing these modules adds their commands to the group."""

# 128 + SIGINT (2), as shells report it.
EXIT_INTERRUPTED = 130


def main() -> None:
    """Run the command line; a user's error is one message and exit code 2, never a traceback."""
    # Ultralytics would install missing packages by itself.
    os.environ.setdefault("YOLO_AUTOINSTALL", "false")
    try:
        # Otherwise click would end the process itself, with code 1 for Ctrl-C.
        with ended_by_sigterm():
            code = cli.main(prog_name="yolo-slim", standalone_mode=False)
    except SlimError as error:
        code = _refused(error)
    except click.ClickException as error:
        _show(error)
        code = EXIT_BAD_INPUT
    except (click.Abort, KeyboardInterrupt):
        click.echo("Stopped. Run the same command again to resume.", err=True)
        code = EXIT_INTERRUPTED
    except ImportError as error:
        missing = explain_import(error, install=extra_line("host"))
        if missing is None:
            raise
        code = _refused(missing)
    except OSError as error:
        explained = explain_os_error(error, Path.cwd()) or explain_path(error)
        if explained is None:
            raise
        code = _refused(explained)
    sys.exit(code if isinstance(code, int) else 0)


def _show(error: click.ClickException) -> None:
    """Print what click doesn't understand, in the form of every other error; a group without a command is its help."""
    if isinstance(error, click.exceptions.NoArgsIsHelpError) or not isinstance(error, click.UsageError):
        error.show()
        return
    command = error.ctx.command_path if error.ctx else "yolo-slim"
    click.echo(f"error: {error.format_message()}\n{_needed(error)}See `{command} --help`.", err=True)


def _needed(error: click.UsageError) -> str:
    """All that a command can't do without, where something of it is missing: click names the first alone."""
    if not isinstance(error, click.MissingParameter) or error.ctx is None:
        return ""
    needed = [
        param.opts[0] if isinstance(param, click.Option) else param.make_metavar(error.ctx)
        for param in error.ctx.command.params
        if param.required
    ]
    return f"`{error.ctx.command_path}` needs {' and '.join(needed)}. " if len(needed) > 1 else ""


def _refused(error: SlimError) -> int:
    """Print the message of an error that the user can solve."""
    click.echo(f"error: {error}", err=True)
    return EXIT_BAD_INPUT
