"""Look at the installed wheel as pyright, and with it many editors, looks at a package with `py.typed`.

    python -m tests.pyright

Every public name has to have a type that no type checker needs to guess, and `usage.py`, which is written as users
write, has to pass. mypy, beside this in tox, looks at the source instead.
https://github.com/microsoft/pyright/blob/main/docs/typed-libraries.md#verifying-type-completeness
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests import npm
from tests.packaging.build import REPOSITORY, build, layered_venv

__all__ = ["check", "main"]

_HERE = Path(__file__).parent
_FEWEST = 100
"""Names that are public for certain: pyright gives a package that it does not find no bad mark, but no name either."""


def main() -> int:
    """Look at the wheel of the checkout; return 0 if all is typed, and 1 if not."""
    with tempfile.TemporaryDirectory(prefix="azstoragetorch-pyright-") as name:
        folder = Path(name).resolve()
        return 0 if check(build("wheel", folder / "dist"), folder) else 1


def check(wheel: Path, folder: Path) -> bool:
    """Print what is not typed, and what is wrong in the file of a user; return whether that is nothing.

    :param folder: an empty one, far from the checkout, whose source would be found before the installed package.
    """
    root = Path(os.environ.get("AZSTORAGETORCH_PYRIGHT_DIR") or REPOSITORY / ".tox" / "pyright")
    program = npm.install(_HERE, root) / "pyright" / "index.js"
    python = layered_venv(wheel, folder / "venv")
    work = folder / "work"
    work.mkdir()
    shutil.copy(_HERE / "usage.py", work)
    typed = _typed(_pyright(program, python, work, "--verifytypes", "azstoragetorch", "--ignoreexternal"), folder)
    return _usable(_pyright(program, python, work, "usage.py")) and typed


def _pyright(program: Path, python: Path, folder: Path, *arguments: str) -> dict[str, Any]:
    """Run pyright in ``folder`` and return what it reports."""
    # It takes the interpreter that it finds on the path; with --pythonpath, --verifytypes finds no package at all. From
    # that it takes the folders to look into, which must not begin with the checkout, where tox puts it.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment["PATH"] = f"{python.parent}{os.pathsep}{os.environ.get('PATH', '')}"
    command = [str(npm.NODE), str(program), *arguments, "--outputjson"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    try:
        report: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        raise SystemExit(f"pyright failed with status {done.returncode}:\n{done.stdout}{done.stderr}") from None
    return report


def _typed(report: dict[str, Any], folder: Path) -> bool:
    """Print how many names are typed, and those that are not; return whether all are.

    :param folder: where the package has to have been found.
    """
    found = report["typeCompleteness"]
    if not Path(found["packageRootDirectory"]).is_relative_to(folder):
        raise SystemExit(f"pyright looked at {found['packageRootDirectory'] or 'no package'} and not below {folder}")
    public = found["exportedSymbolCounts"]
    known, total = public["withKnownType"], sum(public.values())
    for symbol in found["symbols"]:
        if not symbol["isTypeKnown"]:
            for told in symbol["diagnostics"]:
                print(f"{symbol['name']}: {told['message']}")
    modules = ", ".join(module["name"] for module in found["modules"])
    print(f"{found['completenessScore']:.1%} of the public names are typed: {known} of {total}, in {modules}")
    return bool(found["completenessScore"] == 1 and known == total >= _FEWEST)


def _usable(report: dict[str, Any]) -> bool:
    """Print what is wrong in the file of a user; return whether nothing is."""
    for told in report["generalDiagnostics"]:
        print(f"usage.py:{told['range']['start']['line'] + 1}: {told['message']}")
    summary = report["summary"]
    print(f"usage.py: {summary['errorCount']} errors, {summary['warningCount']} warnings")
    return bool(summary["filesAnalyzed"] and not report["generalDiagnostics"])


if __name__ == "__main__":
    sys.exit(main())
