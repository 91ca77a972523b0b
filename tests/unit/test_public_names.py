"""What ``__all__`` says is public is there, is all, and is what the module opens with."""

from __future__ import annotations

import ast
import importlib
import inspect
import pickle
from importlib.util import find_spec
from pathlib import Path
from typing import get_type_hints

import pytest

from tests.public import IMPORTABLE, MODULES, names

# The names of 0.2.0 that code in the field imports.
KEPT = {
    "azstoragetorch": ["__version__"],
    "azstoragetorch.io": ["BlobIO"],
    "azstoragetorch.datasets": ["Blob", "BlobDataset", "IterableBlobDataset"],
    "azstoragetorch.exceptions": ["AZStorageTorchError", "FatalBlobIOWriteError", "ClientRequestIdMismatchError"],
}


def source_of(name: str) -> ast.Module:
    spec = find_spec(name)
    assert spec is not None
    assert spec.origin is not None
    return ast.parse(Path(spec.origin).read_text("utf-8"))


@pytest.mark.parametrize("name", MODULES)
def test_all_is_the_first_statement_after_the_imports(name: str) -> None:
    """Whoever opens the file sees first what it offers."""
    body = source_of(name).body
    assert isinstance(body[0], ast.Expr), "a module opens with what it is for"

    rest = [node for node in body[1:] if not isinstance(node, (ast.Import, ast.ImportFrom, ast.If))]

    assert isinstance(rest[0], ast.Assign)
    assert ast.unparse(rest[0].targets[0]) == "__all__"


@pytest.mark.parametrize("name", IMPORTABLE)
def test_all_is_true_and_complete(name: str) -> None:
    """Every name in it exists, and every public class or function defined in the module is in it."""
    module = importlib.import_module(name)
    public = list(module.__all__)

    defined = {
        attribute
        for attribute, value in vars(module).items()
        if not attribute.startswith("_")
        and (inspect.isclass(value) or inspect.isfunction(value))
        and value.__module__ == name
    }

    assert len(public) == len(set(public))
    assert [attribute for attribute in public if not hasattr(module, attribute)] == []
    assert defined - set(public) == set()
    assert set(public) <= set(dir(module))


@pytest.mark.parametrize(("name", "kind"), [(name, kind) for name, kind in names() if inspect.isclass(kind)])
def test_class_says_where_it_is_imported_from(name: str, kind: type) -> None:
    """`help` and messages show it, and a pickle looks for it there, also after an update that moves what is private."""
    assert f"{kind.__module__}.{kind.__qualname__}" == name
    assert pickle.loads(pickle.dumps(kind)) is kind
    get_type_hints(kind)  # which looks into that module for what annotations name


@pytest.mark.parametrize("name", [name for name in KEPT if name in IMPORTABLE])
def test_names_of_the_previous_release_are_kept(name: str) -> None:
    """Code that imports them must not break with an update."""
    assert set(KEPT[name]) <= set(importlib.import_module(name).__all__)
