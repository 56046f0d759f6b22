"""From older schemas of ``compare.json`` to this one, so that networks trained long ago can still be imported.

Schema 2 (2026-11) renamed keys and settings and changed no meaning. A file of schema 1 contains the same figures under
the names of :data:`KEYS` and :data:`SETTINGS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SCHEMA = 2
KEYS = {"arms": "methods", "arm": "method", "taken_over": "imported"}
"""Keys of schema 1, at any depth."""
SETTINGS = {
    "prune.rounds": "prune.steps",
    "prune.head_gentleness": "prune.head_rate",
    "prune.sensitivity": "prune.block_costs",
}
"""Settings of schema 1 by dotted key."""
VALUES = {"prune.scope": {"sensitivity": "block_costs"}}
"""Values of schema 1 by today's setting."""


def migrated(value: Any) -> dict[str, Any]:
    """Give a value of ``compare.json`` in this version's schema.

    Raises:
        ValueError: it isn't the result of a comparison, or its schema is newer than this version.
    """
    if not isinstance(value, Mapping) or value.get("kind") != "comparison":
        raise ValueError("its kind isn't comparison")
    schema = value.get("schema")
    if schema not in range(1, SCHEMA + 1):
        raise ValueError(f"its schema is {schema}; this version reads 1 to {SCHEMA}")
    return dict(value) if schema == SCHEMA else _from_schema_1(value)


def _from_schema_1(value: Mapping[str, Any]) -> dict[str, Any]:
    """Rename the keys and settings of schema 1."""
    found: dict[str, Any] = _renamed(value)
    # Settings are a mapping of names that aren't ours to rename by the table of keys.
    if isinstance(settings := value.get("settings"), Mapping):
        found["settings"] = settings_of_schema_1(settings)
    return {**found, "schema": SCHEMA}


def settings_of_schema_1(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Give the settings by today's names."""
    renamed = {SETTINGS.get(key, key): value for key, value in settings.items()}
    return {key: _new_value(key, value) for key, value in renamed.items()}


def _new_value(key: str, value: Any) -> Any:
    """Today's word for a value; values that were no word stay."""
    return VALUES.get(key, {}).get(value, value) if isinstance(value, str) else value


def _renamed(value: Any) -> Any:
    """Copy a JSON value with today's keys."""
    if isinstance(value, Mapping):
        # The first files had one figure for the trained network and its cut here.
        cut = {"cut_macs": value.get("macs")} if "taken_over" in value else {}
        return {**cut, **{KEYS.get(key, key): _renamed(inner) for key, inner in value.items()}}
    return [_renamed(inner) for inner in value] if isinstance(value, list) else value
