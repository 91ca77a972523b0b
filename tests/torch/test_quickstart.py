"""The quickstart, run as its readers run it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from azure.storage.blob import ContainerClient

from tests.azurite.identity import IdentityEndpoint
from tests.azurite.launcher import Azurite

pytestmark = pytest.mark.timeout(180)

REPOSITORY = Path(__file__).parents[2]
BLOB = "azstoragetorch-quickstart/model.pth"


def quickstart(container_url: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), **variables}
    environment["AZSTORAGETORCH_CONTAINER_URL"] = container_url
    # torch remarks that two workers are more than the cores of a small machine.
    flags = ["-W", "error", "-W", "ignore:This DataLoader will create:UserWarning"]
    command = [sys.executable, *flags, str(REPOSITORY / "examples" / "quickstart.py")]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


@dataclass(frozen=True, slots=True)
class Ran:
    """One run of it, in a container of its own, from which several tests draw their conclusions."""

    container_url: str
    result: subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def ran(azurite: Azurite) -> Ran:
    url = azurite.container_url(azurite.create_container())
    return Ran(url, quickstart(url))


def test_quickstart_saves_and_loads_a_model(ran: Ran) -> None:
    """It is the first thing that anyone runs."""
    assert (ran.result.returncode, ran.result.stderr) == (0, "")
    assert ran.result.stdout.count("112 of 112 tensors are equal") == 2
    with ContainerClient.from_container_url(ran.container_url) as client:
        assert client.get_blob_client(BLOB).get_blob_properties().size > 25_000_000


def test_quickstart_reads_each_sample_once_with_one_request(ran: Ran) -> None:
    """In this process and in two workers: what a data loader is for."""
    assert "each sample came once with its own bytes" in ran.result.stdout
    lines = re.findall(r"^  (dataset|DataLoader).* 256 samples .* (\d+)$", ran.result.stdout, re.MULTILINE)
    assert lines == [("dataset", "256"), ("DataLoader", "256")]


def test_quickstart_prints_no_signature(ran: Ran) -> None:
    """People paste the report into issues."""
    match = re.search(r"sig=([^&]+)", ran.container_url)

    assert match is not None
    assert match[1] not in ran.result.stdout
    assert "?" not in ran.result.stdout


def test_quickstart_finds_the_credential_of_the_machine(azurite_https: Azurite) -> None:
    """With a URL alone, as it stands in the portal, the identity of the machine is used."""
    url = azurite_https.container_url(azurite_https.create_container(), sas=False)

    with IdentityEndpoint() as identity:
        result = quickstart(url, SSL_CERT_FILE=str(azurite_https.ca_file), **identity.environment)

    assert (result.returncode, result.stderr) == (0, "")
    assert identity.token_count > 0


def test_quickstart_fails_without_a_container(azurite: Azurite) -> None:
    """A script that prints a failure and exits with 0 passes in every CI."""
    missing = azurite.container_url("missing")

    for url in ("", missing):
        result = quickstart(url)

        assert result.returncode != 0
        assert "OK" not in result.stdout
        assert "sig=" not in result.stdout + result.stderr
