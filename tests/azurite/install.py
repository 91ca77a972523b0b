"""Install Azurite, the Azure Storage emulator, as `package-lock.json` in this directory names it."""

from __future__ import annotations

__all__ = ["install"]

import os
from pathlib import Path

from tests import npm

_HERE = Path(__file__).parent
_ENTRY = Path("azurite", "dist", "src", "blob", "main.js")


def install(root: Path | None = None) -> Path:
    """Return the script that starts Azurite's blob service, installing it on first use.

    :param root: folder that keeps the installations and npm's cache. By default the environment variable
        ``AZSTORAGETORCH_AZURITE_DIR``, which tox sets, or else tox's own folder in this checkout.
    :raises tests.npm.NpmError: if npm fails or takes over 10 minutes.
    """
    if root is None:
        root = Path(os.environ.get("AZSTORAGETORCH_AZURITE_DIR") or _HERE.parents[1] / ".tox" / "azurite")
    return npm.install(_HERE, root) / _ENTRY
