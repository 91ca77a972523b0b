"""Fixtures for all tests: the scriptable blob server here, the Azurite emulator from its own module."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest
import trustme
from blockbuster import blockbuster_ctx
from hypothesis import HealthCheck, settings

from tests.blobserver import BlobServer

pytest_plugins = ["tests.azurite.fixtures", "tests.faults.clock"]

# That a machine is slow or busy is no failure: Hypothesis would allow an example 0.2 s. Examples are others in every
# run, but in CI the same, so that a change is judged by what it changes; what fails prints how to repeat it.
settings.register_profile(
    "tests",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    print_blob=True,
    derandomize=(in_ci := bool(os.environ.get("CI"))),
    database=None if in_ci else settings().database,
)
settings.load_profile("tests")

_Server = TypeVar("_Server", bound=BlobServer)


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files of an authority and of a certificate for 127.0.0.1 and localhost that it issued."""

    ca_file: Path
    cert_file: Path
    key_file: Path

    def server_context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.cert_file, self.key_file)
        return context


class TlsBlobServer(BlobServer):
    """A blob server over https; ``ca_file`` is what a client has to trust."""

    def __init__(self, files: TlsFiles) -> None:
        super().__init__(tls=files.server_context())
        self.ca_file = str(files.ca_file)


def _checked(server: _Server) -> Iterator[_Server]:
    with server:
        yield server
    # A client under test that sends broken HTTP must not pass because the server coped with it.
    assert not server.malformed
    assert not server.errors


@pytest.fixture
def server() -> Iterator[BlobServer]:
    """A fresh blob server over http with one empty container."""
    yield from _checked(BlobServer())


def make_tls_files(folder: Path) -> TlsFiles:
    """Make an authority and a certificate of its own in an existing folder."""
    files = TlsFiles(folder / "ca.pem", folder / "cert.pem", folder / "key.pem")
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1", "localhost")
    authority.cert_pem.write_to_path(str(files.ca_file))
    issued.cert_chain_pems[0].write_to_path(str(files.cert_file))
    issued.private_key_pem.write_to_path(str(files.key_file))
    return files


@pytest.fixture(scope="session")
def tls_files(tmp_path_factory: pytest.TempPathFactory) -> TlsFiles:
    """One authority and certificate for the whole run."""
    return make_tls_files(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def tls_server(tls_files: TlsFiles) -> Iterator[TlsBlobServer]:
    """A fresh blob server over https; its ``ca_file`` is what a client has to trust."""
    yield from _checked(TlsBlobServer(tls_files))


@pytest.fixture
def no_blocking_call() -> Iterator[None]:
    """Fail a test when the package blocks the thread of the event loop.

    Only calls with a frame of the package count: the tests themselves talk to a server in the same process.
    """
    with blockbuster_ctx("azstoragetorch") as blocking:
        # What an earlier test of this process left, such as a semaphore, may be collected at any moment.
        blocking.functions["os.write"].can_block_in("multiprocessing/resource_tracker.py", {"_check_alive", "_send"})
        yield
