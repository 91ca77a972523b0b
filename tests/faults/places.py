"""Where a client can be sent that is not the service; reads and writes suffer the same there."""

from __future__ import annotations

__all__ = ["looked_up", "refused", "silent_host"]

import socket
from collections.abc import Callable
from typing import Any

from tests.blobserver import BlobServer
from tests.faults.scene import Scene


def refused(scene: Scene) -> None:
    """Send the client to a port that refuses connections."""
    closed = BlobServer(listening=False)
    scene.finally_(closed.close)
    scene.url = scene.at(closed.origin)


def silent_host(scene: Scene) -> None:
    """Send the client to a port that takes connections, for https, and says nothing."""
    # The kernel accepts for a socket that listens, whether somebody takes the connection or not.
    silent = socket.create_server(("127.0.0.1", 0))
    scene.finally_(silent.close)
    scene.url = scene.at(f"https://127.0.0.1:{silent.getsockname()[1]}")


def looked_up(code: int, text: str, *, times: int | None = None, host: str = "localhost") -> Callable[[Scene], object]:
    """Return a fault that fails the look-up of the host's name so many times; no query leaves the machine."""

    def fault(scene: Scene) -> None:
        real = socket.getaddrinfo
        failures = 0

        def look_up(name: Any, port: Any, *arguments: Any, **options: Any) -> Any:
            nonlocal failures
            if name != host:
                return real(name, port, *arguments, **options)
            failures += 1
            if times is None or failures <= times:
                raise socket.gaierror(code, text)
            return real("127.0.0.1", port, *arguments, **options)

        def restore() -> None:
            socket.getaddrinfo = real

        scene.finally_(restore)
        socket.getaddrinfo = look_up  # type: ignore[assignment]  # the many types of its arguments do not matter
        scene.url = scene.at(scene.server.origin.replace("127.0.0.1", host))

    return fault
