"""Faults of accessibility in a page, found by axe-core: in this checkout's node_modules, else in axe-core-python."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.helpers.chromium import Tab
from tests.helpers.constants import ROOT


def script() -> Path | None:
    """Find axe.min.js; None: it isn't installed."""
    newest = ROOT / "node_modules/axe-core/axe.min.js"
    if newest.is_file():
        return newest
    spec = find_spec("axe_core_python")
    folder = next(iter(spec.submodule_search_locations or ()), None) if spec else None
    return Path(folder) / "axe.min.js" if folder else None


needs_axe = pytest.mark.skipif(script() is None, reason="needs axe-core-python (extra dev), or npm install axe-core")


async def faults(tab: Tab) -> list[str]:
    """The rule, the weight and the place of everything that axe calls a violation in the open page."""
    path = script()
    assert path is not None
    await tab.run(path.read_text(encoding="utf-8") + ";true")
    found = json.loads(await tab.run("axe.run(document, {resultTypes: ['violations']}).then(JSON.stringify)"))
    return [
        f"{rule['id']} ({rule['impact']}): {node['target']} {node['html'][:120]}"
        for rule in found["violations"]
        for node in rule["nodes"][:5]
    ]
