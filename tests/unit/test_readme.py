"""README.md says what is true of the repository around it."""

from __future__ import annotations

import configparser
import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
README = (REPOSITORY / "README.md").read_text()


def command(name: str) -> str:
    match = re.search(rf"^<!-- {name} -->\n```bash\n(.+)\n```$", README, re.MULTILINE)
    assert match is not None, f"README.md has no command named {name}"
    return match[1]


def environments() -> set[str]:
    """Return the environments that tox.ini describes."""
    tox = configparser.ConfigParser(interpolation=None)
    tox.read(REPOSITORY / "tox.ini")
    names = [section.removeprefix("testenv:") for section in tox.sections() if section.startswith("testenv:")]
    return {name.replace("{311, 312, 313}", version) for name in names for version in ("311", "312", "313")}


@pytest.mark.parametrize("name", ["quickstart", "tests"])
def test_commands_name_environments_of_tox(name: str) -> None:
    """They are the two lines that everyone starts with."""
    assert set(command(name).rpartition(" -e ")[2].split(",")) <= environments()


def test_contributing_names_environments_of_tox() -> None:
    """What is renamed there would be looked for by the next who contributes."""
    text = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = {name for names in re.findall(r"tox run -e (\S+)", text) for name in names.strip("`").split(",")}

    assert len(named) > 10
    assert named <= environments()


@pytest.mark.parametrize("name", ["quickstart", "tests"])
def test_ci_runs_the_commands_of_the_readme(name: str) -> None:
    """A command that CI does not run is a command that breaks."""
    assert f"readme_command {name}" in (REPOSITORY / ".ci" / "run").read_text()


def test_quickstart_of_the_guide_is_that_of_the_readme() -> None:
    """It is run as it stands in README.md; a copy that differs would be run by readers only."""
    guide = (REPOSITORY / "docs" / "getting-started.md").read_text(encoding="utf-8")

    assert re.findall(r"^```bash\n(.+?)\n```$", guide, re.MULTILINE | re.DOTALL) == [command("quickstart")]


def test_tests_command_runs_everything_that_has_to_pass() -> None:
    """An environment that nobody runs finds nothing."""
    run = command("tests").rpartition(" -e ")[2].split(",")

    assert run == ["lint", "typing", "docs", "package", "py311", "core-py311"]
