"""Ctrl-C while a file waits for the service: soon, whole, and with a library that still works after it."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.blobserver import BlobServer, Hang, Hold, StallBody, on
from tests.processes.child import content
from tests.processes.script import Script

pytestmark = pytest.mark.timeout(40)

SIZE = 1_000_000
SOON = 8.0  # seconds; measured 0.05 to 0.2, but a hang ends only with the test


@pytest.fixture(params=["http", "https"])
def blobs(request: pytest.FixtureRequest) -> BlobServer:
    server = request.getfixturevalue("server" if request.param == "http" else "tls_server")
    assert isinstance(server, BlobServer)
    server.put("source", content(SIZE))
    server.put("target", b"previous")
    return server


READS = {
    "all": "stalled.read()",
    "small": "stalled.read(10)",
    "line": "stalled.readline()",
    "size": "stalled.seek(0, 2)",
    "iteration": "list(stalled)",
}


@pytest.mark.parametrize("how", READS)
def test_during_a_read(how: str, server: BlobServer, tmp_path: Path) -> None:
    """A hung service must not take the terminal hostage; the file can even be read again."""
    server.put("source", content(SIZE))
    server.put("stalled", content(SIZE))
    # A size is known as soon as the headers are there, so that one waits for them.
    hold = Hold() if how == "size" else Hold(body_after=1000)
    rule = server.fault(on("GET", "", blob="stalled"), hold, times=None)
    with Script(
        f"""
        stalled = file("stalled")
        say("reading")
        try:
            {READS[how]}
        except KeyboardInterrupt:
            say("interrupted")
        wait()
        reads_and_writes("source", {SIZE}, "copy")
        stalled.seek(0)
        assert stalled.read() == content({SIZE})
        stalled.close()
        """,
        tmp_path,
        server,
    ) as script:
        assert script.line() == "reading"
        rule.wait()
        script.signal(signal.SIGINT)
        assert script.line() == "interrupted"
        assert script.took < SOON
        hold.release()
        script.go()
        assert script.end().silently() == []
    assert server.get("copy") == content(SIZE)


@pytest.mark.parametrize("size", [SIZE, 100])
def test_buffer_of_an_interrupted_readinto_is_left_alone(size: int, blobs: BlobServer, tmp_path: Path) -> None:
    """The caller may free or reuse its memory: bytes that arrive later belong nowhere."""
    blobs.put("held", content(SIZE))
    hold = Hold(body_after=1000)
    rule = blobs.fault(on("GET", "", blob="held"), hold, times=None)
    with Script(
        f"""
        held = file("held")
        buffer = bytearray({size})
        say("reading")
        try:
            held.readinto(buffer)
        except KeyboardInterrupt:
            buffer[:] = bytes(b"\\xaa" * {size})
            say("interrupted")
        wait()
        reads_and_writes("source", {SIZE}, "copy")
        assert buffer == b"\\xaa" * {size}
        buffer.extend(b"resizable: nobody holds a view")
        held.close()
        """,
        tmp_path,
        blobs,
    ) as script:
        assert script.line() == "reading"
        rule.wait()
        script.signal(signal.SIGINT)
        assert script.line() == "interrupted"
        assert script.took < SOON
        hold.release()
        blobs.wait_idle()
        script.go()
        assert script.end().silently() == []


WRITES = {
    "waiting for a slot": "writer.write(content(1_000_000))",
    "flush": "writer.write(content(150_000))\n        writer.flush()",
    "close before the last block": "writer.write(content(150_000))\n        writer.close()",
}


@pytest.mark.parametrize("how", WRITES)
def test_during_a_write(how: str, blobs: BlobServer, tmp_path: Path) -> None:
    """Ctrl-C inside ``with`` is an exception like any other: the previous content stands."""
    hold = Hold()
    rule = blobs.fault(on("PUT", "block"), hold, times=None)
    with Script(
        f"""
try:
    with file("target", "wb") as writer:
        say("writing")
        {WRITES[how]}
except KeyboardInterrupt:
    say("interrupted")
assert writer.closed and not writer.committed
wait()
reads_and_writes("source", {SIZE}, "copy")
""",
        tmp_path,
        blobs,
    ) as script:
        assert script.line() == "writing"
        rule.wait(4 if how == "waiting for a slot" else 2)
        script.signal(signal.SIGINT)
        assert script.line() == "interrupted"
        assert script.took < SOON
        hold.release()
        blobs.wait_idle()
        assert not blobs.requests("PUT", "blocklist")
        script.go()
        assert script.end().silently() == []
    assert blobs.get("target") == b"previous"
    assert not blobs.requests("PUT", "blocklist", blob="target")
    assert not blobs.requests("PUT", "", blob="target")


def test_writer_that_goes_on_after_an_interrupt_cannot_commit(server: BlobServer, tmp_path: Path) -> None:
    """Ctrl-C caught around one ``write``: nobody knows what of it was taken, so the blob would have a gap."""
    server.put("target", b"previous")
    hold = Hold()
    rule = server.fault(on("PUT", "block"), hold, times=None)
    with Script(
        """
        from azstoragetorch.exceptions import FatalBlobIOWriteError

        writer = file("target", "wb")
        say("writing")
        try:
            writer.write(content(1_000_000))
        except KeyboardInterrupt:
            say("interrupted")
        wait()
        for attempt in (lambda: writer.write(b"more"), writer.flush, writer.close):
            try:
                attempt()
            except FatalBlobIOWriteError as error:
                say("refused", "KeyboardInterrupt" in str(error))
        """,
        tmp_path,
        server,
    ) as script:
        assert script.line() == "writing"
        rule.wait(4)
        script.signal(signal.SIGINT)
        assert script.line() == "interrupted"
        hold.release()
        script.go()
        assert script.end().silently() == ["refused True"] * 3
    assert server.get("target") == b"previous"
    assert not server.requests("PUT", "blocklist")


@pytest.mark.parametrize("size", [SIZE, 100])
@pytest.mark.parametrize("fate", ["not performed", "performed"])
def test_during_the_commit(size: int, fate: str, server: BlobServer, tmp_path: Path) -> None:
    """Whether the service had it already is luck, but the blob is whole either way and nothing is sent later."""
    server.put("source", content(SIZE))
    server.put("target", b"previous")
    comp = "blocklist" if size == SIZE else ""
    rule = server.fault(on("PUT", comp, blob="target"), Hang(perform=fate == "performed"), times=None)
    with Script(
        f"""
        writer = file("target", "wb")
        writer.write(content({size}))
        say("closing")
        try:
            writer.close()
        except KeyboardInterrupt:
            say("interrupted")
        assert writer.closed and not writer.committed
        writer.close()
        with file("target") as now:
            say(len(now.read()))
        reads_and_writes("source", {SIZE}, "copy")
        """,
        tmp_path,
        server,
    ) as script:
        assert script.line() == "closing"
        rule.wait()
        script.signal(signal.SIGINT)
        assert script.line() == "interrupted"
        assert script.took < SOON
        assert script.line() == str(size if fate == "performed" else len(b"previous"))
        assert script.end().silently() == []
    assert server.get("target") == (content(size) if fate == "performed" else b"previous")
    assert rule.hits == 1


def test_twice_during_a_read(server: BlobServer, tmp_path: Path) -> None:
    """People press Ctrl-C again and again; one KeyboardInterrupt for each is right, a hang is not."""
    server.put("stalled", content(SIZE))
    # Far apart, so that each read has a request of its own, which tells that it has begun.
    places = (0, SIZE // 2)
    rules = [server.fault(on("GET", "", blob="stalled", covers=at), StallBody(1000), times=None) for at in places]
    with Script(
        f"""
        stalled = file("stalled")
        for at in {places}:
            try:
                stalled.seek(at)
                stalled.read(2000)
            except KeyboardInterrupt:
                say("interrupted")
        stalled.close()
        """,
        tmp_path,
        server,
    ) as script:
        for rule in rules:
            rule.wait()
            script.signal(signal.SIGINT)
            assert script.line() == "interrupted"
        assert script.end().silently() == []


def test_uncaught_it_ends_the_process(blobs: BlobServer, tmp_path: Path) -> None:
    """With a reader and a writer in flight the shell gets its prompt back, and the usual traceback only."""
    blobs.put("stalled", content(SIZE))
    reading = blobs.fault(on("GET", "", blob="stalled"), StallBody(1000), times=None)
    writing = blobs.fault(on("PUT", "block"), Hang(), times=None)
    with Script(
        """
        with file("target", "wb") as writer, file("stalled") as stalled:
            writer.write(content(200_000))
            say("reading")
            stalled.read()
        """,
        tmp_path,
        blobs,
    ) as script:
        assert script.line() == "reading"
        reading.wait()
        writing.wait()
        script.signal(signal.SIGINT)
        ended = script.end()
    assert ended.status == -signal.SIGINT
    assert ended.seconds < SOON
    assert ended.stderr.startswith("Traceback (most recent call last):")
    assert ended.stderr.splitlines()[-1] == "KeyboardInterrupt"
    assert ended.stderr.count("Traceback") == 1
    assert blobs.get("target") == b"previous"
    assert not blobs.requests("PUT", "blocklist")


@pytest.mark.parametrize("stage", ["read", "write", "commit"])
def test_under_asyncio_run(stage: str, server: BlobServer, tmp_path: Path) -> None:
    """asyncio turns Ctrl-C into a cancellation of the main task, which aborts like any exception."""
    server.put("source", content(SIZE))
    server.put("target", b"previous")
    match = {"read": on("GET", "", blob="source"), "write": on("PUT", "block"), "commit": on("PUT", "blocklist")}
    rule = server.fault(match[stage], StallBody(1000) if stage == "read" else Hang(), times=4)
    with Script(
        f"""
        async def main():
            async with async_file("target", "wb") as writer:
                say("started")
                await writer.write(content({SIZE}))
                if {stage!r} == "read":
                    async with async_file("source") as reader:
                        await reader.read()

        try:
            asyncio.run(main())
        except KeyboardInterrupt:
            say("interrupted")
        wait()

        async def again():
            async with async_file("source") as reader:
                assert await reader.read() == content({SIZE})

        asyncio.run(again())
        """,
        tmp_path,
        server,
    ) as script:
        assert script.line() == "started"
        rule.wait()
        script.signal(signal.SIGINT)
        assert script.line() == "interrupted"
        assert script.took < SOON
        rule.remove()
        script.go()
        assert script.end().silently() == []
    assert server.get("target") == b"previous"
