"""Build sdist and wheel, install the wheel into an environment that has nothing else, and use it there.

    python -m tests.packaging

torch is left out: it is a gigabyte, and what works without it has to. Everything that fails is an exception that says
what is wrong.
"""

from __future__ import annotations

import email
import re
import subprocess
import tarfile
import tempfile
import zipfile
from pathlib import Path

from tests.packaging.build import PROJECT, bare_venv, build

__all__ = ["main"]

NEEDS_TORCH = {"azstoragetorch.datasets"}
"""Public modules that are of no use without torch; they have to say so."""


class PackageError(Exception):
    """What is built, or installed, is not what it should be."""


def main() -> None:
    """Run all steps, one after the other."""
    with tempfile.TemporaryDirectory(prefix="azstoragetorch-package-") as name:
        folder = Path(name)
        sdist, wheel = build("sdist", folder / "dist"), build("wheel", folder / "dist")
        print(f"built {sdist.name} and {wheel.name}")
        same_from_sdist(sdist, wheel, folder)
        print("the sdist builds the same wheel")
        declares_dependencies(wheel)
        print("the wheel names the dependencies of pyproject.toml")
        python = installed(wheel, folder / "bare")
        print("installed into an empty environment, without torch; nothing but torch is missing")
        modules = public_modules(wheel)
        imports(python, modules, folder)
        print(f"imported {', '.join(modules)}")
        print(run(python, "-I", "-m", "azstoragetorch", folder=folder))


def same_from_sdist(sdist: Path, wheel: Path, folder: Path) -> None:
    """Distributions build from the sdist, and pip does where it takes no wheel: it has to give the same files."""
    with tarfile.open(sdist) as archive:
        archive.extractall(folder / "sdist", filter="data")
    [source] = (folder / "sdist").iterdir()
    again = build("wheel", folder / "again", source=source)
    if (first := contents(wheel)) != (second := contents(again)):
        different = sorted(path for path in first | second if first.get(path) != second.get(path))
        raise PackageError(f"the wheel built from the sdist differs in {', '.join(different)}")


def contents(wheel: Path) -> dict[str, bytes]:
    """Return what is in a wheel, by path."""
    with zipfile.ZipFile(wheel) as opened:
        return {path: opened.read(path) for path in opened.namelist()}


def declares_dependencies(wheel: Path) -> None:
    """What the wheel asks pip for is what pyproject.toml says, extras too, and the Python it needs."""
    [metadata] = [text for path, text in contents(wheel).items() if path.endswith(".dist-info/METADATA")]
    fields = email.message_from_bytes(metadata)
    project = PROJECT["project"]
    asked = {plain(field) for field in fields.get_all("Requires-Dist", [])}
    extras = project["optional-dependencies"]
    expected = {plain(item) for item in project["dependencies"]} | {
        plain(f"{item}; extra == '{extra}'") for extra, items in extras.items() for item in items
    }
    if asked != expected:
        raise PackageError(f"the wheel asks for {sorted(asked)}, and pyproject.toml for {sorted(expected)}")
    if set(fields.get_all("Provides-Extra", [])) != set(extras):
        raise PackageError(f"the wheel provides other extras than {sorted(extras)}")
    if fields["Requires-Python"] != project["requires-python"]:
        raise PackageError(f"the wheel needs Python {fields['Requires-Python']}")


def plain(requirement: str) -> str:
    """Return a requirement without spaces and with one kind of quotes."""
    return re.sub(r"\s+", "", requirement).replace('"', "'")


def installed(wheel: Path, folder: Path) -> Path:
    """Install the wheel and what it needs, less torch, into an empty environment; return its interpreter."""
    python = bare_venv(folder, with_pip=True)
    pip = [str(python), "-I", "-m", "pip", "--disable-pip-version-check"]
    core = [item for item in PROJECT["dependency-groups"]["core"] if isinstance(item, str)]
    subprocess.run([*pip, "install", "--quiet", *core], check=True)
    subprocess.run([*pip, "install", "--quiet", "--no-deps", "--no-index", str(wheel)], check=True)
    check = subprocess.run([*pip, "check"], stdout=subprocess.PIPE, text=True, check=False)
    missing = check.stdout.strip().splitlines()
    if [re.sub(r"azstoragetorch \S+ ", "", line) for line in missing] != ["requires torch, which is not installed."]:
        raise PackageError(f"torch, and nothing else, should be missing:\n{check.stdout}")
    return python


def public_modules(wheel: Path) -> list[str]:
    """Name the modules that people import."""
    top = [path.removesuffix(".py") for path in contents(wheel) if re.fullmatch(r"azstoragetorch/[a-z]\w*\.py", path)]
    return ["azstoragetorch", *sorted(path.replace("/", ".") for path in top)]


def imports(python: Path, modules: list[str], folder: Path) -> None:
    """Import each module in a process of its own, with warnings as errors, from the environment and nowhere else."""
    for module in modules:
        script = f"import {module} as it; print(it.__file__, [getattr(it, name) for name in it.__all__])"
        if module in NEEDS_TORCH:
            script = (
                f"try:\n    import {module}\nexcept ImportError as error:\n    print(error)\n"
                "else:\n    raise SystemExit('torch is not there, and nobody noticed')"
            )
        said = run(python, "-I", "-W", "error", "-c", script, folder=folder)
        if module in NEEDS_TORCH and "torch" not in said:
            raise PackageError(f"without torch, {module} fails to import and says only: {said}")
        if module not in NEEDS_TORCH and not said.startswith(str(python.parents[1])):
            raise PackageError(f"{module} was imported from elsewhere: {said}")


def run(python: Path, *arguments: str, folder: Path) -> str:
    """Run the interpreter of the environment, far from the checkout, and return what it prints.

    :raises PackageError: if it fails.
    """
    done = subprocess.run([str(python), *arguments], cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise PackageError(f"{' '.join(arguments)}: status {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout.strip()


if __name__ == "__main__":
    main()
