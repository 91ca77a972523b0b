"""One timed piece of work, in a process of its own: ``python piece.py NAME PARAMETERS``, both as the runner gives them.

Runs under either version's interpreter, so a piece that is compared uses only what both versions have. What is checked
or prepared is not timed: imports, the memory a caller brings along, checksums. Prints one line of JSON.

A floor is the same bytes with nothing of the library in between: a bare socket, torch with a file in memory, or a
transform with no sample.
"""

from __future__ import annotations

import contextlib
import json
import platform
import sys
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any


def _versions() -> dict[str, str]:
    """Return what ran: the library itself first, by what it says (a checkout has no metadata)."""
    versions = {"python": platform.python_version()}
    if (library := sys.modules.get("azstoragetorch")) is not None:
        own: Any = getattr(library, "__version__", None)
        versions["azstoragetorch"] = own or metadata.version("azstoragetorch")
    for name in ("torch", "azure-storage-blob", "azure-core", "aiohttp", "requests"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return versions


def main() -> None:
    """Run the piece that the command line names."""
    # Behind everything that is installed: the checkout must not hide the version that this interpreter is here for.
    sys.path.append(str(Path(__file__).resolve().parents[2]))
    from tests.benchmarks import dataset_pieces, file_pieces, watching_pieces
    from tests.benchmarks.measure import Figures, Parameters

    name, parameters = sys.argv[1:]
    figures = Figures()
    pieces = file_pieces.PIECES | dataset_pieces.PIECES | watching_pieces.PIECES
    pieces[name](Parameters(**json.loads(parameters)), figures)
    figures.versions = _versions()
    print(json.dumps(asdict(figures)))


if __name__ == "__main__":
    main()
