"""What class names must be, in a checkpoint as in a ``data.yaml``; imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping


def name_problems(names: Mapping[int, str]) -> list[str]:
    """What is wrong with class names, for people; empty: nothing.

    Class ids are indices of the network's outputs, so a gap would leave one without a name. A name that is empty or
    blank can't be told from another one in results, and no bundle may contain one.
    """
    found = []
    if sorted(names) != list(range(len(names))) or not names:
        found.append(f"names: the class ids are {sorted(names)}; expected 0 to {max(len(names) - 1, 0)} without gaps")
    return found + [
        f"names: class {number} has the name {name!r}" for number, name in names.items() if not name.strip()
    ]
