"""Check every TensorRT and PyCUDA call of yolo_slim against NVIDIA's genuine Python bindings, without a GPU.

    python -m tests.helpers.trt_contract --fetch   download the bindings (about 1 MB each) into .cache/tensorrt-bindings
    python -m tests.helpers.trt_contract           print the table of docs/tensorrt.md

The calls are read from the source, so that no list can drift from it. The bindings import because stub libraries stand
in for libnvinfer: nothing can be built or run, but every class, method, signature and enum is NVIDIA's own.
"""

from __future__ import annotations

import argparse
import ast
import json
import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.helpers.constants import ROOT

CACHE = ROOT / ".cache" / "tensorrt-bindings"
PACKAGES = {
    "8.6.1": "tensorrt-bindings==8.6.1",
    "10.3.0": "tensorrt-cu12-bindings==10.3.0",
    "10.13.3.9": "tensorrt-cu13-bindings==10.13.3.9",
    "10.16.1.11": "tensorrt-cu13-bindings==10.16.1.11",
    "11.4.0.106": "tensorrt-cu13-bindings==11.4.0.106",
}
"""TensorRT version to the package of its Python bindings."""
PYCUDA = "pycuda==2026.1"
SOURCES = tuple(sorted((ROOT / "yolo_slim" / "backends" / "tensorrt").glob("*.py")))
HOLDERS = {
    **{"trt": "", "builder": "Builder", "network": "INetworkDefinition", "parser": "OnnxParser"},
    **{"config": "IBuilderConfig", "cache": "ITimingCache", "other": "ITimingCache", "parser_error": "ParserError"},
    **{"runtime": "Runtime", "engine": "ICudaEngine", "context": "IExecutionContext"},
    **{"kinds": "NetworkDefinitionCreationFlag", "flags": "BuilderFlag"},
    **{"cuda": "cuda", "device": "cuda.Device", "primary": "cuda.Context", "stream": "cuda.Stream"},
    **{"begin": "cuda.Event", "end": "cuda.Event", "buffer": "cuda.DeviceAllocation"},
}
"""What a variable (or ``self._variable``) of that name holds in the sources."""
STUB = """
void *createInferBuilder_INTERNAL(){return 0;} void *createInferRuntime_INTERNAL(){return 0;}
void *createInferRefitter_INTERNAL(){return 0;} void *createNvOnnxParser_INTERNAL(){return 0;}
void *createNvOnnxParserRefitter_INTERNAL(){return 0;} void *getPluginRegistry(){return 0;}
void *getBuilderPluginRegistry(){return 0;} int initLibNvInferPlugins(){return 0;}
int getNvOnnxParserVersion(){return 0;}
void *_ZN11nvuffparser15createUffParserEv(){return 0;} void *_ZN14nvcaffeparser117createCaffeParserEv(){return 0;}
void _ZN11nvuffparser8FieldMapC1EPKcPKvNS_9FieldTypeEi(){} void _ZN14nvcaffeparser123shutdownProtobufLibraryEv(){}
"""
LIBRARIES = ("libnvinfer", "libnvonnxparser", "libnvinfer_plugin", "libnvparsers")
PROBE = """
import json, sys
sys.path.insert(0, sys.argv[1])
import tensorrt_bindings as trt
names = {}
for holder, value in [("", trt), *((n, v) for n, v in vars(trt).items() if isinstance(v, type))]:
    for name in dir(value):
        inner = getattr(value, name)
        if not isinstance(inner, type) or holder == "":
            names[f"{holder}.{name}".strip(".")] = (getattr(inner, "__doc__", "") or "")[:4000]
            if isinstance(inner, type):
                names[f"{name}"] = (inner.__init__.__doc__ or "")[:4000]
print(json.dumps({"version": trt.__version__, "names": names}))
"""


@dataclass(frozen=True)
class Use:
    """One way in which the sources use a name of TensorRT or PyCUDA."""

    name: str
    """``Builder.create_network``, ``BuilderFlag.FP16``, ``cuda.mem_alloc``."""
    arguments: int | None
    """Number of positional arguments of a call; None: not called."""
    keywords: tuple[str, ...] = ()
    """Names of keyword arguments of a call."""
    optional: bool = False
    """The source asks whether this version offers it, and does without."""


def uses() -> set[Use]:
    """Return every use of TensorRT and PyCUDA in the backend's sources."""
    return {use for path in SOURCES for use in uses_in(ast.parse(path.read_text(encoding="utf-8")))}


def uses_in(tree: ast.AST) -> Iterator[Use]:
    """Yield the uses in one module's syntax tree."""
    called = {id(node.func): node for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            yield from _overrides(node)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "offered":
            holder, asked = _dotted(node.args[0]), node.args[1]
            if holder is not None and isinstance(asked, ast.Constant):
                yield Use(f"{holder}.{asked.value!s}".strip("."), None, optional=True)
        elif isinstance(node, ast.Attribute) and (name := _dotted(node)) and not _is_inner(node, name):
            call = called.get(id(node))
            if call is None:
                yield Use(name, None)
            else:
                yield Use(name, len(call.args), tuple(str(keyword.arg) for keyword in call.keywords))


def _is_inner(node: ast.Attribute, name: str) -> bool:
    """Return whether a name is a mere holder or Python's own (``.name`` of an enum member, ``__init__``)."""
    return node.attr in ("name", "__init__", "__version__") and name.count(".") >= 1 and node.attr != name.split(".")[0]


def _overrides(node: ast.ClassDef) -> Iterator[Use]:
    """Yield the methods that TensorRT will call on a subclass of one of its interfaces."""
    for base in node.bases:
        holder = _dotted(base)
        for method in node.body if holder and not holder.startswith("cuda") else []:
            if isinstance(method, ast.FunctionDef) and not method.name.startswith("_"):
                yield Use(f"{holder}.{method.name}", len(method.args.args) - 1, optional=holder == "IProgressMonitor")


def _dotted(node: ast.AST) -> str | None:
    """Return the SDK's name of an expression, None for anything else; an empty string is the module itself."""
    if isinstance(node, ast.Name):
        return HOLDERS.get(node.id)
    if isinstance(node, ast.Call):
        inner = _dotted(node.func)
        return inner if inner and inner.startswith("cuda.") else None
    if not isinstance(node, ast.Attribute):
        return None
    if isinstance(node.value, ast.Name) and node.value.id == "self":
        return HOLDERS.get(node.attr.lstrip("_"))
    holder = _dotted(node.value)
    return None if holder is None else f"{holder}.{node.attr}".strip(".")


def fetch() -> list[str]:
    """Install each version's bindings in its own folder, and PyCUDA's sources; return what isn't to be had."""
    absent = []
    for version, package in PACKAGES.items():
        if missing(version) and not _pip("install", "--no-deps", "--target", str(CACHE / version), package):
            absent.append(package)
    wanted = ("download", "--no-deps", "--no-binary", ":all:", "--no-build-isolation", "-d", str(CACHE), PYCUDA)
    if not list(CACHE.glob("pycuda-*.tar.gz")) and not _pip(*wanted):
        absent.append(PYCUDA)
    if not absent:
        (CACHE / ".ready").touch()
    return absent


def _pip(*arguments: str) -> bool:
    """Return whether pip did it; offline, and for Pythons without a wheel, it doesn't."""
    quiet = ("--quiet", "--disable-pip-version-check", "--retries", "1")
    done = subprocess.run([sys.executable, "-m", "pip", *arguments, *quiet], check=False, stderr=subprocess.DEVNULL)
    return done.returncode == 0


def missing(version: str) -> bool:
    """Return whether a version's bindings were not fetched."""
    return not (CACHE / version / "tensorrt_bindings").is_dir()


def probe(version: str) -> dict[str, str]:
    """Return every name of a version's bindings with its docstring, which holds pybind11's signatures."""
    with tempfile.TemporaryDirectory(prefix="yolo-slim-stubs-") as folder:
        source = Path(folder) / "stub.c"
        source.write_text(STUB)
        for library in LIBRARIES:
            out = Path(folder) / f"{library}.so.{version.split('.')[0]}"
            subprocess.run(["gcc", "-shared", "-fPIC", "-w", "-o", str(out), str(source)], check=True)
        done = subprocess.run(
            [sys.executable, "-c", PROBE, str(CACHE / version)],
            env={"LD_LIBRARY_PATH": folder, "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
    found = json.loads(done.stdout)
    if found["version"] != version:
        raise RuntimeError(f"asked for {version}, imported {found['version']}")
    return dict(found["names"])


def signatures(doc: str, name: str) -> list[tuple[list[str], int]]:
    """Return the parameter names and the number of required ones, per overload; ``self`` is left out."""
    found = []
    for text in re.findall(rf"^(?:\d+\. )?{re.escape(name)}\((self:.*)\) ->", doc, re.MULTILINE):
        parameters = [part for part in _split(text)[1:] if part not in ("*", "/")]
        found.append(([part.split(":")[0].strip() for part in parameters], sum("=" not in part for part in parameters)))
    return found


def _split(text: str) -> list[str]:
    """Split a parameter list at its outer commas."""
    parts, depth = [""], 0
    for letter in text:
        depth += letter in "[(<{"
        depth -= letter in "])>}"
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts]


def problem(use: Use, names: dict[str, str]) -> str:
    """Return why a use doesn't fit a version's bindings, or an empty string."""
    if use.name not in names:
        return f"{use.name} doesn't exist"
    if use.arguments is None:
        return ""
    method = use.name.rpartition(".")[2]
    known = signatures(names[use.name], "__init__" if "." not in use.name else method)
    if "." not in use.name and not known:
        return ""  # a plain function of the package, written in Python
    given = use.arguments + len(use.keywords)
    fits = any(set(use.keywords) <= set(words) and need <= given <= len(words) for words, need in known)
    return "" if fits else f"{use.name} takes {known}, given {use.arguments} and {use.keywords}"


def tensorrt_uses() -> list[Use]:
    """Return the uses of TensorRT, sorted."""
    return sorted((use for use in uses() if not use.name.startswith("cuda")), key=lambda use: (use.name, str(use)))


def pycuda_names() -> list[str]:
    """Return the names of PyCUDA's driver that the sources use (``mem_alloc``, ``Stream.handle``)."""
    return sorted({use.name.removeprefix("cuda.") for use in uses() if use.name.startswith("cuda.")})


def pycuda_source() -> str:
    """Return the C++ source that defines PyCUDA's driver module."""
    (archive,) = CACHE.glob("pycuda-*.tar.gz")
    with tarfile.open(archive) as tar:
        (member,) = [entry for entry in tar if entry.name.endswith("src/wrapper/wrap_cudadrv.cpp")]
        stream = tar.extractfile(member)
        return "" if stream is None else stream.read().decode()


def is_in_pycuda(name: str, source: str) -> bool:
    """Return whether PyCUDA's source exports a function, class or method of that name."""
    last = re.escape(name.rpartition(".")[2])
    return re.search(rf'"{last}"|DEF_SIMPLE_(?:METHOD|FUNCTION)\({last}\)|DECLARE_EXC\({last},', source) is not None


def optional_names() -> set[str]:
    """Return the names that the sources do without where a version lacks them."""
    return {use.name for use in tensorrt_uses() if use.optional}


def problems(names: dict[str, str]) -> list[str]:
    """Return every use that doesn't fit a version; an optional name may be absent, but not have another signature."""
    optional = optional_names()
    absent = {name for name in optional if name not in names}
    return [text for use in tensorrt_uses() if use.name not in absent and (text := problem(use, names))]


def features(probed: dict[str, dict[str, str]]) -> dict[str, list[bool]]:
    """Return in which versions each optional name exists."""
    return {name: [name in names for names in probed.values()] for name in sorted(optional_names())}


def branch(names: dict[str, str]) -> str:
    """Return how an int8 engine is typed with a version's bindings, chosen by the builder's own code."""
    from types import SimpleNamespace

    from yolo_slim.backends.tensorrt.builder import choose_flags
    from yolo_slim.backends.tensorrt.engine import Settings

    def members(holder: str) -> Any:
        inner = {name.split(".")[1] for name in names if name.startswith(f"{holder}.")}
        return SimpleNamespace(**{name: SimpleNamespace(name=name) for name in inner})

    trt = SimpleNamespace(
        NetworkDefinitionCreationFlag=members("NetworkDefinitionCreationFlag"), BuilderFlag=members("BuilderFlag")
    )
    network_flags, builder_flags = choose_flags(trt, "int8", Settings())
    return " + ".join([*network_flags, *builder_flags])


def markdown(probed: dict[str, dict[str, str]]) -> str:
    """Return the contract table."""
    optional = optional_names()
    required = [use for use in tensorrt_uses() if use.name not in optional]
    rows = [["TensorRT", *probed], ["---"] * (len(probed) + 1)]
    names = len({use.name for use in required})
    whole = [sum(not problem(use, known) for use in required) for known in probed.values()]
    rows.append([f"calls and names always used ({len(required)} uses of {names} names)", *(f"{n} fit" for n in whole)])
    rows += [[f"`{name}`", *("yes" if has else "-" for has in row)] for name, row in features(probed).items()]
    rows.append(["int8 engine is built with", *(f"`{branch(known)}`" for known in probed.values())])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main() -> int:
    """Fetch, or print the table; fail when a call doesn't fit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--fetch", action="store_true", help="download the bindings; without a network: a note, no error"
    )
    if parser.parse_args().fetch:
        absent = fetch()
        if absent:
            print(f"Not to be had: {', '.join(absent)}. The tests that need them will be skipped.")
        return 0
    probed = {version: probe(version) for version in PACKAGES}
    print(markdown(probed))
    found = [f"{version}: {text}" for version, names in probed.items() for text in problems(names)]
    print("\n".join(found), file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
