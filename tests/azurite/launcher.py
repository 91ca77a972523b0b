"""Start and stop Azurite, the Azure Storage emulator, as a child process on a free loopback port.

Each `Azurite` is one process with an empty account in memory. It is ended by `Azurite.close`, and also when the
process that started it ends in any way, a kill included.
"""

from __future__ import annotations

__all__ = ["ACCOUNT_KEY", "ACCOUNT_NAME", "Azurite", "AzuriteStartError", "Certificate"]

import os
import re
import subprocess
import tempfile
import time
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from azure.storage.blob import BlobServiceClient, ContainerSasPermissions, generate_container_sas

from tests.azurite.install import install
from tests.npm import NODE

# The emulator's fixed account. Its key is public, printed in the emulator's documentation:
# https://learn.microsoft.com/azure/storage/common/storage-use-azurite#well-known-storage-account-and-key
ACCOUNT_NAME = "devstoreaccount1"
ACCOUNT_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="

_WATCHDOG = Path(__file__).with_name("watchdog.cjs")
_START_TIMEOUT = 60.0  # seconds; it takes 0.6 s on two idle cores
_LISTENING = re.compile(r"successfully listens on (https?://127\.0\.0\.1:\d+)\s")


class AzuriteStartError(Exception):
    """Azurite ended or stayed silent instead of listening; the text ends with what it printed."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """PEM files of a certificate for 127.0.0.1, its key, and the authority that a client has to trust for it."""

    cert_file: Path
    key_file: Path
    ca_file: Path


class Azurite:
    """A running emulator; a context manager that ends it.

    :param certificate: serve https with it, and accept bearer tokens; ``None`` serves plain http.
    :param script: what `tests.azurite.install.install` returns; ``None`` installs.
    :raises AzuriteStartError: if it does not listen within 60 seconds.
    """

    account_name = ACCOUNT_NAME
    account_key = ACCOUNT_KEY

    def __init__(self, *, certificate: Certificate | None = None, script: Path | None = None) -> None:
        self.certificate = certificate
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        command: list[str | Path] = [NODE, "--require", _WATCHDOG, script or install()]
        # Port 0: the kernel picks the port for the listening socket itself, so that nobody can take it in between.
        command += ["--blobHost", "127.0.0.1", "--blobPort", "0", "--inMemoryPersistence", "--silent"]
        # The version check refuses API versions newer than the emulator, which an SDK update brings at any time.
        command += ["--disableTelemetry", "--skipApiVersionCheck"]
        if certificate is not None:
            command += ["--oauth", "basic", "--cert", certificate.cert_file, "--key", certificate.key_file]
        # A session of its own: Ctrl-C in a terminal reaches the tests, which stop the emulator when they are done.
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            self.account_url = f"{self._wait_until_listening()}/{ACCOUNT_NAME}"
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """Process id of the emulator itself, not of a wrapper around it."""
        return self._process.pid

    @property
    def ca_file(self) -> Path | None:
        """PEM file that a client has to trust; ``None`` with plain http."""
        return self.certificate.ca_file if self.certificate else None

    def close(self) -> None:
        """End the process and wait for its end. What it stored is gone. Harmless when repeated."""
        # Killed rather than asked: there is nothing to save, and a polite stop waits for idle connections.
        self._process.kill()
        self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._output.close()

    def service_client(self) -> BlobServiceClient:
        """Return a new client of the Azure SDK with the account's key, for what a test prepares or inspects."""
        arguments: dict[str, Any] = {} if self.ca_file is None else {"connection_verify": str(self.ca_file)}
        return BlobServiceClient(self.account_url, credential=ACCOUNT_KEY, **arguments)

    def create_container(self) -> str:
        """Create an empty container under a fresh name and return the name."""
        name = f"test-{uuid.uuid4().hex}"
        with self.service_client() as client:
            client.create_container(name)
        return name

    def container_url(self, name: str, *, sas: bool = True) -> str:
        """Return the URL of a container.

        :param sas: with a query that allows everything in this container for a day; ``False``: no query.
        """
        url = f"{self.account_url}/{name}"
        if not sas:
            return url
        query = generate_container_sas(
            ACCOUNT_NAME,
            name,
            account_key=ACCOUNT_KEY,
            permission=ContainerSasPermissions(read=True, add=True, create=True, write=True, delete=True, list=True),
            expiry=datetime.now(UTC) + timedelta(days=1),
        )
        return f"{url}?{query}"

    def _wait_until_listening(self) -> str:
        deadline = time.monotonic() + _START_TIMEOUT
        while True:
            # The status is read before the output: what a process that has ended printed is then complete.
            status = self._process.poll()
            # A positioned read: seeking would move the write position too, which the child shares.
            output = os.pread(self._output.fileno(), 65536, 0).decode(errors="replace")
            if status is not None:
                raise AzuriteStartError(f"Azurite ended with status {status} before it listened:\n{output}")
            # Its own words rather than an answer on the port: an answer could come from somebody else.
            if match := _LISTENING.search(output):
                return match[1]
            if time.monotonic() > deadline:
                raise AzuriteStartError(f"Azurite did not listen within {_START_TIMEOUT:.0f} s:\n{output}")
            time.sleep(0.01)
