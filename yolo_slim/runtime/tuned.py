"""Threads and options that ``tune`` found fastest on one machine: ``tuned.json`` beside a bundle's model.

They are used on a machine of the same model with the same runtime and the same model files, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from yolo_slim.backends import Options, OptionValue, require_options
from yolo_slim.bundle import PACKAGES, RUNTIMES, Bundle, BundleSpec
from yolo_slim.errors import SlimError
from yolo_slim.files import read_json, write_json
from yolo_slim.machine import cores, device_model, package_version

FILE = "tuned.json"
SCHEMA = 1
TUNE_AGAIN = "tune it again: python -m yolo_slim.runtime tune BUNDLE"


@dataclass(frozen=True, kw_only=True)
class Setting:
    """How a bundle runs."""

    threads: int
    """Inference threads."""
    options: Mapping[str, OptionValue]
    """Options of the runtime that aren't the usual ones."""

    def __str__(self) -> str:
        options = [f"{key} {_text(value)}" for key, value in self.options.items()]
        return ", ".join([f"{self.threads} thread{'s' if self.threads > 1 else ''}", *options])


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """What is known of a bundle's best setting here."""

    setting: Setting | None
    """The setting that was found; None: none, or one of another machine, runtime or model."""
    note: str
    """Why a file that is there isn't used; empty: there is none, or it is used."""

    def __str__(self) -> str:
        return self.note or (str(self.setting) if self.setting else "no")


NOT_TUNED = Tuning(setting=None, note="")


def identity(spec: BundleSpec) -> dict[str, object]:
    """What a setting belongs to: the machine, the runtime and the model."""
    runtime = next(name for name in RUNTIMES if name == spec.runtime)
    return {
        "machine": device_model(),
        "cores": cores(),
        "versions": {package: package_version(package) for package in PACKAGES[runtime]},
        "model": {role: spec.files[file]["sha256"] for role, file in spec.model.items() if file in spec.files},
    }


def save(bundle: Bundle, setting: Setting, record: Mapping[str, object]) -> Path:
    """Write the setting beside the model; ``record`` says how it was found."""
    path = bundle.folder / FILE
    write_json(path, {"schema": SCHEMA, "tuned_for": identity(bundle.spec), **asdict(setting), **record})
    return path


def load(bundle: Bundle) -> Tuning:
    """The setting for this machine, runtime and model; a file that is for another one, or damaged, isn't used."""
    path = bundle.folder / FILE
    if not path.is_file():
        return NOT_TUNED
    try:
        value = read_json(path)
        setting = Setting(threads=int(value["threads"]), options=dict(value["options"]))
        tuned_for = dict(value["tuned_for"])
        require_options(bundle.spec.runtime, setting.options)
    except (OSError, ValueError, KeyError, TypeError, SlimError) as error:
        return Tuning(setting=None, note=f"{FILE} isn't used: it can't be read ({type(error).__name__}); {TUNE_AGAIN}")
    wanted = identity(bundle.spec)
    differing = [key for key in wanted if tuned_for.get(key) != wanted[key]]
    if value.get("schema") != SCHEMA or differing or setting.threads < 1:
        what = ", ".join(f"another {_NAMES[key]}" for key in differing) or "another yolo_slim"
        return Tuning(setting=None, note=f"{FILE} isn't used: it is for {what}; {TUNE_AGAIN}")
    return Tuning(setting=setting, note="")


def usual_threads(spec: BundleSpec) -> int:
    """The bundle's number of threads, at most one for every core of this machine."""
    return min(spec.threads, cores())


def parse_options(texts: list[str]) -> Options:
    """Read options as they are typed: ``spinning=off``, ``spin=3000``.

    Raises:
        SlimError: a text without ``=``.
    """
    found: dict[str, OptionValue] = {}
    for text in texts:
        key, is_given, value = text.partition("=")
        if not is_given:
            raise SlimError(f"The option {text} has no value.", remedy="Write it as NAME=VALUE, such as spinning=off.")
        found[key] = _FLAGS.get(value, int(value) if value.isdecimal() else value)
    return found


def typed(options: Options) -> list[str]:
    """The inverse of :func:`parse_options`."""
    return [f"{key}={_text(value)}" for key, value in options.items()]


def _text(value: OptionValue) -> str:
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else str(value)


_FLAGS: dict[str, OptionValue] = {"on": True, "off": False}
_NAMES = {"machine": "machine", "cores": "number of cores", "versions": "version of the runtime", "model": "model"}
