"""Where a case is played: a blob, the service that holds it, and the rules that spoil its answers."""

from __future__ import annotations

__all__ = ["Scene", "Stage"]

import logging
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

from azure.core.credentials import AzureNamedKeyCredential
from azure.storage.blob import BlobClient

from azstoragetorch import TransferOptions
from tests.azurite.launcher import ACCOUNT_KEY, ACCOUNT_NAME, Azurite
from tests.blobserver import BlobServer, synthetic_bytes
from tests.conftest import TlsBlobServer, TlsFiles
from tests.faults.case import Case
from tests.faults.proxy import AzuriteProxy
from tests.secrets.accesses import Access, in_url, key
from tests.secrets.canaries import SIGNATURE

_T = TypeVar("_T")

NAME = "folder/blob 1"
WRITTEN_SIZE = 100 * 1024 + 7  # seven blocks of `BRIEF`, the last one short


class Scene:
    """One blob, as the client and as somebody else sees it.

    :ivar server: spoils, delays and records what passes; `AzuriteProxy` takes the same rules.
    :ivar url: where the client is sent, with a SAS unless it has a credential.
    :ivar credential: what the client has besides: nothing, a key or a token, as the stage says.
    :ivar content: what the blob holds at first.
    :ivar expected: what a read that succeeds must return.
    :ivar written: what a write writes.
    :ivar etag: of that content, as a listing would tell it.
    :ivar meanwhile: called between two reads of one file; the fault puts what happens then here.
    :ivar elsewhere: another host, where nobody must go.
    :ivar secret: what must not be seen anywhere, beside the canaries that every test looks for.
    """

    name = NAME

    def __init__(self, server: BlobServer, sas: str, secret: str, size: int, credential: Any = None) -> None:
        self.server = server
        self.secret = secret
        self.credential = credential
        self.content = self.expected = synthetic_bytes(0, size)
        self.written = random.Random(4).randbytes(WRITTEN_SIZE)
        self.etag: str | None = None
        self.meanwhile: Callable[[], object] = lambda: None
        self.elsewhere: BlobServer | None = None
        self._first_etag: str | None = None
        self._sas = sas
        self._first_credential = credential
        self._query = f"?{sas}" if credential is None else ""
        self._trusted = True
        self._farewells: list[Callable[[], object]] = []
        self.url = self.url_of(self.name)

    @property
    def shown(self) -> str:
        """The URL as messages may show it."""
        return self.url.partition("?")[0]

    def url_of(self, name: str) -> str:
        """Return the URL of a blob beside this one, with the SAS unless there is a credential."""
        return self.server.url(name) + self._query

    @property
    def container_url(self) -> str:
        """The URL of the blob's container, where the client is sent, with the SAS unless there is a credential."""
        where = urlsplit(self.url)
        path = urlsplit(self.server.container_url).path
        return f"{where.scheme}://{where.netloc}{path}{self._query}"

    @property
    def url_for_others(self) -> str:
        """The URL as it is given to another client, with the SAS."""
        return f"{self.server.url(self.name)}?{self._sas}"

    def at(self, origin: str) -> str:
        """Return the blob's URL on another host: ``origin`` takes the place of scheme, host and port."""
        return self.url_of(self.name).replace(self.server.origin, origin, 1)

    def options(self, options: TransferOptions) -> TransferOptions:
        """Return the options with what this service needs."""
        if isinstance(self.server, TlsBlobServer) and self._trusted:
            return replace(options, ca_file=self.server.ca_file)
        return options

    def distrust(self) -> None:
        """Give the client no authority to trust for this server's certificate."""
        self._trusted = False

    def give_wrong_credential(self) -> None:
        """Give the client a signature, or a key, that this account never had."""
        if self.credential is None:
            self.url = self.url.replace("sig=", "sig=AAAA")
        else:
            self.credential = key("")[1]

    def put(self, data: bytes) -> None:
        """Replace the blob past the faults, as another client would."""
        self.server.put(self.name, data)

    def begin(self) -> None:
        """Put the content in place."""
        self.etag = self._first_etag = self.server.put(self.name, self.content).etag

    def delete(self) -> None:
        """Delete the blob past the faults."""
        self.server.delete(self.name)

    def by_another_tool(self, act: Callable[[BlobClient], _T]) -> _T:
        """Let somebody with the SDK at the blob; nothing of it is recorded, and the faults are over."""
        self.server.clear()
        logging.disable()  # this other tool writes the signature to its log, and that is not the question here
        try:
            with BlobClient.from_blob_url(self.url_for_others) as blob:
                return act(blob)
        finally:
            logging.disable(logging.NOTSET)
            self.server.clear()

    def stored(self) -> bytes | None:
        """Return what the blob holds, past the faults; ``None`` if there is none."""
        try:
            return self.server.get(self.name)
        except KeyError:
            return None

    def finally_(self, farewell: Callable[[], object]) -> None:
        """Call this when the scene ends."""
        self._farewells.append(farewell)

    def heal(self) -> None:
        """End all faults, forget what was recorded, and send the client to the blob again."""
        self.server.clear()
        self.url = self.url_of(self.name)
        self.credential = self._first_credential
        self.etag = self._first_etag
        self.meanwhile = lambda: None
        self._trusted = True

    def close(self) -> None:
        """End what the fault has begun."""
        while self._farewells:
            self._farewells.pop()()


class Stage:
    """Makes scenes; keeps what many of them share.

    :param azurite: returns the emulator, called at most when a case needs it.
    :param tls: returns the certificate, likewise.
    :param access: how the client proves who it is. Others, who act past the client or beside it, always have a SAS.
    """

    def __init__(self, azurite: Callable[[], Azurite], tls: Callable[[], TlsFiles], access: Access = in_url) -> None:
        self._azurite = azurite
        self._tls = tls
        self._access = access

    @contextmanager
    def scene(self, case: Case) -> Iterator[Scene]:
        """Open the scene of a case, the blob in place and nothing recorded."""
        sas = f"sv=2021-12-02&se=2099-01-01T00%3A00%3A00Z&sr=c&sp=rwdl&sig={quote(SIGNATURE, safe='')}"
        secret = SIGNATURE
        _, credential = self._access("")
        server: BlobServer
        if case.service == "azurite":
            azurite = self._azurite()
            container = azurite.create_container()
            sas = azurite.container_url(container).partition("?")[2]
            secret = sas.rpartition("sig=")[2].partition("&")[0]
            if credential is not None:
                secret = ACCOUNT_KEY
                credential = AzureNamedKeyCredential(ACCOUNT_NAME, ACCOUNT_KEY)  # tokens it takes over https only
            server = AzuriteProxy(azurite, container)
        else:
            server = TlsBlobServer(self._tls()) if case.service == "tls" else BlobServer()
            if credential is None:
                server.require_sas = {"sig": SIGNATURE}
        with server:
            scene = Scene(server, sas, secret, case.size, credential)
            if case.exists:
                scene.begin()
            server.clear()
            try:
                yield scene
            finally:
                scene.close()
        # A client that sends broken HTTP must not pass because the server coped with it.
        assert not server.malformed
        assert not server.errors
