"""The emulator's launcher, which every other test that needs a storage account stands on."""

from __future__ import annotations

import os
import re
import select
import shlex
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError
from azure.identity import DefaultAzureCredential
from azure.storage.blob import ContainerClient

from tests.azurite.identity import IdentityEndpoint
from tests.azurite.install import install
from tests.azurite.launcher import Azurite, AzuriteStartError

REPOSITORY = Path(__file__).parents[2]
RUN = [sys.executable, "-m", "tests.azurite", "run", "--"]


def environment(**variables: str) -> dict[str, str]:
    """The environment for a subprocess, without a container of the person who runs the tests."""
    inherited = {name: value for name, value in os.environ.items() if name != "AZSTORAGETORCH_CONTAINER_URL"}
    return inherited | variables


def wait_until_gone(pid: int) -> None:
    """Return when process ``pid``, which need not be a child of ours, has ended."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        # Readable at the end of the process, so this waits for the event itself; the test's timeout bounds it.
        select.select([descriptor], [], [])
    finally:
        os.close(descriptor)


def test_container_url_with_sas_reads_and_writes(container_url: str) -> None:
    """Most tests get their whole access from this URL."""
    with ContainerClient.from_container_url(container_url) as client:
        client.upload_blob("folder/a", b"content")

        assert client.download_blob("folder/a").readall() == b"content"
        assert [blob.name for blob in client.list_blobs()] == ["folder/a"]


def test_container_without_sas_is_private(azurite: Azurite) -> None:
    """Otherwise no test of a credential could fail."""
    url = azurite.container_url(azurite.create_container(), sas=False)

    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(f"{url}/blob")

    caught.value.close()
    assert caught.value.code in (401, 403, 404)
    assert "?" not in url


def test_sas_of_one_container_does_not_open_another(azurite: Azurite) -> None:
    """Tests that share the emulator cannot disturb each other by mistake."""
    query = azurite.container_url(azurite.create_container()).partition("?")[2]
    other = azurite.container_url(azurite.create_container(), sas=False)

    with (
        ContainerClient.from_container_url(f"{other}?{query}") as client,
        pytest.raises(HttpResponseError) as caught,
    ):
        client.upload_blob("a", b"")

    assert caught.value.status_code == 403


def test_https_serves_with_the_given_certificate(azurite_https: Azurite) -> None:
    """Bearer tokens are sent over https only, so tests of tokens need this."""
    url = azurite_https.container_url(azurite_https.create_container())
    arguments: dict[str, Any] = {"connection_verify": str(azurite_https.ca_file)}

    assert url.startswith("https://127.0.0.1:")
    with ContainerClient.from_container_url(url, **arguments) as client:
        client.upload_blob("a", b"content")
        assert client.download_blob("a").readall() == b"content"


def test_identity_endpoint_gives_tokens_that_open_the_account(
    azurite_https: Azurite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tests of the default credential stand on this; with another audience or issuer they would only ever see 403."""
    url = azurite_https.container_url(azurite_https.create_container(), sas=False)
    arguments: dict[str, Any] = {"connection_verify": str(azurite_https.ca_file)}

    with IdentityEndpoint() as identity:
        for name, value in identity.environment.items():
            monkeypatch.setenv(name, value)
        with (
            DefaultAzureCredential() as credential,
            ContainerClient.from_container_url(url, credential, **arguments) as client,
        ):
            client.upload_blob("a", b"content")
            assert client.download_blob("a").readall() == b"content"

    assert identity.token_count == 1


def test_close_ends_the_process() -> None:
    """A leftover emulator keeps memory and a port on the machine of whoever runs the tests."""
    with Azurite() as azurite:
        pid = azurite.pid
        os.kill(pid, 0)

    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    azurite.close()


def test_emulator_ends_when_its_starter_is_killed() -> None:
    """A test run that is killed, as CI does at its time limit, gets no chance to clean up."""
    script = "from tests.azurite.launcher import Azurite; a = Azurite(); print(a.pid, flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", script], cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as starter:
        assert starter.stdout is not None
        pid = int(starter.stdout.readline())
        starter.kill()
        starter.wait()

    wait_until_gone(pid)


def test_early_end_is_reported_with_the_output(tmp_path: Path) -> None:
    """Who sees the failure needs the emulator's own words, not a timeout."""
    script = tmp_path / "broken.js"
    script.write_text("console.error('the disk is on fire'); process.exit(3)")

    with pytest.raises(AzuriteStartError, match=r"status 3(?s:.)*the disk is on fire"):
        Azurite(script=script)


def test_install_is_done_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every tox environment shares one installation, and works without a network once it is there."""
    first = install()
    monkeypatch.setenv("npm_config_offline", "true")

    assert install() == first
    assert first.is_file()


def test_run_gives_the_command_a_container() -> None:
    """This is what the quickstart and the benchmarks stand on."""
    script = (
        "import os; from azure.storage.blob import ContainerClient as C;"
        "c = C.from_container_url(os.environ['AZSTORAGETORCH_CONTAINER_URL']);"
        "c.upload_blob('a', b'content'); print([b.size for b in c.list_blobs()])"
    )
    result = subprocess.run(
        [*RUN, sys.executable, "-c", script], cwd=REPOSITORY, env=environment(), capture_output=True
    )

    assert (result.returncode, result.stdout, result.stderr) == (0, b"[7]\n", b"")


def test_run_works_as_contributing_shows_it(tmp_path: Path) -> None:
    """It is how something is tried out. The interpreter and the emulator are those of the tests here."""
    text = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (line,) = re.findall(r"^```bash\n(PYTHONPATH=.*)\n```$", text, re.MULTILINE)
    script = tmp_path / "script.py"
    script.write_text("import os, azstoragetorch; print('sig=' in os.environ['AZSTORAGETORCH_CONTAINER_URL'])")
    assert line.count(".tox/torch/bin/python") == 2
    line = line.replace(".tox/torch/bin/python", shlex.quote(sys.executable))
    line = line.replace("script.py", shlex.quote(str(script))).replace(" AZSTORAGETORCH_AZURITE_DIR=.tox/azurite ", " ")

    result = subprocess.run(
        ["bash", "-c", line], cwd=REPOSITORY, env=environment(), capture_output=True, text=True, check=False
    )

    assert (result.returncode, result.stdout, result.stderr) == (0, "True\n", "")


def test_run_uses_the_given_container() -> None:
    """With a real container nothing may be started instead of it."""
    script = "import os; print(os.environ['AZSTORAGETORCH_CONTAINER_URL'])"
    variables = environment(AZSTORAGETORCH_CONTAINER_URL="https://account.example/container")
    result = subprocess.run([*RUN, sys.executable, "-c", script], cwd=REPOSITORY, env=variables, capture_output=True)

    assert (result.returncode, result.stdout) == (0, b"https://account.example/container\n")


@pytest.mark.parametrize(("script", "status"), [("raise SystemExit(7)", 7), ("import os; os.abort()", 134)])
def test_run_passes_the_exit_status_on(script: str, status: int) -> None:
    """A failing quickstart must fail the command around it."""
    variables = environment(AZSTORAGETORCH_CONTAINER_URL="https://account.example/container")
    result = subprocess.run([*RUN, sys.executable, "-c", script], cwd=REPOSITORY, env=variables)

    assert result.returncode == status


def test_run_passes_sigterm_to_the_command() -> None:
    """Ending `run` from outside must not leave the command behind."""
    script = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
    with subprocess.Popen(
        [*RUN, sys.executable, "-c", script], cwd=REPOSITORY, env=environment(), stdout=subprocess.PIPE
    ) as run:
        assert run.stdout is not None
        pid = int(run.stdout.readline())
        run.terminate()
        run.wait()

    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert run.returncode == 128 + signal.SIGTERM
