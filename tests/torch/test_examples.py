"""The examples, run as docs/examples.md tells its readers to; what the page says they print is what they print."""

from __future__ import annotations

import configparser
import os
import re
import shlex
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import pytest
from azure.storage.blob import ContainerClient

from tests.azurite.identity import IdentityEndpoint
from tests.azurite.launcher import Azurite
from tests.torch.notebook import NOTEBOOK, execute
from tests.torch.samples import PLACEHOLDER, REPOSITORY, torchrun

pytestmark = pytest.mark.timeout(180)

EXAMPLES = REPOSITORY / "examples"
PAGE = REPOSITORY / "docs" / "examples.md"
# These have tests of their own, below and in test_quickstart.py.
APART = {"clean_up.py", "quickstart.py", "resume.py", "save_model.py"}
VARIABLE = "AZSTORAGETORCH_CONTAINER_URL"

_COMMAND = re.compile(r"^```bash\n(?P<command>.*?)\n```$(?:\n\n```text\n(?P<output>.*?)^```$)?", re.M | re.S)


@dataclass(frozen=True, slots=True)
class Section:
    """A section of the page: the file that it shows, its commands and what each prints."""

    file: str | None
    commands: list[tuple[str, str]]


def sections() -> list[Section]:
    found = []
    for part in re.split(r"^## ", PAGE.read_text(encoding="utf-8"), flags=re.M)[1:]:
        files = re.findall(r"\]\(\.\./examples/(\S+)\)", part)
        assert len(files) <= 1, "one section for each example"
        # Beside what the site includes there is a link, for those who browse the repository.
        included = re.findall(r"\{literalinclude\} \.\./examples/(\S+)", part)
        assert included == [file for file in files if file.endswith(".py")]
        commands = [(match["command"], match["output"] or "") for match in _COMMAND.finditer(part)]
        assert part.count("```bash") == len(commands)
        found.append(Section(files[0] if files else None, commands))
    return found


SECTIONS = sections()
OF_FILE = {section.file: section for section in SECTIONS if section.file is not None}
SCRIPTS = sorted(file for file in OF_FILE if file.endswith(".py") and file not in APART)


def run(command: str, container_url: str | None, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the page in the root of the repository, on the interpreter and the loopback of the tests."""
    # A warning fails an example, as it fails a test. The remark of torch is that two workers are more than the cores
    # of a small machine. torchrun hands no flags on, so all are told by the environment.
    warnings = "error,ignore:This DataLoader will create:UserWarning"
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONWARNINGS": warnings, **variables}
    environment.pop(VARIABLE, None)
    if container_url is not None:
        environment[VARIABLE] = container_url
    program, *arguments = shlex.split(command)
    if program == "torchrun":
        option, ranks, script = arguments
        assert option == "--nproc-per-node"
        arguments, loopback = torchrun(int(ranks), Path(script))
        environment |= loopback
    else:
        assert program == "python"
        arguments = [sys.executable if argument == "python" else argument for argument in arguments]
    return subprocess.run([sys.executable, *arguments], cwd=REPOSITORY, env=environment, capture_output=True, text=True)


def comparable(output: str) -> str:
    """Return it without what machines differ in: every number with a decimal point."""
    return re.sub(r"\d+\.\d+", "#.#", output)


def test_page_shows_every_example() -> None:
    """A file that the page does not know would be one that nobody runs and nobody finds."""
    assert sorted(OF_FILE) == sorted(path.name for path in EXAMPLES.iterdir() if path.is_file())


@pytest.mark.parametrize("file", SCRIPTS)
def test_example_prints_what_the_page_says(file: str, container_url: str) -> None:
    """People run it, compare, and copy from it. An empty container and its URL are all that it needs."""
    ((command, output),) = OF_FILE[file].commands

    result = run(command, container_url)

    assert (result.returncode, result.stderr) == (0, "")
    printed, shown = (comparable(text).splitlines() for text in (result.stdout, output))
    if command.startswith("torchrun "):  # ranks print when they come to it, and now and then into each other's lines
        printed, shown = sorted("".join(printed)), sorted("".join(shown))
    assert printed == shown, result.stdout
    assert "sig=" not in result.stdout


def test_example_runs_without_an_account() -> None:
    """The first command of the page, which starts an emulator; what tox would run is run here."""
    tox = configparser.ConfigParser(interpolation=None)
    tox.read(REPOSITORY / "tox.ini")
    command, output = SECTIONS[0].commands[0]
    start, arguments = command.split(" -- ")
    assert start == ".venv/bin/tox run -e example"
    assert (arguments, output) == OF_FILE["save_model.py"].commands[0]

    result = run(tox["testenv:example"]["commands"].replace("{posargs}", arguments), None)

    assert (result.returncode, result.stderr) == (0, "")
    assert comparable(result.stdout) == comparable(output)


def test_example_runs_with_an_account(container_url: str) -> None:
    """The second command of the page; readers put the URL of their container into it."""
    command, output = SECTIONS[0].commands[1]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    script = command.replace(PLACEHOLDER, container_url)

    result = subprocess.run(["bash", "-ec", script], cwd=REPOSITORY, env=environment, capture_output=True, text=True)

    assert (result.returncode, result.stderr) == (0, "")
    assert comparable(result.stdout) == comparable(output)
    with ContainerClient.from_container_url(container_url) as client:
        assert list(client.list_blob_names()) == ["azstoragetorch-examples/model.pth"]


def test_resumed_training_ends_like_one_that_was_not_killed(container_url: str, azurite: Azurite) -> None:
    """Otherwise a sample came twice, or not at all, or the checkpoint was half of two."""
    (kill, killed_output), (resume, resumed_output) = OF_FILE["resume.py"].commands

    killed, resumed = run(kill, container_url), run(resume, container_url)
    straight = run(resume, azurite.container_url(azurite.create_container()))

    assert [result.stderr for result in (killed, resumed, straight)] == ["", "", ""]
    assert [result.returncode for result in (killed, resumed, straight)] == [-signal.SIGKILL, 0, 0]
    assert comparable(killed.stdout) == comparable(killed_output)
    assert comparable(resumed.stdout) == comparable(resumed_output)
    losses = [re.findall(r"loss (\S+)", output) for output in (killed.stdout + resumed.stdout, straight.stdout)]
    assert len(losses[0]) == 2
    assert losses[0] == losses[1]


@pytest.mark.parametrize("file", ["load_model.py", "map_prefix.py"])
def test_example_finds_the_credential_of_the_machine(file: str, azurite_https: Azurite) -> None:
    """A URL as it stands in the portal, without a SAS, and whoever is logged in: that is how most people run them."""
    url = azurite_https.container_url(azurite_https.create_container(), sas=False)

    with IdentityEndpoint() as identity:
        result = run(f"python examples/{file}", url, SSL_CERT_FILE=str(azurite_https.ca_file), **identity.environment)

    assert (result.returncode, result.stderr) == (0, "")
    assert comparable(result.stdout) == comparable(OF_FILE[file].commands[0][1])
    assert identity.token_count > 0


@pytest.mark.parametrize("sas", [True, False], ids=["sas", "identity"])
def test_clean_up_deletes_what_examples_leave_and_nothing_else(sas: bool, azurite_https: Azurite) -> None:
    """It runs where people keep their own blobs."""
    name = azurite_https.create_container()
    ((command, output),) = OF_FILE["clean_up.py"].commands
    with azurite_https.service_client() as service, service.get_container_client(name) as container:
        for blob in ("azstoragetorch-examples/model.pth", "azstoragetorch-examples/a/b", "model.pth"):
            container.upload_blob(blob, b"")

        with IdentityEndpoint() as identity:
            trust = {"SSL_CERT_FILE": str(azurite_https.ca_file), "REQUESTS_CA_BUNDLE": str(azurite_https.ca_file)}
            url = azurite_https.container_url(name, sas=sas)
            result = run(command, url, **trust, **identity.environment)

        assert (result.returncode, result.stderr) == (0, "")
        assert result.stdout == output
        assert list(container.list_blob_names()) == ["model.pth"]


def test_examples_write_where_clean_up_looks(container_url: str) -> None:
    """What it does not find stays in somebody's account."""
    for file in {*SCRIPTS, "resume.py", "save_model.py"}:
        assert '"azstoragetorch-examples/' in (EXAMPLES / file).read_text(), file


def test_notebook_shows_what_its_cells_print(container_url: str, tmp_path: Path) -> None:
    """It is read more often than run; its outputs are committed."""
    execute(tmp_path / "fresh.ipynb", container_url)

    assert _shown(tmp_path / "fresh.ipynb") == _shown(NOTEBOOK)


def test_notebook_shows_nothing_of_the_machine_it_ran_on() -> None:
    """Whoever renews the outputs commits them."""
    shown = repr(_shown(NOTEBOOK))
    notebook = nbformat.read(NOTEBOOK, as_version=4)

    assert not re.search(r"sig=|127\.0\.0\.1|localhost|/home|/tmp|/Users", shown)
    assert str(REPOSITORY) not in shown
    assert notebook.metadata["language_info"] == {"name": "python"}
    assert [cell.metadata for cell in notebook.cells if cell.metadata] == []


def _shown(path: Path) -> list[tuple[str, tuple[Any, ...]]]:
    """Return what the cells of a notebook show: texts without what machines differ in, and which kinds of pictures."""
    shown: list[tuple[str, tuple[Any, ...]]] = []
    for cell in nbformat.read(path, as_version=4).cells:
        for output in cell.get("outputs", []):
            if output.output_type == "stream":
                shown.append((cell.id, (output.name, comparable(output.text))))
            else:
                data = output.data
                shown.append((cell.id, (output.output_type, sorted(data), comparable(data["text/plain"]))))
    return shown
