"""What ``help`` and an editor say of every public name: what it takes, in which unit, by default, and what it raises.

The same docstrings are the API reference; `tests/torch/test_reference.py` sees to their being there.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any

import pytest

from azstoragetorch import TransferOptions
from tests.public import members, names

RAISES_NOTHING = {
    # Answered from what is at hand.
    "azstoragetorch.stats",
    "azstoragetorch.exceptions.redact",
    *(f"azstoragetorch.{file}.stats" for file in ("io.BlobIO", "aio.AsyncBlobIO")),
    *(f"azstoragetorch.datasets.{kind}.stats" for kind in ("BlobDataset", "IterableBlobDataset")),
    *(f"azstoragetorch.datasets.Blob.{name}" for name in ("reader", "areader")),
    # What goes wrong while something is given up changes nothing.
    "azstoragetorch.aio.aclose",
    *(f"azstoragetorch.{file}.abort" for file in ("io.BlobIO", "aio.AsyncBlobIO")),
}


def documented() -> Iterator[tuple[str, Any]]:
    """Yield every public class and function, and every public method of a class."""
    for name, value in names():
        if inspect.isclass(value) or inspect.isfunction(value):
            yield name, value
        if inspect.isclass(value):
            yield from ((f"{name}.{member}", inner) for member, inner in members(value) if callable(inner))


CALLABLES = dict(documented())
FUNCTIONS = {name: value for name, value in CALLABLES.items() if not inspect.isclass(value)}
CLASSES = {name: value for name, value in CALLABLES.items() if inspect.isclass(value)}


def text_of(name: str) -> str:
    """Return the docstring of its own that something has."""
    return inspect.cleandoc(CALLABLES[name].__doc__ or "")


def text_with_bases(kind: type) -> str:
    """Return the docstrings of a class and of those of ours that it inherits from."""
    return "".join(base.__doc__ or "" for base in kind.__mro__ if base.__module__.startswith("azstoragetorch"))


def with_referred(name: str) -> str:
    """Return a docstring with those that it says it is like: ``as in :meth:`from_container_url```, ``the same as``."""
    text = text_of(name)
    scope = name.rpartition(".")[0]
    for kind, target in re.findall(r"(?:as in|as|as of|like|same as) :(meth|class):`([^`]+)`", text):
        if kind == "meth":
            text += inspect.cleandoc(getattr(CLASSES[scope], target).__doc__)
        else:
            text += text_of(target.lstrip("~"))
    return text


def test_everything_is_looked_at() -> None:
    """A rule over nothing holds always."""
    assert {"azstoragetorch.io.BlobIO.read", "azstoragetorch.io.BlobIO.stats"} <= FUNCTIONS.keys()
    assert {"azstoragetorch.listing.BlobListing.build", "azstoragetorch.aio.aclose"} <= FUNCTIONS.keys()
    assert "azstoragetorch.TransferOptions" in CLASSES
    assert RAISES_NOTHING & FUNCTIONS.keys() == {
        name for name in RAISES_NOTHING if find_spec("torch") or "datasets" not in name
    }


@pytest.mark.parametrize("name", CALLABLES)
def test_docstring_opens_with_a_sentence(name: str) -> None:
    """It is what an editor shows beside the cursor, and a list of fields alone says nothing there."""
    first = text_of(name).partition("\n\n")[0]

    assert re.match(r"[A-Z`]", first), first or "no docstring of its own"
    assert re.search(r"[.;:]$", first), "its first paragraph has no end"


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_parameter_is_explained(name: str) -> None:
    """A name and a type do not say whether it counts bytes or seconds, nor what happens without it."""
    text = with_referred(name)
    parameters = [each for each in inspect.signature(FUNCTIONS[name]).parameters if each not in ("self", "cls")]

    assert [each for each in parameters if f":param {each}:" not in text and f"``{each}``" not in text] == []


@pytest.mark.parametrize("name", [name for name in CLASSES if "exceptions" not in name])
def test_every_property_and_field_is_explained(name: str) -> None:
    """Its unit, and when it is ``None``."""
    kind = CLASSES[name]
    fields = [field.name for field in dataclasses.fields(kind)] if dataclasses.is_dataclass(kind) else []

    assert [member for member, value in members(kind) if not value.__doc__] == []
    assert [each for each in fields if not re.search(rf":(param|ivar) {each}: \w", text_with_bases(kind))] == []


@pytest.mark.parametrize("name", [name for name, kind in CLASSES.items() if issubclass(kind, Exception)])
def test_every_argument_of_an_error_is_explained(name: str) -> None:
    """They are what a handler looks at."""
    kind = CLASSES[name]
    # A warning has the constructor of Python's own.
    parameters = inspect.signature(kind).parameters.values() if has_signature(kind) else ()
    named = [each.name for each in parameters if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)]

    assert [each for each in named if f":param {each}:" not in text_with_bases(kind)] == []


@pytest.mark.parametrize("name", FUNCTIONS)
def test_errors_are_named(name: str) -> None:
    """Who calls it has to know what to catch; what raises nothing of its own is listed here, on purpose."""
    assert (":raises" in with_referred(name)) != (name in RAISES_NOTHING)


def written(value: object, unit: str) -> str:
    """Return a default as the docstring writes it."""
    if unit == "bytes":
        assert isinstance(value, int)
        return next(f"{value // size} {name}" for size, name in ((1 << 20, "MiB"), (1 << 10, "KiB")) if value >= size)
    if unit == "seconds":
        return f"{value} s"
    return f'``"{value}"``' if isinstance(value, str) else f"``{value}``" if value is None else str(value)


@pytest.mark.parametrize("option", [field.name for field in dataclasses.fields(TransferOptions)])
def test_option_says_unit_default_and_reason(option: str) -> None:
    """``help(TransferOptions)`` is where people look before they turn a knob, and the numbers must be true."""
    text = inspect.cleandoc(TransferOptions.__doc__ or "")
    found = re.search(rf"^:param {option}: ((?:.|\n)*?)(?=^:)", text, re.MULTILINE)
    assert found is not None, "not explained"
    said = re.sub(r"\s+", " ", found[1])
    unit = next((unit for unit in ("bytes", "seconds") if said.startswith(unit)), "")
    value = getattr(TransferOptions(), option)

    default = re.search(rf"Default {re.escape(written(value, unit))}: \w", said)

    assert default is not None, said


def test_signature_has_no_private_default() -> None:
    """An editor shows the signature as it is: a sentinel there would be a riddle."""
    shown = {name: str(inspect.signature(value)) for name, value in CALLABLES.items() if has_signature(value)}

    assert {name: text for name, text in shown.items() if "<object" in text or " at 0x" in text} == {}


def has_signature(value: Callable[..., Any]) -> bool:
    try:
        inspect.signature(value)
    except ValueError:  # of a builtin that is inherited
        return False
    return True
