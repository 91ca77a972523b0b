"""Reads from a host that is not there, not reachable or not to be trusted."""

from __future__ import annotations

__all__ = ["HOSTS"]

import contextlib
import socket
import threading
from dataclasses import replace

from azstoragetorch import TransferOptions
from azstoragetorch.exceptions import BlobRequestError, BlobTimeoutError
from tests.blobserver import BlobServer
from tests.faults.case import BRIEF, Case, Table, raises
from tests.faults.places import looked_up, refused, silent_host
from tests.faults.reading import ASYNC, FILE, FOREVER, READS
from tests.faults.scene import Scene


def _refuse_for_a_while(scene: Scene) -> None:
    late = BlobServer(listening=False)
    scene.finally_(late.close)
    late.put(scene.name, scene.content)
    scene.etag = late.version(scene.name).etag
    timer = threading.Timer(0.4, late.listen)
    scene.finally_(timer.join)
    timer.start()
    scene.url = scene.at(late.origin)


def _accept_and_close(scene: Scene) -> None:
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with contextlib.suppress(OSError):  # the end of the listener
            while True:
                listener.accept()[0].close()

    def end() -> None:
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
        listener.close()

    thread = threading.Thread(target=serve)
    thread.start()
    scene.finally_(end)
    scene.url = scene.at(f"https://127.0.0.1:{listener.getsockname()[1]}")


HOSTS = Table(
    "reads-hosts",
    (
        Case(
            name="connection refused, always",
            fault=refused,
            outcome=raises(BlobRequestError),
            requests=0,
            uses=FOREVER,
            seconds=3,
        ),
        Case(
            name="connection refused, always, with the default limits",
            fault=refused,
            options=TransferOptions(),
            outcome=raises(BlobRequestError),
            requests=0,
            uses=(FILE,),
            seconds=10,
        ),
        Case(name="connection refused for 0.4 s", fault=_refuse_for_a_while, requests=0, uses=READS, seconds=3),
        Case(
            name="host name unknown",
            fault=looked_up(socket.EAI_NONAME, "Name or service not known"),
            options=TransferOptions(),
            outcome=raises(BlobRequestError),
            requests=0,
            uses=READS,
            seconds=2,
        ),
        Case(
            name="host name cannot be looked up, once",
            fault=looked_up(socket.EAI_AGAIN, "Temporary failure in name resolution", times=1),
            requests=1,
            uses=READS,
            seconds=2,
        ),
        Case(
            name="host name cannot be looked up, always",
            fault=looked_up(socket.EAI_AGAIN, "Temporary failure in name resolution"),
            outcome=raises(BlobRequestError),
            requests=0,
            uses=FOREVER,
            seconds=3,
        ),
        Case(
            name="certificate not trusted",
            fault=lambda scene: scene.distrust(),
            service="tls",
            options=TransferOptions(),
            outcome=raises(BlobRequestError),
            requests=0,
            uses=READS,
            seconds=2,
        ),
        Case(
            name="certificate of another host",
            fault=looked_up(0, "", times=0, host="nowhere.blob.test"),
            service="tls",
            options=TransferOptions(),
            outcome=raises(BlobRequestError),
            requests=0,
            uses=(FILE, ASYNC),
            seconds=2,
        ),
        Case(
            name="TLS handshake never answered, always",
            fault=silent_host,
            service="tls",
            options=replace(BRIEF, connect_timeout=0.4),
            outcome=raises(BlobTimeoutError),
            requests=0,
            uses=FOREVER,
            seconds=3,
        ),
        Case(
            name="TLS handshake cut, always",
            fault=_accept_and_close,
            service="tls",
            outcome=raises(BlobRequestError),
            requests=0,
            uses=FOREVER,
            seconds=3,
        ),
    ),
)
