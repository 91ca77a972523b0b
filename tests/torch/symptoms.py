"""What people do wrong, or what their network does, and the message that they meet: what docs/troubleshooting.md shows.

Each symptom is a function that fails as it would for them, at a scripted service on this machine.
"""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import pytest
from azure.core.credentials import AccessToken

from azstoragetorch import TransferOptions
from azstoragetorch.datasets import Blob, BlobDataset, IterableBlobDataset
from azstoragetorch.io import BlobIO
from azstoragetorch.listing import BlobListing
from tests.blobserver import BlobServer, Header, IgnoreRange, Status, on
from tests.conftest import TlsBlobServer
from tests.torch.samples import PLACEHOLDER, REPOSITORY

__all__ = ["SYMPTOMS", "World", "message_of"]

FITS = "sv=2024-11-04&se=2099-01-01T00%3A00%3A00Z&sr=c&sp=rwl&sig=c2lnbmF0dXJl"
EXPIRED = FITS.replace("2099", "2025")
BRIEF = TransferOptions(deadline=1.5, connect_timeout=0.3)


@dataclass(frozen=True, slots=True)
class World:
    """Where a symptom shows."""

    server: BlobServer
    """Has the blob ``model.pth``."""
    tls: TlsBlobServer
    monkeypatch: pytest.MonkeyPatch

    def url(self, name: str = "model.pth") -> str:
        return self.server.url(name)

    def answers(self, status: int, code: str) -> None:
        self.server.fault(on(), Status(status, code), times=None)


class Login:
    """A credential that has a token."""

    def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        return AccessToken("token", int(time.time()) + 3600)


def read(url: str, credential: Any = None, options: TransferOptions | None = None) -> None:
    with BlobIO(url, "rb", credential=credential, options=options) as file:
        file.read()


def write(url: str, mode: Any = "wb") -> None:
    with BlobIO(url, mode, credential=Login()) as file:
        file.write(b"weights")


def no_login(world: World) -> None:
    world.monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "EnvironmentCredential")  # asks nobody, and has nothing
    for name in ("AZURE_CLIENT_ID", "AZURE_TENANT_ID", "AZURE_CLIENT_SECRET"):
        world.monkeypatch.delenv(name, raising=False)
    # Elsewhere, because a process keeps the tokens that other tests have got.
    script = f"from azstoragetorch.io import BlobIO; BlobIO({world.url()!r}, 'rb').read()"
    raise AssertionError(_last_line(script))


def missing_role(world: World) -> None:
    world.answers(403, "AuthorizationPermissionMismatch")
    read(world.url(), Login())


def firewall(world: World) -> None:
    world.answers(403, "AuthorizationFailure")
    read(world.url(), Login())


def expired_sas(world: World) -> None:
    world.answers(403, "AuthenticationFailed")
    read(f"{world.url()}?{EXPIRED}")


def sas_of_one_blob(world: World) -> None:
    world.answers(403, "AuthorizationPermissionMismatch")
    BlobListing.build(f"{world.server.container_url}?{FITS.replace('sr=c', 'sr=b').replace('rwl', 'r')}")


def damaged_sas(world: World) -> None:
    world.answers(403, "AuthenticationFailed")
    read(f"{world.url()}?{FITS}")


def anonymous(world: World) -> None:
    world.answers(409, "PublicAccessNotPermitted")
    read(world.url(), False)


def wrong_container(world: World) -> None:
    IterableBlobDataset.from_container_url(f"{world.server.container_url}s", credential=Login())


def wrong_blob(world: World) -> None:
    read(world.url("modle.pth"), Login())


def container_as_blob(world: World) -> None:
    looked_up_here(world, "account.blob.test")
    world.answers(404, "ContainerNotFound")
    read(f"http://account.blob.test:{world.server.origin.rpartition(':')[2]}/container?{FITS}")


def looked_up_here(world: World, host: str) -> None:
    """Give this machine another name; no query leaves it."""
    real = socket.getaddrinfo

    def look_up(name: Any, *arguments: Any, **options: Any) -> Any:
        return real("127.0.0.1" if name == host else name, *arguments, **options)

    world.monkeypatch.setattr(socket, "getaddrinfo", look_up)


def unknown_host(world: World) -> None:
    def look_up(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    world.monkeypatch.setattr(socket, "getaddrinfo", look_up)
    read("https://acount.blob.core.windows.net/container/model.pth", False)


def refused(world: World) -> None:
    with closing(BlobServer(listening=False)) as closed:
        read(closed.url("model.pth"), False, BRIEF)


def dropped(world: World) -> None:
    # The kernel takes connections for a socket that listens; nobody ever answers the TLS handshake.
    with socket.create_server(("127.0.0.1", 0)) as silent:
        read(f"https://127.0.0.1:{silent.getsockname()[1]}/devstoreaccount1/data/model.pth", False, BRIEF)


def certificate(world: World) -> None:
    for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"):
        world.monkeypatch.delenv(name, raising=False)
    read(world.tls.url("model.pth"), False)


def https_on_http(world: World) -> None:
    with plain_http() as port:
        read(f"https://127.0.0.1:{port}/devstoreaccount1/data/model.pth", False, BRIEF)


@contextmanager
def plain_http() -> Iterator[int]:
    """Answer whatever comes as a web server does that does not speak TLS."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with suppress(OSError):  # the end of the listener
                while True:
                    connection, _ = listener.accept()
                    with connection, suppress(OSError):
                        connection.recv(1)
                        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def login_page(world: World) -> None:
    page = [IgnoreRange(), Header("Content-Type", "text/html"), Header("x-ms-request-id", None)]
    world.server.fault(on(), *page, times=None)
    read(world.url(), False, BRIEF)


def forgot_mode(world: World) -> None:
    BlobIO(world.url())  # type: ignore[call-arg]


def text_mode(world: World) -> None:
    BlobIO(world.url(), "w")  # type: ignore[arg-type]


def container_to_file(world: World) -> None:
    BlobIO(world.server.container_url, "rb")


def blob_to_dataset(world: World) -> None:
    BlobDataset.from_container_url(world.url())


def other_scheme(world: World) -> None:
    BlobIO("abfss://container@account.dfs.core.windows.net/model.pth", "rb")


def data_lake(world: World) -> None:
    BlobIO("https://account.dfs.core.windows.net/container/model.pth", "rb")


def no_torch(world: World) -> None:
    script = "import sys; sys.modules['torch'] = None; import azstoragetorch.datasets"
    raise AssertionError(_last_line(script))


def lambda_under_spawn(world: World) -> None:
    script = f"""
from torch.utils.data import DataLoader
from azstoragetorch.datasets import BlobDataset
dataset = BlobDataset.from_blob_urls([{world.url()!r}], transform=lambda blob: len(blob.read()), credential=False)
next(iter(DataLoader(dataset, num_workers=1, multiprocessing_context="spawn")))
"""
    raise AssertionError(_last_line(script))


def modified(world: World) -> None:
    dataset = BlobDataset.from_container_url(world.server.container_url, credential=False)
    world.server.put("model.pth", b"something else")
    dataset[0]


def immutable(world: World) -> None:
    world.answers(409, "BlobImmutableDueToPolicy")
    write(world.url())


def exists(world: World) -> None:
    write(world.url(), "xb")


def leased(world: World) -> None:
    world.answers(412, "LeaseIdMissing")
    write(world.url())


def forgotten(world: World) -> None:
    file = BlobIO(world.url(), "wb", credential=False)
    file.write(b"weights")
    del file


def throttled(world: World) -> None:
    world.answers(503, "ServerBusy")
    read(world.url(), False, BRIEF)


def transform_fails(world: World) -> None:
    def decode(blob: Blob) -> Any:
        content: dict[str, Any] = {}
        return content["label"]

    BlobDataset.from_blob_urls([world.url()], credential=False, transform=decode)[0]


SYMPTOMS: dict[str, Callable[[World], None]] = {
    function.__name__.replace("_", "-"): function
    for function in (
        *(no_login, missing_role, firewall, expired_sas, sas_of_one_blob, damaged_sas, anonymous),
        *(wrong_container, wrong_blob, container_as_blob),
        *(unknown_host, refused, dropped, certificate, https_on_http, login_page),
        *(forgot_mode, text_mode, container_to_file, blob_to_dataset, other_scheme, data_lake),
        *(no_torch, lambda_under_spawn, modified, transform_fails),
        *(immutable, exists, leased, forgotten, throttled),
    )
}
"""By the names that the page gives them."""


def message_of(symptom: Callable[[World], None], world: World) -> str:
    """Return the last line of the traceback that this ends with, or the warning, with the URLs of the page in it."""
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            symptom(world)
        except AssertionError as error:  # of another process, which has said it itself
            text = str(error)
        except Exception as error:
            kind = type(error)
            name = kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"
            text = "\n".join([f"{name}: {error}", *getattr(error, "__notes__", [])])
        else:
            [warning] = warned
            text = f"{warning.category.__name__}: {warning.message}"
    text = re.sub(r"https?://127\.0\.0\.1:\d+/devstoreaccount1/data(?![a-z])", PLACEHOLDER, text)
    text = re.sub(r"https?://127\.0\.0\.1:\d+/devstoreaccount1/", PLACEHOLDER.rpartition("<")[0], text)
    return re.sub(r"http://account\.blob\.test:\d+/", "https://<account>.blob.core.windows.net/", text)


def _last_line(script: str) -> str:
    done = subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, timeout=50)
    assert done.returncode == 1, done.stderr
    return done.stderr.strip().splitlines()[-1]
