"""One checked configuration from a file, settings by key, and short options; the later wins."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_origin

from yolo_slim.config import targets
from yolo_slim.config.commands import TAKES, Sources
from yolo_slim.config.declaration import Setting, options_in
from yolo_slim.config.run import RunConfig
from yolo_slim.config.strict import Frozen, Model, hint, parse, read_yaml
from yolo_slim.errors import CHECK_PATH, SlimError, not_found
from yolo_slim.files import DESCRIPTIONS, NETWORKS

TargetOf = Callable[[str], str]
"""Finds the target of a device by what ``--host`` calls it."""


def run_config(
    model: str | Path,
    data: str | Path,
    command: str,
    options: Mapping[str, object],
    target_of: TargetOf | None = None,
    **more: object,
) -> RunConfig:
    """The configuration of one command, which may take options of its own besides (:func:`own_options`).

    ``more`` are short options of a run that the command decides itself.

    Raises:
        SlimError: options that the command doesn't take; every unknown key and impossible value at once; model and
            data that are exchanged; every file that isn't there.
    """
    takes = TAKES[command]
    _require_known(options, takes.settings, command, takes.own)
    own = options_in(takes.own) if takes.own else {}
    of_run = {name: value for name, value in options.items() if name not in own} | more
    config = merged(model, data, of_run, target_of)
    _require_files(config)
    return config


def _require_files(config: RunConfig) -> None:
    """Refuse files that aren't there, also those that only a file of settings names."""
    if Path(config.model).suffix in DESCRIPTIONS and Path(config.data).suffix in NETWORKS:
        raise SlimError(
            f"Model and data look exchanged: {config.model} describes data, and {config.data} is a model.",
            remedy="Give the checkpoint (.pt) as the model and the data.yaml as the data.",
        )
    named = {
        "model": config.model,
        "data": config.data,
        "recover.teacher": config.recover.teacher,
        "prune.block_costs": config.prune.block_costs,
    }
    if missing := {key: path for key, path in named.items() if path and not Path(path).exists()}:
        raise not_found(missing, CHECK_PATH)


def own_options(kind: type[Model], options: Mapping[str, object]) -> Model:
    """A command's own options, checked; a single value counts as a list of one.

    Raises:
        SlimError: every impossible value at once.
    """
    given = {
        name: _plain(options[name], item.types)
        for name, item in options_in(kind).items()
        if options.get(name) is not None
    }
    return parse(kind, given, "options", {name: name for name in given})


def merged(
    model: str | Path, data: str | Path, options: Mapping[str, object], target_of: TargetOf | None = None
) -> RunConfig:
    """Merge the file that ``config`` names, ``settings`` by key, and short options into one configuration.

    Where a device is named and no target, ``target_of`` finds the target.

    Raises:
        SlimError: every unknown key and impossible value at once.
    """
    sources = own_options(Sources, options)
    values: dict[str, Any] = read_yaml(Path(sources.config)) if sources.config else {}
    values |= {"model": str(model), "data": str(data)}
    short = {name: value for name, value in options.items() if value is not None and name not in options_in(Sources)}
    chosen = sources.settings | _by_key(short)
    known = options_in(RunConfig)
    given = {known[name].key: name for name in short if name in known}
    if problems := [problem for key, value in chosen.items() if (problem := _put(values, key, value))]:
        raise SlimError(
            "Some keys are inside a key that is not a section.",
            culprits=problems,
            remedy="Correct the file or the option; docs/configuration.md lists the sections and their keys.",
            topic="settings-arent-valid",
        )
    # These defaults depend on another setting, so the fields themselves can't have them.
    section = values.get("device")
    host = section.get("host") if isinstance(section, Mapping) else None
    if "target" not in values and isinstance(host, str) and target_of:
        values["target"] = target_of(host)
    if "imgsz" not in values:
        values["imgsz"] = targets.load(str(values.get("target", "host"))).imgsz
    return parse(RunConfig, values, sources.config or "settings", given)


def _by_key(options: Mapping[str, object]) -> dict[str, object]:
    """Short options by the keys of their settings; training arguments join those of the file one by one."""
    known = options_in(RunConfig)
    found: dict[str, object] = {}
    for name, value in options.items():
        key = known[name].key if name in known else name
        if isinstance(value, Mapping):
            found |= {f"{key}.{inner}": item for inner, item in value.items()}
        else:
            found[key] = _plain(value)
    return found


def _plain(value: object, types: Sequence[object] = ()) -> object:
    """A value as a YAML file would give it: paths are text, sequences and a single one of a list are lists."""
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    # The strict check takes no path for text, and no tuple for a list.
    plain = str(value) if isinstance(value, Path) else value
    return [plain] if types and all(get_origin(kind) is list for kind in types) else plain


def _require_known(
    options: Mapping[str, object], known: Mapping[str, Setting], command: str, own: type[Frozen] | None
) -> None:
    """Refuse arguments of the Python API that a command doesn't take; nothing is ignored."""
    renamed = own.renamed if own else {}
    if unknown := [f"{name}.{hint(name, list(known), renamed)}" for name in options if name not in known]:
        raise SlimError(
            f"{command} doesn't take these arguments.",
            culprits=unknown,
            remedy=f"It takes {', '.join(known)}; every other setting goes through settings={{'prune.steps': 2}}.",
        )


def _put(values: dict[str, Any], dotted: str, value: object) -> str:
    """Set a nested value by its dotted key; the answer says what prevents it, and is empty where it is set."""
    *parents, last = dotted.split(".")
    for depth, part in enumerate(parents, 1):
        inner = values.get(part)
        if inner is not None and not isinstance(inner, Mapping):
            return f"{dotted}: {'.'.join(parents[:depth])} is {inner!r}, not a section"
        # A copy: the mapping may be the caller's own (settings=...).
        values[part] = inner = dict(inner or {})
        values = inner
    values[last] = value
    return ""
