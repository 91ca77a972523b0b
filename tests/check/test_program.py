"""``python -m azstoragetorch``: every step says what it found, a failed one what to do, and none shows a secret."""

from __future__ import annotations

import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
import trustme
from azure.storage.blob import ContainerSasPermissions, generate_container_sas

import azstoragetorch
from azstoragetorch._check.program import main
from tests.azurite.identity import IdentityEndpoint
from tests.azurite.launcher import ACCOUNT_KEY, ACCOUNT_NAME, Azurite
from tests.blobserver import BlobServer, Header, IgnoreRange, Status, on
from tests.conftest import TlsBlobServer
from tests.credentials.proxy import Proxy
from tests.secrets.canaries import SIGNATURE, found_in

pytestmark = pytest.mark.timeout(120)

REPOSITORY = Path(__file__).parents[2]
QUICK = ["--seconds", "0.1"]
SAS = f"sv=2024-11-04&se=2099-01-01T00%3A00%3A00Z&sr=c&sp=rwl&sig={SIGNATURE}"


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the machine of the tests has set must not be what the tests see."""
    for name in list(os.environ):
        if name.upper().startswith(("AZURE_", "IDENTITY_", "MSI_", "SSL_CERT")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "EnvironmentCredential")  # which asks nobody


class Output(dict[str, list[str]]):
    """Lines by their labels."""

    def __init__(self, text: str) -> None:
        super().__init__()
        label = ""
        for line in text.splitlines():
            label = line[:12].strip() or label
            self.setdefault(label, []).append(line[12:])

    @property
    def steps(self) -> dict[str, str]:
        """How each step went: ``ok`` or ``FAILED``."""
        return {label: lines[0].split()[0] for label, lines in self.items() if lines[0].startswith(("ok ", "FAILED "))}


@pytest.fixture
def check(capsys: pytest.CaptureFixture[str]) -> Any:
    """Run the program in this process; returns its exit status and its output."""

    def run(*arguments: str) -> tuple[int, Output]:
        status = main([*arguments])
        printed = capsys.readouterr()
        assert printed.err == ""
        assert not found_in([printed.out])
        assert "sig=" not in printed.out
        return status, Output(printed.out)

    return run


def start(*arguments: str, before: str = "") -> list[str]:
    """Return the command that runs the program in a process of its own, after ``before``."""
    if not before:
        return [sys.executable, "-W", "error", "-m", "azstoragetorch", *arguments]
    script = f"import runpy, sys; {before}; sys.argv[1:] = {list(arguments)!r}; "
    return [sys.executable, "-W", "error", "-c", f"{script}runpy.run_module('azstoragetorch', run_name='__main__')"]


def run_elsewhere(*arguments: str, before: str = "", given: str = "") -> tuple[int, str, str]:
    done = subprocess.run(
        start(*arguments, before=before), cwd=REPOSITORY, input=given, capture_output=True, text=True, timeout=100
    )
    return done.returncode, done.stdout, done.stderr


# What is installed.


def test_versions_and_extras_are_told(check: Any) -> None:
    """The first lines of every report of a defect."""
    status, output = check()
    assert status == 0
    assert output["package"] == [f"azstoragetorch {azstoragetorch.__version__}"]
    assert ".".join(map(str, sys.version_info[:3])) in output["Python"][0]
    assert re.search(r"aiohttp \d+\.\d+.*azure-core \d+\.\d+.*azure-storage-blob 12\.\d+", output["needs"][0])
    assert [line.partition(" ")[0] for line in output["extra"]] == ["crc64", "progress"]
    assert all(": active" in line for line in output["extra"])


def test_missing_packages_are_told_with_what_installs_them() -> None:
    """It is what people run where something is missing, so it says that first, and needs as little itself."""
    missing = "sys.modules.update(dict.fromkeys(['torch', 'tqdm', 'aiohttp', 'azure']))"
    status, printed, errors = run_elsewhere("https://account.blob.core.windows.net/data", before=missing)
    assert (status, errors) == (1, "")
    output = Output(printed)
    assert output["torch"] == ["not installed: BlobIO, AsyncBlobIO and BlobListing work, the datasets need it"]
    assert output["extra"][1].endswith("not installed, pip install 'azstoragetorch[progress]'")
    assert output["needs"][-1].startswith("FAILED  ")


def test_credentials_of_the_environment_are_hinted_at_and_not_shown(
    check: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Which one DefaultAzureCredential will find is the question; values are secrets."""
    monkeypatch.delenv("AZURE_TOKEN_CREDENTIALS")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "nothing was found" in check()[1]["login"][0]

    for name in ("AZURE_CLIENT_ID", "AZURE_TENANT_ID", "AZURE_CLIENT_SECRET", "AZURE_STORAGE_KEY"):
        monkeypatch.setenv(name, SIGNATURE)
    monkeypatch.setenv("IDENTITY_ENDPOINT", f"http://127.0.0.1/{SIGNATURE}")
    monkeypatch.setenv("https_proxy", f"http://user:{SIGNATURE}@proxy.test:3128")
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere.pem")
    (tmp_path / "az").touch(mode=0o755)
    monkeypatch.setenv("AZURE_CONFIG_DIR", str(tmp_path))
    status, output = check()
    assert status == 0
    assert output["login"] == [
        "AZURE_CLIENT_ID and AZURE_TENANT_ID and AZURE_CLIENT_SECRET are set: EnvironmentCredential",
        "IDENTITY_ENDPOINT is set: ManagedIdentityCredential",
        "az is installed, not logged in: AzureCliCredential",
        "AZURE_STORAGE_KEY is set, and not read: put the SAS behind the URL, or pass AzureNamedKeyCredential",
    ]
    assert output["network"] == [
        "https goes through a proxy, proxy.test (no_proxy names exceptions)",
        "SSL_CERT_FILE is set, but is no file: the authorities that are trusted",
    ]


# A URL.


@pytest.fixture(scope="module")
def container(azurite: Azurite) -> str:
    """Return the name of a container with 20 blobs of 2 KB and an empty one."""
    name = azurite.create_container()
    with azurite.service_client() as client, client.get_container_client(name) as made:
        made.upload_blob("empty", b"")
        for number in range(20):
            made.upload_blob(f"train/{number:02}", bytes(2000))
    return name


def names_in(azurite: Azurite, container: str) -> set[str]:
    with azurite.service_client() as client, client.get_container_client(container) as made:
        return set(made.list_blob_names())


def test_container_is_reached_measured_and_judged(check: Any, azurite: Azurite, container: str) -> None:
    """The whole of it, in the order in which things can fail."""
    status, output = check(*QUICK, azurite.container_url(container))
    assert status == 0
    assert output.steps == dict.fromkeys(["URL", "name", "connect", "credential", "list", "read"], "ok")
    assert "the SAS of the URL: sp=racwdl, sr=c, se=" in output["credential"][-1]
    assert output["list"][0].startswith("ok      21 blobs, 2.0 KiB each on average (")
    assert re.fullmatch(r"[\d.]+ m?s a request \(median of \d+\), [\d.]+ m?s at most", output["latency"][0])
    assert [int(line.split()[0]) for line in output["speed"][:3]] == [1, 8, 32]
    assert output["suggestion"][0].startswith("prefetch=")
    assert output["suggestion"][1].startswith("num_workers=")


def test_sas_can_come_by_the_standard_input(azurite: Azurite, container: str) -> None:
    """An argument is in the list of processes, and in the history of the shell."""
    url = azurite.container_url(container)
    status, printed, errors = run_elsewhere("--seconds", "0", "-", given=f"{url}\n")
    assert (status, errors) == (0, "")
    assert Output(printed).steps["list"] == "ok"
    assert "latency" not in printed
    assert url.partition("?")[2] not in printed


def test_blob_is_read_and_timed(check: Any, azurite: Azurite, container: str) -> None:
    """A checkpoint: how long will loading it take."""
    status, output = check(*QUICK, azurite.container_url(container).replace("?", "/train/00?"))
    assert status == 0
    assert list(output.steps) == ["URL", "name", "connect", "credential", "read"]
    assert output["suggestion"][0].startswith("reading all of it takes about ")


def test_write_leaves_nothing_behind(check: Any, azurite: Azurite, container: str) -> None:
    """Beside a blob, too, which is never replaced for a test."""
    before = names_in(azurite, container)
    for url in (azurite.container_url(container), azurite.container_url(container).replace("?", "/train/00?")):
        status, output = check("--write", "--seconds", "0", url)
        assert (status, output.steps["write"], output.steps["delete"]) == (0, "ok", "ok")
    assert names_in(azurite, container) == before


def test_blob_that_cannot_be_deleted_is_named(check: Any, azurite: Azurite) -> None:
    """Nothing else here needs the right to delete, so it is no failure."""
    name = azurite.create_container()
    rights = ContainerSasPermissions(read=True, write=True, create=True, list=True)
    sas = generate_container_sas(ACCOUNT_NAME, name, account_key=ACCOUNT_KEY, permission=rights, expiry="2099-01-01")
    status, output = check("--write", f"{azurite.container_url(name, sas=False)}?{sas}")
    assert status == 0
    assert output["list"][0].startswith("ok      there are no blobs")
    assert output.steps["delete"] == "FAILED"
    [left] = names_in(azurite, name)
    assert output["delete"][-1].endswith(f"/{left} stays behind")


def test_token_is_asked_for(azurite_https: Azurite, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the TLS connection has a step of its own. Elsewhere, because a process keeps its tokens."""
    monkeypatch.setenv("SSL_CERT_FILE", str(azurite_https.ca_file))
    with IdentityEndpoint() as identity:
        for variable, value in identity.environment.items():
            monkeypatch.setenv(variable, value)
        url = azurite_https.container_url(azurite_https.create_container(), sas=False)
        status, printed, errors = run_elsewhere(url)
    output = Output(printed)
    assert (status, errors) == (0, "")
    assert list(output.steps) == ["URL", "name", "connect", "TLS", "credential", "list"]
    assert re.match(r"ok      TLSv1\.\d, the certificate is accepted and good until \d{4}-", output["TLS"][0])
    assert output["credential"][0].startswith("ok      a token of DefaultAzureCredential (")


def test_proxy_is_what_is_looked_up_and_connected_to(
    check: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The host may be unknown here. Its TLS connection is inside of the tunnel, and seen with the first request."""
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("storage.test").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    url = f"https://storage.test/devstoreaccount1/data?{SAS}"
    with BlobServer(tls=context) as server:
        port = urlsplit(server.origin).port
        assert port is not None
        for refusal in (None, 407):
            with Proxy(port, refusal=refusal) as proxy:
                monkeypatch.setenv("https_proxy", f"http://user:{quote(SIGNATURE, safe='')}@{proxy.host}")
                status, output = check(url)
                assert f"through the proxy {proxy.host} (" in output["URL"][0]
                assert output["name"][0].startswith("ok      127.0.0.1 is 127.0.0.1 (")
                assert "TLS" not in output
                assert (status, output.steps["list"]) == ((1, "FAILED") if refusal else (0, "ok"))
                assert ("the proxy wants a user and a password" in output["list"][0]) == bool(refusal)


# What fails.


def failed(check: Any, *arguments: str) -> tuple[str, str]:
    """Return the step that failed, the last one, and what it said."""
    status, output = check("--timeout", "5", *arguments)
    assert status == 1
    [label] = [label for label, how in output.steps.items() if how == "FAILED"]
    assert label == list(output.steps)[-1]
    return label, "\n".join(line for line in output[label] if not line.startswith("ok "))


@pytest.mark.parametrize("url", ["model.pth", "https://<account>.blob.core.windows.net/<container>", "https://a.test"])
def test_wrong_url_fails_before_anything_is_asked(check: Any, url: str) -> None:
    """With what it should look like."""
    label, text = failed(check, url)
    assert label == "URL"
    assert "expected" in text


def test_unknown_host_fails_the_name(check: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """No query leaves the machine: the system's resolver is told to know nothing."""

    def look_up(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    label, text = failed(check, "--anonymous", "https://acount.blob.core.windows.net/data")
    assert label == "name"
    assert "check the account name" in text


def test_refused_connection_fails_the_connect(check: Any) -> None:
    """At once, and not after the nine seconds in which a transfer asks again."""
    with closing(BlobServer(listening=False)) as server:
        label, text = failed(check, f"{server.container_url}?{SAS}")
    assert label == "connect"
    assert "is the host right and up?" in text


def test_silent_host_fails_the_handshake(check: Any) -> None:
    """What a firewall that drops packets looks like from here."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"https://127.0.0.1:{silent.getsockname()[1]}/devstoreaccount1/data?{SAS}"
        label, text = failed(check, "--timeout", "0.5", url)
    assert label == "TLS"
    assert "nothing within 0.5 s" in text


def test_untrusted_certificate_fails_the_handshake(check: Any, tls_server: TlsBlobServer) -> None:
    """With the variable that names authorities."""
    label, text = failed(check, f"{tls_server.container_url}?{SAS}")
    assert label == "TLS"
    assert "SSL_CERT_FILE" in text


def test_missing_login_fails_the_credential(server: BlobServer) -> None:
    """With all that was tried below it: here is where people want to see that."""
    status, printed, errors = run_elsewhere(server.container_url)
    assert (status, errors) == (1, "")
    text = "\n".join(Output(printed)["credential"])
    assert text.startswith("FAILED  no token could be had: ")
    assert "az login" in text
    assert "EnvironmentCredential authentication unavailable" in text
    assert text.count("DefaultAzureCredential failed to retrieve") == 1
    assert not server.requests()


def test_refused_sas_fails_the_list_and_is_doubted_before(check: Any, server: BlobServer) -> None:
    """The fields of a SAS say it before the service does."""
    server.fault(on(), Status(403, "AuthenticationFailed"), times=None)
    status, output = check(f"{server.container_url}?{SAS.replace('2099', '2020').replace('rwl', 'r')}")
    assert status == 1
    assert "it lacks the permission 'l'" in output["credential"][-1]
    assert output.steps["list"] == "FAILED"
    assert "expired at 2020-01-01" in output["list"][0]


@pytest.mark.parametrize(
    ("action", "words"),
    [
        (Status(404, "ContainerNotFound"), "check the URL"),
        (Status(403, "AuthorizationFailure"), "firewall"),
        (Header("x-ms-request-id", None), "it is not the service's own"),
    ],
    ids=["no container", "firewall", "login page"],
)
def test_refusal_fails_the_list(check: Any, server: BlobServer, action: Any, words: str) -> None:
    """In the words that a dataset would use."""
    server.fault(on(), action, Header("Content-Type", "text/html"), times=None)
    label, text = failed(check, f"{server.container_url}?{SAS}")
    assert label == "list"
    assert words in text


def test_blob_that_cannot_be_read_fails_the_read(check: Any, server: BlobServer) -> None:
    """Listing and reading are two rights."""
    server.put("a", b"content")
    server.fault(on("GET", blob="a"), IgnoreRange(), times=None)
    assert failed(check, f"{server.container_url}?{SAS}")[0] == "read"


def test_error_while_measuring_ends_it(check: Any, server: BlobServer) -> None:
    """Many requests are under way by then; one message is enough."""
    server.put("a", b"content")
    server.fault(on("GET", blob="a"), Status(404, "BlobNotFound"), nth=30, times=None)
    status, output = check(*QUICK, f"{server.container_url}?{SAS}")
    assert status == 1
    assert output["speed"][-1].startswith("FAILED  reading ")


def test_wrong_arguments_are_a_status_of_their_own(capsys: pytest.CaptureFixture[str]) -> None:
    """2, as of every program of argparse."""
    for arguments in (["--seconds", "-1"], ["--timeout", "0"], ["--seconds", "x"], ["--nonsense"], ["a", "b"]):
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 2
    errors = capsys.readouterr().err
    assert "must be between" in errors
    assert "invalid number value: 'x'" in errors


def test_interrupt_ends_it_without_a_traceback(server: BlobServer) -> None:
    """People press Ctrl-C when something takes too long."""
    server.put("a", b"content")
    process = subprocess.Popen(
        start("--seconds", "60", f"{server.container_url}?{SAS}"),
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    while not process.stdout.readline().startswith("latency"):
        pass
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (130, "")


# What a terminal shows while it measures.


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """Both ends of one."""
    ends = os.openpty()
    termios.tcsetwinsize(ends[1], (24, 100))  # a bar takes the width, and has none without
    yield ends
    for end in ends:
        os.close(end)


@pytest.mark.parametrize(
    ("before", "shown"),
    [("", "32 at a time: "), ("sys.modules['tqdm'] = None", "measuring 32 at a time for 0.1 s ...")],
    ids=["tqdm", "no tqdm"],
)
def test_terminal_shows_what_is_measured(
    server: BlobServer, terminal: tuple[int, int], before: str, shown: str
) -> None:
    """A bar where there is one, and lines where there is none; the results are the same."""
    server.put("a", bytes(1000))
    command = start(*QUICK, f"{server.container_url}?{SAS}", before=before)
    done = subprocess.run(command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=terminal[1], text=True, timeout=100)
    assert done.returncode == 0
    assert "suggestion" in done.stdout
    assert shown in os.read(terminal[0], 1 << 20).decode()
