"""Imported before everything that imports torch: where it is missing, this says what to do."""

from __future__ import annotations

from importlib.util import find_spec

__all__: list[str] = []

if find_spec("torch") is None:
    raise ModuleNotFoundError(
        "azstoragetorch.datasets needs torch, which is not installed: pip install torch (without CUDA: "
        "--index-url https://download.pytorch.org/whl/cpu). azstoragetorch.io, .aio and .listing do without it",
        name="torch",
    )
