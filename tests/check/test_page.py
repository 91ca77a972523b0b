"""docs/check.md: its commands run, and print what it says they print."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import pytest

from tests.azurite.identity import IdentityEndpoint
from tests.azurite.launcher import Azurite

pytestmark = pytest.mark.timeout(120)

REPOSITORY = Path(__file__).parents[2]
PAGE = (REPOSITORY / "docs" / "check.md").read_text("utf-8")
PLACEHOLDER = "https://<account>.blob.core.windows.net/<container>"
BLOCK = re.compile(r"^```bash\n(.*?)^```$(?:\n\n```text\n(.*?)^```$)?", re.MULTILINE | re.DOTALL)
BLOCKS = [(match[1].strip(), match[2]) for match in BLOCK.finditer(PAGE)]


def shapes(text: str) -> list[str]:
    """Return the lines without what differs from run to run: figures, versions, hosts and names of blobs."""
    text = re.sub(r"(https?://\S+)", "URL", text)
    text = re.sub(r"[\w.<>]+ is [\d.]+", "HOST is #", text)
    text = re.sub(r"-?[\d.,]*\d\w*( ?(bytes|[KMGT]i?B|[KMG]?B/s|m?s)\b)?|%", "#", text)
    lines = [re.sub(r"#+(\+?\w+)?", "#", " ".join(line.split())) for line in text.splitlines()]
    return [line for line, _ in groupby(lines) if not line.startswith(("torch ", "Python "))]  # of this machine


@pytest.fixture(scope="module")
def environment(azurite_https: Azurite) -> Iterator[dict[str, str]]:
    """A machine with a login, and a container."""
    name = azurite_https.create_container()
    with azurite_https.service_client() as client, client.get_container_client(name) as container:
        for number in range(10):
            container.upload_blob(f"train/{number:04}.jpg", bytes(1000))
    with IdentityEndpoint() as identity:
        yield {
            **{key: value for key, value in os.environ.items() if not key.startswith("AZURE_")},
            **identity.environment,
            "CONTAINER": azurite_https.container_url(name, sas=False),
            "CONTAINER_URL_WITH_SAS": azurite_https.container_url(name),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(REPOSITORY),
            "SSL_CERT_FILE": str(azurite_https.ca_file),
            "COLUMNS": "100",
        }


@pytest.mark.parametrize(("command", "output"), BLOCKS, ids=range(len(BLOCKS)))
def test_command_prints_what_the_page_says(command: str, output: str | None, environment: dict[str, str]) -> None:
    """The URL is replaced, as by its readers, and measuring is cut short; figures are those of this machine."""
    line = command.replace(PLACEHOLDER, "$CONTAINER").replace("-m azstoragetorch ", "-m azstoragetorch --seconds 0.1 ")
    done = subprocess.run(["bash", "-c", line], env=environment, capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stderr) == (0, "")
    printed = shapes(done.stdout)
    # Before the steps come the lines that the page shows above, and login and network are of the machine.
    assert [shape for shape in shapes(output or "") if shape not in printed and not shape.startswith("login")] == []


def test_page_has_all_commands() -> None:
    """A block that this does not find would be one that nobody runs."""
    assert PAGE.count("```bash\n") == len(BLOCKS) == 5
