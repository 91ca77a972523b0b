"""Children that start afresh: what spawn and forkserver workers are given, and what they are refused."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from azstoragetorch.aio import AsyncBlobIO
from azstoragetorch.io import BlobIO
from tests.blobserver import BlobServer
from tests.processes.child import content
from tests.processes.script import Script

pytestmark = pytest.mark.timeout(40)


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_workers_get_url_and_options(method: str, scheme: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """Python 3.14 starts workers by forkserver, other systems by spawn; the parent has used the library before."""
    server = request.getfixturevalue("server" if scheme == "http" else "tls_server")
    server.put("source", content(300_000))
    with Script(
        f"""
        def work(source, target, options):
            assert options == OPTIONS and options is not OPTIONS
            with BlobIO(source, "rb", credential=False, options=options) as file:
                data = file.read()
            assert data == content(300_000)
            with BlobIO(target, "wb", credential=False, options=options) as file:
                file.write(data)

        if __name__ == "__main__":
            kept_open = file("source")
            kept_open.read(10)
            context = multiprocessing.get_context({method!r})
            workers = [context.Process(target=work, args=(url("source"), url(f"copy-{{number}}"), OPTIONS))
                       for number in range(2)]
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
                assert worker.exitcode == 0, worker.exitcode
            assert kept_open.read() == content(300_000)[10:]
            kept_open.close()
        """,
        tmp_path,
        server,
    ) as script:
        assert script.end().silently() == []
    for number in range(2):
        assert server.get(f"copy-{number}") == content(300_000)


def test_error_of_a_worker_reaches_the_parent_whole(server: BlobServer, tmp_path: Path) -> None:
    """A pool pickles the worker's exception; a file that is missing must not become an unpicklable mystery."""
    with Script(
        """
        def work(url):
            with BlobIO(url, "rb", credential=False) as file:
                return file.read()

        if __name__ == "__main__":
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                try:
                    pool.apply(work, (url("missing"),))
                except FileNotFoundError as error:
                    say(type(error).__name__, error.error_code)
                pool.close()
                pool.join()
        """,
        tmp_path,
        server,
    ) as script:
        assert script.end().silently() == ["BlobNotFoundError BlobNotFound"]


@pytest.mark.parametrize("mode", ["rb", "wb"])
@pytest.mark.parametrize("face", [BlobIO, AsyncBlobIO])
def test_open_file_is_not_pickled(face: type[BlobIO] | type[AsyncBlobIO], mode: str, server: BlobServer) -> None:
    """An argument of a spawned worker that is an open file: the error says what to pass instead."""
    file = face(server.url("some"), mode, credential=False)  # type: ignore[arg-type]
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(TypeError, match=f"cannot pickle an open {face.__name__}; pass its URL"):
            pickle.dumps(file, protocol)
    if isinstance(file, BlobIO):
        file.abort()
    else:
        file._file.closed = True
