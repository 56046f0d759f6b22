"""Find and read the device profiles of ``targets/``."""

from __future__ import annotations

from pathlib import Path

from yolo_slim.config.profile import Profile
from yolo_slim.config.strict import parse, read_yaml
from yolo_slim.errors import SlimError, did_you_mean
from yolo_slim.files import DESCRIPTIONS

_PACKAGE = Path(__file__).parents[1]


def profiles_folder() -> Path:
    """The folder of the profiles: inside an installed wheel, or at the top of a checkout."""
    installed = _PACKAGE / "_targets"
    return installed if installed.is_dir() else _PACKAGE.parent / "targets"


def names() -> list[str]:
    """The names of the profiles that come with yolo_slim, sorted."""
    return sorted(path.stem for path in profiles_folder().glob("*.yaml"))


def load(target: str) -> Profile:
    """Load a profile by its name, or from a user's own file when ``target`` ends in ``.yaml``.

    Raises:
        SlimError: no such profile, or keys and values of the file that aren't valid.
    """
    own = _is_own(target)
    path = Path(target) if own else profiles_folder() / f"{target}.yaml"
    if not path.is_file():
        raise SlimError(
            f"File not found: {path} (target)" if own else f"Unknown target '{target}'.{did_you_mean(target, names())}",
            remedy=f"Give the path of your own profile (.yaml), or a name: {', '.join(names())}. "
            "A device (`yolo-slim device list`) goes to --host.",
        )
    profile = parse(Profile, read_yaml(path), str(path))
    # names() and load() know a profile by its file's name alone.
    if profile.name != path.stem:
        raise SlimError(
            f"{path}: the profile is named '{profile.name}' but its file '{path.stem}'.",
            remedy="Give both the same name.",
            topic="settings-arent-valid",
        )
    return profile


def anywhere(target: str) -> str:
    """What names a target from every folder: a user's own file by its whole path."""
    return str(Path(target).absolute()) if _is_own(target) else target


def _is_own(target: str) -> bool:
    """Whether it is a user's own file, not a name."""
    return target.endswith(DESCRIPTIONS)
