"""Imports point down only: read from the source of every module, so that a shortcut fails here and not in a year.

program       __main__ and _check: what `python -m azstoragetorch` does; nothing imports it
faces         io aio datasets listing checkpoint safetensors     may import torch; _face and _data are theirs
_bridge       the only package that starts threads
_transfer     asyncio only; reaches the service through a Protocol, so it never imports _azure
_azure        the only package that imports azure and aiohttp
_values       no I/O, no event loop
exceptions    azure.core.exceptions and the standard library
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

import pytest

PACKAGE = "azstoragetorch"
ROOT = Path(__file__).parents[2] / PACKAGE
MODULES = sorted(ROOT.rglob("*.py"))
LONGEST_MODULE = 320  # lines; the aim is 300

FACES = {"_face", "_data", "io", "aio", "datasets", "listing", "checkpoint", "safetensors"}
PROGRAM = {"__main__", "_check"}
FACE_PACKAGES = {"torch", "torchdata", "lightning", "tqdm", "safetensors", "nanoarrow", "anyio"}


@dataclass(frozen=True)
class Layer:
    """What the modules of one layer may import beside the standard library and their own layer."""

    below: frozenset[str] = frozenset()
    packages: frozenset[str] = frozenset()
    not_from_stdlib: frozenset[str] = frozenset()


NO_IO = frozenset({"asyncio", "socket", "ssl", "select", "selectors", "threading", "_thread", "concurrent", "http"})
LAYERS = {
    "exceptions": Layer(packages=frozenset({"azure.core.exceptions"})),
    # A lock is no thread: what may not be started is below, for all layers.
    "_values": Layer(below=frozenset({"exceptions"}), not_from_stdlib=NO_IO - {"threading"}),
    "_azure": Layer(
        below=frozenset({"_values", "exceptions"}),
        packages=frozenset({"azure", "aiohttp", "anyio", "yarl", "multidict", "nanoarrow"}),
    ),
    "_transfer": Layer(
        below=frozenset({"_values", "exceptions"}),
        packages=frozenset({"anyio"}),
        not_from_stdlib=NO_IO - {"asyncio"},
    ),
    "_bridge": Layer(
        below=frozenset({"_transfer", "_azure", "_values", "exceptions"}), packages=frozenset({"uvloop", "anyio"})
    ),
    "faces": Layer(
        below=frozenset({"_bridge", "_transfer", "_azure", "_values", "exceptions"}),
        packages=frozenset(FACE_PACKAGES),
    ),
    # It looks at each step of an access on its own, and so into all layers; at nobody's packages, as the faces do not.
    "program": Layer(below=frozenset({"faces", "_bridge", "_transfer", "_azure", "_values", "exceptions"})),
    # The package itself re-exports names, lazily; test_import.py sees to the "lazily".
    "": Layer(below=frozenset({"faces", "_transfer", "_azure", "_values", "exceptions"})),
}
STARTS_THREADS = {
    "threading.Thread",
    "threading.Timer",
    "concurrent.futures.ThreadPoolExecutor",
    "concurrent.futures.thread.ThreadPoolExecutor",
    "_thread.start_new_thread",
    "anyio.from_thread.start_blocking_portal",
}


def layer_of(module: str) -> str:
    """Name the layer of a dotted module of the package."""
    _, _, inner = module.partition(".")
    first = inner.partition(".")[0]
    return "faces" if first in FACES else "program" if first in PROGRAM else first


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Yield every import as (dotted name of what is imported, name it is bound to)."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, alias.asname or alias.name.partition(".")[0]
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            for alias in node.names:
                yield f"{module}.{alias.name}", alias.asname or alias.name
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("__import__", "importlib.import_module"):
            yield from ((name, "") for name in strings(node.args[:1]))


def strings(nodes: Iterable[ast.AST]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def dotted(node: ast.AST, bound: dict[str, str]) -> str:
    """Spell ``a.b.c`` with the imported name of ``a``; empty if it does not start at an import."""
    names = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name) or node.id not in bound:
        return ""
    return ".".join([bound[node.id], *reversed(names)])


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__")


def own_names(tree: ast.AST) -> set[str]:
    """Every underscore name that a module defines: functions, classes, variables, arguments, attributes, slots."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            found.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            found.add(node.attr if ast.unparse(node.value) in ("self", "cls") else "")
        elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__slots__":
            found.update(strings(ast.walk(node.value)))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith(PACKAGE):
            found.update(alias.name for alias in node.names)
    return {name for name in found if is_private(name)}


NAMED_TUPLE = {"_asdict", "_field_defaults", "_fields", "_make", "_replace"}  # public in spite of their names
OWN_NAMES = NAMED_TUPLE.union(*(own_names(ast.parse(path.read_text("utf-8"))) for path in MODULES))


def violations(module: str, source: str, own: set[str]) -> Iterator[str]:
    """Yield one line for everything in ``source`` that ``module`` may not do."""
    layer_name = layer_of(module)
    if layer_name not in LAYERS:
        yield f"{module} is in no layer; give it one in {Path(__file__).name}"
        return
    layer = LAYERS[layer_name]
    tree = ast.parse(source)
    bound = {name: imported for imported, name in imports(tree) if name}
    for imported, name in imports(tree):
        top = imported.partition(".")[0]
        if not top:
            yield f"{module} imports {imported}; write absolute imports"
        elif imported == f"{PACKAGE}.__version__":
            pass  # it stands in the package itself, which imports nothing
        elif top == PACKAGE:
            target = layer_of(imported)
            if target not in LAYERS:  # a public name of the package itself
                target = ""
            if target != layer_name and target not in layer.below:
                yield f"{module} imports {imported}, which is not below it"
        elif top in sys.stdlib_module_names:
            if top in layer.not_from_stdlib:
                yield f"{module} imports {imported}, which has no place in {layer_name}"
        else:
            if not any(f"{imported}.".startswith(f"{allowed}.") for allowed in layer.packages):
                yield f"{module} imports {imported}, which has no place in {layer_name or 'the package'}"
            if any(is_private(part) for part in imported.split(".")):
                yield f"{module} imports the private name {imported}"
        if layer_name != "_bridge" and (imported in STARTS_THREADS or f"{imported}.{name}" in STARTS_THREADS):
            yield f"{module} imports {imported}; only _bridge starts threads"
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            spelled = dotted(node, bound)
            if layer_name != "_bridge" and spelled in STARTS_THREADS:
                yield f"{module}:{node.lineno} uses {spelled}; only _bridge starts threads"
            if is_private(node.attr) and node.attr not in own:
                yield f"{module}:{node.lineno} uses the private name .{node.attr} of somebody else"
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("getattr", "setattr", "hasattr", "delattr"):
            for attribute in strings(node.args[1:2]):
                if is_private(attribute) and attribute not in own:
                    yield f"{module}:{node.lineno} reaches for the private name {attribute} of somebody else"
    lines = source.count("\n")
    if lines > LONGEST_MODULE:
        yield f"{module} has {lines} lines; cut it in two"


@pytest.mark.parametrize("path", MODULES, ids=module_of)
def test_module_keeps_to_its_layer(path: Path) -> None:
    """A core that imports torch, or a value that opens a socket, cannot be tested or forked any more."""
    assert list(violations(module_of(path), path.read_text("utf-8"), OWN_NAMES)) == []


def test_all_modules_are_seen() -> None:
    """A rule over no files holds always."""
    assert {"", "exceptions", "_values"} <= {layer_of(module_of(path)) for path in MODULES}
    assert ROOT.name == PACKAGE


@pytest.mark.parametrize(
    ("module", "source", "complaint"),
    [
        ("_values.url", "import asyncio", "has no place in _values"),
        ("_values.url", "from socket import socket", "has no place in _values"),
        ("_values.url", "import anyio", "has no place in _values"),
        ("_values.url", "from azstoragetorch._transfer.reader import Reader", "not below it"),
        ("_values.url", "from azstoragetorch import _azure", "not below it"),
        ("_values.url", "from azstoragetorch import TransferOptions", "not below it"),
        ("_transfer.reader", "from azstoragetorch._azure.blob import AzureBlob", "not below it"),
        ("_transfer.reader", "import azstoragetorch._bridge", "not below it"),
        ("_transfer.reader", "import aiohttp", "has no place in _transfer"),
        ("_transfer.reader", "from azure.core.exceptions import AzureError", "has no place in _transfer"),
        ("_transfer.reader", "def f():\n    import threading", "has no place in _transfer"),
        ("_transfer.reader", "import torch", "has no place in _transfer"),
        ("_azure.blob", "from azstoragetorch._transfer.reader import Reader", "not below it"),
        ("_azure.blob", "import torch", "has no place in _azure"),
        ("_azure.blob", "from azure.core._pipeline import x", "private name azure.core._pipeline.x"),
        ("_azure.blob", "from aiohttp import _websocket", "private name aiohttp._websocket"),
        ("_azure.blob", "import aiohttp\naiohttp._thing()", "private name ._thing"),
        ("_azure.blob", "def f(session):\n    return session._connector", "private name ._connector"),
        ("_azure.blob", "def f(session):\n    return getattr(session, '_connector')", "private name _connector"),
        ("_azure.blob", "import threading\nthreading.Thread(target=print)", "only _bridge starts threads"),
        ("_azure.blob", "import threading as t\nt.Thread(target=print)", "only _bridge starts threads"),
        ("_azure.blob", "from threading import Thread", "only _bridge starts threads"),
        ("_azure.blob", "from concurrent.futures import ThreadPoolExecutor as P", "only _bridge starts threads"),
        ("_azure.blob", "import concurrent.futures as f\nf.ThreadPoolExecutor()", "only _bridge starts threads"),
        ("_azure.blob", "from . import session", "absolute imports"),
        ("_bridge.process", "from azstoragetorch.io import BlobIO", "not below it"),
        ("_bridge.process", "import torch", "has no place in _bridge"),
        ("_bridge.process", "import aiohttp", "has no place in _bridge"),
        ("io", "import azure.storage.blob", "has no place in faces"),
        ("io", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import aiohttp", "has no place in faces"),
        ("io", "import importlib\nimportlib.import_module('azure.core')", "has no place in faces"),
        ("io", "from torch._utils import ExceptionWrapper", "private name torch._utils.ExceptionWrapper"),
        ("io", "import torch\ntorch._C.do()", "private name ._C"),
        ("exceptions", "from azure.core.pipeline import Pipeline", "has no place in exceptions"),
        ("exceptions", "from azstoragetorch._values.url import BlobUrl", "not below it"),
        ("_data.source", "from azstoragetorch._check.speed import measure", "not below it"),
        ("_check.speed", "import aiohttp", "has no place in program"),
        ("_check.speed", "import torch", "has no place in program"),
        ("utils", "import os", "is in no layer"),
        ("io", "\n" * 321, "cut it in two"),
    ],
)
def test_rule_can_fail(module: str, source: str, complaint: str) -> None:
    """Each rule is shown a module that breaks it."""
    found = list(violations(f"{PACKAGE}.{module}", source, own={"_own"}))

    assert any(complaint in line for line in found), found


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("_azure.blob", "import threading\nlock = threading.Lock()"),
        (
            "_azure.blob",
            "from azure.core.pipeline.transport import HttpRequest\nimport aiohttp\naiohttp.ClientSession()",
        ),
        ("_azure.blob", "from azstoragetorch import __version__"),
        ("_values.url", "class A:\n    def __del__(self): return getattr(self, '_own')"),
        ("_transfer.reader", "import asyncio\nfrom azstoragetorch._values.ranges import split"),
        (
            "_bridge.loop",
            "import threading\nclass A(threading.Thread):\n    _own = 1\n    def f(self): return self._own",
        ),
        ("_check.access", "import socket\nfrom azstoragetorch._azure.session import Session"),
        ("__main__", "from azstoragetorch._check.program import main"),
        ("io", "import torch\nfrom azstoragetorch import _bridge\nfrom azstoragetorch.aio import AsyncBlobIO"),
        ("exceptions", "from azure.core.exceptions import AzureError\n__all__ = []\nprint(AzureError.__name__)"),
    ],
)
def test_rule_lets_pass_what_is_right(module: str, source: str) -> None:
    """A rule that complains about everything would be switched off."""
    assert list(violations(f"{PACKAGE}.{module}", dedent(source), own={"_own"})) == []
