"""The end of a process with open files: soon, with our own warning at most, and without a commit."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest

from tests.blobserver import BlobServer, Hang, Rule, StallBody, on
from tests.processes.child import content
from tests.processes.script import Ended, Script

pytestmark = pytest.mark.timeout(40)

SIZE = 1_000_000
SOON = 8.0  # seconds; measured 0.1 with idle, 0.2 with hung connections; what waits for those takes 30 and more


@pytest.fixture(params=["http", "https"])
def blobs(request: pytest.FixtureRequest) -> BlobServer:
    server = request.getfixturevalue("server" if request.param == "http" else "tls_server")
    assert isinstance(server, BlobServer)
    server.put("source", content(SIZE))
    server.put("target", b"previous")
    return server


def nothing_committed(server: BlobServer) -> bool:
    return (
        server.get("target") == b"previous"
        and not server.requests("PUT", "blocklist")
        and not server.requests("PUT", "")
    )


def warned(ended: Ended, server: BlobServer, how: str, count: int = 1) -> bool:
    """Whether stderr holds, ``count`` times, the log line and the warning about the target, and nothing else.

    A warning's second line shows the source where it points to one.
    """
    text = (
        f"{server.url('target')} was {how} while open for writing: nothing was committed, the blob keeps its previous "
        f"content. Close the file, or open it in a with statement"
    )
    lines = ended.stderr.splitlines()
    logged = [line for line in lines if line == text]
    warnings = [line for line in lines if re.fullmatch(rf"\S+:\d+: UncommittedBlobWarning: {re.escape(text)}", line)]
    rest = [line for line in lines if line not in logged and line not in warnings and not line.startswith("  ")]
    return len(logged) == len(warnings) == count and not rest


HUNG = """
def read_in_background():
    with file("stalled") as stalled:
        stalled.read()


writer = file("target", "wb")
writer.write(content(200_000))
reader = file("source")
reader.read(10)
thread = threading.Thread(target=read_in_background, daemon=True)
thread.start()
say("ready")
wait()
say("leaving")
"""


def hang(server: BlobServer) -> tuple[Rule, Rule]:
    """Make reads of ``stalled`` and all uploads of blocks hang."""
    server.put("stalled", content(SIZE))
    reads = server.fault(on("GET", "", blob="stalled"), StallBody(1000), times=None)
    return reads, server.fault(on("PUT", "block"), Hang(), times=None)


def start_hung(ending: str, server: BlobServer, folder: Path) -> Script:
    """Return a script that is about to end while a read and an upload hang."""
    reads, writes = hang(server)
    script = Script(HUNG + ending, folder, server)
    assert script.line() == "ready"
    reads.wait()
    writes.wait()
    script.go()
    assert script.line() == "leaving"
    return script


@pytest.mark.parametrize("ending", ["", "sys.exit(0)"])
def test_exit_with_open_files_and_a_hung_server(ending: str, blobs: BlobServer, tmp_path: Path) -> None:
    """A job that is done ends, whatever the network does, and says which checkpoint it did not finish."""
    with start_hung(ending, blobs, tmp_path) as script:
        ended = script.end()
    assert ended.seconds < SOON
    assert ended.status == 0
    assert warned(ended, blobs, "left open at exit"), ended.stderr
    assert nothing_committed(blobs)


@pytest.mark.parametrize(
    ("ending", "status"),
    [("os._exit(7)", 7), ("raise SystemExit(7)", 7), ("os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL)],
)
def test_status_is_what_the_script_asked_for(ending: str, status: int, server: BlobServer, tmp_path: Path) -> None:
    """Schedulers restart jobs by their status."""
    server.put("source", content(SIZE))
    server.put("target", b"previous")
    with start_hung(ending, server, tmp_path) as script:
        ended = script.end()
    assert ended.status == status
    assert ended.seconds < SOON
    if ending.startswith("raise"):
        assert warned(ended, server, "left open at exit"), ended.stderr
    else:
        assert ended.stderr == ""
    assert nothing_committed(server)


def test_sigterm_kills_as_always(blobs: BlobServer, tmp_path: Path) -> None:
    """Schedulers send SIGTERM first; the library installs no handler of its own and commits nothing."""
    with start_hung("thread.join()", blobs, tmp_path) as script:
        script.signal(signal.SIGTERM)
        ended = script.end()
    assert ended.status == -signal.SIGTERM
    assert ended.seconds < SOON
    assert ended.stderr == ""
    assert nothing_committed(blobs)


def test_sigterm_turned_into_system_exit_during_a_read(server: BlobServer, tmp_path: Path) -> None:
    """The usual handler of a training job raises SystemExit in the middle of whatever the main thread waits for."""
    server.put("source", content(SIZE))
    server.put("target", b"previous")
    reads, _ = hang(server)
    with Script(
        """
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(5))
        with file("target", "wb") as writer, file("stalled") as stalled:
            writer.write(content(200_000))
            say("reading")
            stalled.read()
        """,
        tmp_path,
        server,
    ) as script:
        assert script.line() == "reading"
        reads.wait()
        script.signal(signal.SIGTERM)
        ended = script.end()
    assert ended.status == 5
    assert ended.stderr == ""
    assert ended.seconds < SOON
    assert nothing_committed(server)


@pytest.mark.parametrize("size", [0, 100, 200_000, SIZE])
def test_writer_left_open(size: int, server: BlobServer, tmp_path: Path) -> None:
    """Python's own files are flushed at exit; here that would publish what may be half of a checkpoint."""
    server.put("target", b"previous")
    with Script(f"writer = file('target', 'wb')\nwriter.write(content({size}))", tmp_path, server) as script:
        ended = script.end()
    assert ended.status == 0
    assert warned(ended, server, "left open at exit"), ended.stderr
    assert nothing_committed(server)


@pytest.mark.parametrize("where", ["sys.kept", "threading.current_thread().kept", "multiprocessing.kept"])
def test_writer_left_open_out_of_the_main_module(where: str, server: BlobServer, tmp_path: Path) -> None:
    """Objects outside ``__main__`` are torn down later, when modules are half gone."""
    server.put("target", b"previous")
    with Script(f"{where} = file('target', 'wb')\n{where}.write(content(200_000))", tmp_path, server) as script:
        ended = script.end()
    assert ended.status == 0
    assert warned(ended, server, "left open at exit"), ended.stderr
    assert nothing_committed(server)


def test_writer_collected(server: BlobServer, tmp_path: Path) -> None:
    """A forgotten ``close`` must be seen, and each of the two ways that Python collects warns once."""
    server.put("target", b"previous")
    with Script(
        """
        def forget(writer):
            writer.write(content(200_000))

        forget(file("target", "wb"))

        class Cycle:
            def __init__(self):
                self.me, self.writer = self, file("target", "wb")

        Cycle().writer.write(content(200_000))
        gc.collect()
        """,
        tmp_path,
        server,
    ) as script:
        ended = script.end()
    assert ended.status == 0
    assert warned(ended, server, "collected", 2), ended.stderr
    assert nothing_committed(server)


@pytest.mark.parametrize("flags", [["-W", "error"], ["-X", "dev"], ["-W", "error", "-X", "dev"], ["-W", "ignore"]])
@pytest.mark.parametrize("stage", ["collected", "left open at exit"])
def test_other_warning_settings_neither_hang_nor_commit(
    flags: list[str], stage: str, server: BlobServer, tmp_path: Path
) -> None:
    """A warning that is an error has no caller here: Python shows it and goes on."""
    server.put("target", b"previous")
    server.put("source", content(SIZE))
    with Script(
        f"""
        writer, reader = file("target", "wb"), file("source")
        writer.write(content(200_000))
        reader.read(10)
        if {stage!r} == "collected":
            del writer, reader
        gc.collect()
        say("leaving")
        """,
        tmp_path,
        server,
        flags=flags,
    ) as script:
        assert script.line() == "leaving"
        ended = script.end()
    assert ended.status == 0
    assert ended.seconds < SOON
    # A busy machine is slow, which asyncio's debug mode tells.
    logged, *rest = [line for line in ended.stderr.splitlines() if not line.startswith("Executing <")]
    # Also the log line, which does not depend on warnings.
    assert logged.startswith(f"{server.url('target')} was {stage} while open for writing"), ended.stderr
    assert any(stage in line for line in rest) is ("ignore" not in flags), ended.stderr
    assert "ResourceWarning" not in ended.stderr
    assert nothing_committed(server)


def test_one_warning_for_every_writer_although_warnings_are_errors(server: BlobServer, tmp_path: Path) -> None:
    """The first that raises must not hide the others."""
    server.put("target", b"previous")
    with Script(
        "writers = [file('target', 'wb') for _ in range(3)]", tmp_path, server, flags=["-W", "error"]
    ) as script:
        ended = script.end()
    assert ended.status == 0
    logged = [line for line in ended.stderr.splitlines() if line.startswith(server.url("target"))]
    assert len(logged) == 3, ended.stderr
    assert nothing_committed(server)


@pytest.mark.parametrize(
    "source",
    [
        pytest.param("reader = file('source')\nreader.read(10)", id="global"),
        pytest.param("sys.kept = file('source')\nsys.kept.read(10)", id="sys"),
        pytest.param("kept = [file('source')]\nkept[0].read(10)\nkept.append(kept)", id="cycle"),
        pytest.param("file('source').read(10)", id="collected"),
        pytest.param("reader = file('source')", id="unused"),
        pytest.param("file('source').close()", id="closed unused"),
        pytest.param("lines = iter(file('source'))\nnext(lines)", id="iterator"),
        pytest.param("import io\ntext = io.TextIOWrapper(io.BufferedReader(file('lines')))\nnext(text)", id="wrapped"),
    ],
)
def test_readers_are_let_go_without_a_word(source: str, tls_server: BlobServer, tmp_path: Path) -> None:
    """Nothing is lost with a reader, so there is nothing to say."""
    tls_server.put("source", content(SIZE))
    tls_server.put("lines", b"one\ntwo\n" * 100_000)
    with Script(source, tmp_path, tls_server) as script:
        assert script.end().silently() == []


ASYNC = {
    "reader left open": ("reader = async_file('source'); await reader.read(10); kept.append(reader)", False),
    "reader collected": ("await async_file('source').read(10)", False),
    "reader of everything": ("async with async_file('source') as reader: await reader.read()", False),
    "reading task left running": (
        "kept.append(asyncio.create_task(async_file('stalled').read()))\n    await async_file('source').read(10)",
        False,
    ),
    "writer left open": (
        "writer = async_file('target', 'wb'); await writer.write(content(200_000)); kept.append(writer)",
        True,
    ),
    "writer collected": ("await async_file('target', 'wb').write(content(200_000))", True),
    "writing task left running": (
        "writer = async_file('target', 'wb'); kept.append(asyncio.create_task(writer.write(content(1_000_000))))\n"
        "    await asyncio.sleep(0)",
        True,
    ),
}


@pytest.mark.parametrize("how", ASYNC)
def test_end_of_asyncio_run_and_of_the_process(how: str, server: BlobServer, tmp_path: Path) -> None:
    """No "Unclosed client session", no "Task was destroyed", no "Event loop is closed"."""
    server.put("source", content(SIZE))
    server.put("target", b"previous")
    hang(server)
    body, warns = ASYNC[how]
    with Script(
        f"kept = []\n\n\nasync def main():\n    {body}\n\n\nasyncio.run(main())\nsay('leaving')", tmp_path, server
    ) as script:
        assert script.line() == "leaving"
        ended = script.end()
    assert ended.status == 0
    assert ended.seconds < SOON
    if warns:
        assert warned(ended, server, "collected"), ended.stderr
    else:
        assert ended.stderr == ""
    assert nothing_committed(server)
