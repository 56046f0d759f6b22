"""NVIDIA's own Python bindings, version by version, against what the sources use and what the fakes pretend."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from functools import lru_cache
from pathlib import Path

import pytest

from tests.helpers import trt_contract
from tests.helpers.constants import ROOT

FAKES = Path(__file__).parent / "fakes"
VERSIONS = list(trt_contract.PACKAGES)


@lru_cache
def bindings(version: str) -> dict[str, str]:
    """Return the names of a version's genuine bindings, or skip."""
    if trt_contract.missing(version):
        pytest.skip(f"needs TensorRT's bindings {version}: python -m tests.helpers.trt_contract --fetch (from PyPI)")
    if shutil.which("gcc") is None:
        pytest.skip("needs gcc for the stub libraries")
    return trt_contract.probe(version)


@pytest.mark.parametrize("version", VERSIONS)
def test_every_use_fits(version: str) -> None:
    """Every class, method, signature, attribute and enum that the sources use is in the genuine bindings."""
    assert trt_contract.problems(bindings(version)) == []


def test_uses_are_found() -> None:
    """The uses are read from the sources: the calls that must be among them are."""
    names = {use.name for use in trt_contract.tensorrt_uses()}
    assert len(names) > 50
    assert {
        "Builder.build_serialized_network",
        "IBuilderConfig.set_memory_pool_limit",
        "IBuilderConfig.builder_optimization_level",
        "IExecutionContext.execute_async_v3",
        "ITimingCache.combine",
        "BuilderFlag.GPU_FALLBACK",
    } <= names
    assert {"mem_alloc", "Stream.handle", "Device.retain_primary_context"} <= set(trt_contract.pycuda_names())


@pytest.mark.parametrize(
    ("code", "complaint"),
    [
        ("builder.build_engine(network, config)", "Builder.build_engine doesn't exist"),
        ("config.max_workspace_size = 1", "IBuilderConfig.max_workspace_size doesn't exist"),
        ("context.execute_async_v2([], stream)", "IExecutionContext.execute_async_v2 doesn't exist"),
        ("trt.BuilderFlag.FP16", "BuilderFlag.FP16 doesn't exist"),
        ("context.set_tensor_address('images')", "IExecutionContext.set_tensor_address takes"),
        ("config.set_timing_cache(cache, mismatch=True)", "IBuilderConfig.set_timing_cache takes"),
        ("self._engine.num_bindings", "ICudaEngine.num_bindings doesn't exist"),
    ],
)
def test_removed_and_wrong_calls_are_caught(code: str, complaint: str) -> None:
    """Negative control: what TensorRT 11 removed, and calls with wrong arguments, don't pass."""
    names = bindings("11.4.0.106")
    found = [trt_contract.problem(use, names) for use in trt_contract.uses_in(ast.parse(code))]
    assert any(text.startswith(complaint) for text in found), found


def test_removed_calls_exist_where_they_should() -> None:
    """Negative control of the negative control: 8.6 still has what 11 removed."""
    names = bindings("8.6.1")
    for code in ("builder.build_engine(network, config)", "trt.BuilderFlag.FP16", "engine.num_bindings"):
        assert [trt_contract.problem(use, names) for use in trt_contract.uses_in(ast.parse(code))][-1] == ""


@pytest.mark.parametrize("version", VERSIONS)
def test_branch_taken(version: str) -> None:
    """An int8 engine is built weakly typed with flags as long as there are flags, then strongly typed."""
    weak = "EXPLICIT_BATCH + INT8 + FP16"
    assert trt_contract.branch(bindings(version)) == ("STRONGLY_TYPED" if version.startswith("11.") else weak)


def test_table_of_the_documentation() -> None:
    """The table in docs/tensorrt.md is what the bindings say."""
    table = trt_contract.markdown({version: bindings(version) for version in VERSIONS})
    assert table in (ROOT / "docs/tensorrt.md").read_text(encoding="utf-8")


FAKE_PROBE = """
import inspect, json
import tensorrt as trt

def parameters(part):
    return list(inspect.signature(part).parameters) if inspect.isfunction(part) else None

names = {}
for name, value in vars(trt).items():
    if name.startswith("_") or inspect.ismodule(value) or getattr(value, "__module__", "") != "tensorrt":
        continue
    names[name] = None if isinstance(value, type) else parameters(value)
    for inner, part in vars(value).items() if isinstance(value, type) else ():
        if not inner.startswith("_"):
            names[f"{name}.{inner}"] = (parameters(part) or [None])[1:] if inspect.isfunction(part) else None
print(json.dumps(names))
"""


def fake_names(version: str) -> dict[str, list[str] | None]:
    """Return the public names of the fake of a version, methods with their parameters."""
    import json

    environment = {**os.environ, "PYTHONPATH": str(FAKES), "FAKE_TENSORRT": version}
    done = subprocess.run(
        [sys.executable, "-c", FAKE_PROBE], env=environment, capture_output=True, text=True, check=True
    )
    return dict(json.loads(done.stdout))


@pytest.mark.parametrize("version", VERSIONS)
def test_fake_pretends_nothing(version: str) -> None:
    """Every public name and parameter of the fake is NVIDIA's in that version, and what NVIDIA lacks is absent."""
    genuine = bindings(version)
    pretended = fake_names(version)
    assert len(pretended) > 50
    assert [name for name in pretended if name not in genuine] == []
    for name, parameters in pretended.items():
        known = trt_contract.signatures(genuine[name], name.rpartition(".")[2])
        if parameters is not None and known:
            assert parameters in [words[: len(parameters)] for words, _ in known], name
    for name in trt_contract.optional_names():
        assert (name in pretended) == (name in genuine), name
    used = {use.name for use in trt_contract.tensorrt_uses()} - {"__version__"}
    assert [name for name in used if name in genuine and name not in pretended] == []


@pytest.fixture(scope="module")
def pycuda_source() -> str:
    """Return the source of PyCUDA's driver module, or skip."""
    if not list(trt_contract.CACHE.glob("pycuda-*.tar.gz")):
        pytest.skip("needs PyCUDA's sources: python -m tests.helpers.trt_contract --fetch (from PyPI)")
    return trt_contract.pycuda_source()


def test_pycuda_has_what_is_used(pycuda_source: str) -> None:
    """Every name of PyCUDA's driver that the sources use is exported by PyCUDA's own source."""
    assert [name for name in trt_contract.pycuda_names() if not trt_contract.is_in_pycuda(name, pycuda_source)] == []


def test_fake_pycuda_pretends_nothing(pycuda_source: str) -> None:
    """The fake driver module has only names of PyCUDA's; graph functions, which PyCUDA lacks, are libcuda's."""
    tree = ast.parse((FAKES / "pycuda/driver.py").read_text(encoding="utf-8"))
    ours = {"do", "Driver", "Error"}
    names = [node.name for node in tree.body if isinstance(node, (ast.ClassDef, ast.FunctionDef))]
    methods = [
        method.name
        for node in tree.body
        if isinstance(node, ast.ClassDef) and node.name not in ours
        for method in node.body
        if isinstance(method, ast.FunctionDef) and not method.name.startswith("_")
    ]
    assert [name for name in {*names, *methods} - ours if not trt_contract.is_in_pycuda(name, pycuda_source)] == []
    assert not trt_contract.is_in_pycuda("cuGraphLaunch", pycuda_source)
    assert not trt_contract.is_in_pycuda("mem_aloc", pycuda_source)


def test_graph_functions_are_libcudas() -> None:
    """Every function that is called through ctypes is declared in CUDA's header, where that is at hand."""
    header = Path("/usr/local/cuda/include/cuda.h")
    if not header.is_file():
        pytest.skip("needs the CUDA toolkit's cuda.h")
    source = (ROOT / "yolo_slim/backends/tensorrt/cuda_graph.py").read_text(encoding="utf-8")
    called = set(re.findall(r"\bcu[A-Z]\w+", source))
    assert len(called) == 6
    text = header.read_text(encoding="utf-8", errors="replace")
    assert [name for name in called if name not in text] == []
