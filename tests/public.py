"""What is public: the modules that people import, what those name in ``__all__``, and what classes of it have.

Read from the package as it is, so that a new name is looked at from the moment it exists.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import azstoragetorch

__all__ = ["IMPORTABLE", "MODULES", "members", "names"]

MODULES = [
    "azstoragetorch",
    *sorted(
        f"azstoragetorch.{path.stem}"
        for path in Path(azstoragetorch.__file__).parent.glob("*.py")
        if not path.stem.startswith("_")
    ),
]
_NEEDS = {
    "azstoragetorch.datasets": "torch",
    "azstoragetorch.checkpoint": "torch",
    "azstoragetorch.safetensors": "safetensors",
}
IMPORTABLE = [name for name in MODULES if name not in _NEEDS or find_spec(_NEEDS[name]) is not None]
"""Those that can be imported here; a face that needs an extra is tested where the extra is installed."""


def names() -> Iterator[tuple[str, Any]]:
    """Yield the full name and the value of everything that a module names in ``__all__``."""
    for module in IMPORTABLE:
        imported = import_module(module)
        for name in imported.__all__:
            yield f"{module}.{name}", getattr(imported, name)


def members(kind: type) -> Iterator[tuple[str, Any]]:
    """Yield the methods and properties of a class, inherited from another class of ours or not.

    Less those that have no underscore and are for other modules of the package all the same: "For the dataset".
    """
    seen = set()
    for base in kind.__mro__:
        if not base.__module__.startswith("azstoragetorch"):
            continue
        for member, found in vars(base).items():
            value = getattr(found, "__func__", found)  # of a class method
            if member.startswith("_") or member in seen or "For the dataset" in (value.__doc__ or ""):
                continue
            if inspect.isfunction(value) or isinstance(value, property):
                seen.add(member)
                yield member, value
