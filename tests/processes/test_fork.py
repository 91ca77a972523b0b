"""What a fork does to open files: the child gets none of the parent's transfers, the parent loses none."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.blobserver import BlobServer, Hold, on
from tests.processes.child import content
from tests.processes.script import Script

pytestmark = [
    pytest.mark.timeout(40),
    pytest.mark.skipif("not hasattr(__import__('os'), 'fork')", reason="there is no fork on this system"),
]

SIZE = 1_000_000
READ = 700_000  # of a blob of SIZE, so that the end of the read is no end of a range


@pytest.fixture(params=["http", "https"])
def blobs(request: pytest.FixtureRequest) -> BlobServer:
    """A server over either scheme: TLS has a state machine per connection that a fork would duplicate."""
    server = request.getfixturevalue("server" if request.param == "http" else "tls_server")
    assert isinstance(server, BlobServer)
    server.put("source", content(SIZE))
    return server


def committed(server: BlobServer, name: str) -> bool:
    return any(record.path.endswith(f"/{name}") for record in server.requests("PUT", "blocklist")) or any(
        record.path.endswith(f"/{name}") for record in server.requests("PUT", "")
    )


# The parent: one read and one upload that the server holds, files half used, files not used yet.
BUSY_PARENT = f"""
def read_in_background():
    inflight_result.append(inflight.read({READ}))


inflight_result = []
inflight = file("held")
thread = threading.Thread(target=read_in_background)
thread.start()

half_read = file("source")
assert half_read.read(300_001) == content({SIZE})[:300_001]
half_written = file("half-written", "wb")
half_written.write(content(200_000, 1))
half_written.flush()
half_written.write(content(200_000, 2))
small = file("small", "wb")
small.write(b"never more than one block")
unused_reader, unused_writer = file("source"), file("unused", "wb")
uploading = file("uploading", "wb")
uploading.write(content(150_000, 3))
say("busy")
wait()


def child():
    "Everything that a child may try; with fresh files it has the same library as anybody."
    reads_and_writes("source", {SIZE}, f"copy-{{os.getpid()}}")
    for reader in (inflight, half_read, unused_reader):
        buffer = bytearray(10)
        count = refused(
            lambda: reader.read(), lambda: reader.read(1), lambda: reader.read1(), lambda: reader.readinto(buffer),
            lambda: reader.readinto1(buffer), lambda: reader.readline(), lambda: next(reader), lambda: reader.peek(),
            lambda: reader.seek(0), lambda: reader.seek(0, 2), lambda: reader.flush(), lambda: reader.readlines(),
        )
        assert count == 12, (reader, count)
    for writer in (half_written, small, unused_writer, uploading):
        count = refused(lambda: writer.write(b"child"), writer.flush, writer.close, lambda: writer.writelines([b"c"]))
        assert count == 4, (writer, count)
        assert not writer.committed
    globals().update(inflight=None, half_read=None, unused_reader=None, half_written=None, small=None, uploading=None)
    del reader, writer
    gc.collect()
    reads_and_writes("source", {SIZE}, f"again-{{os.getpid()}}")


"""

# The parent goes on with everything it had.
UNHARMED_PARENT = f"""
say("child ended")
thread.join()
assert inflight_result == [content({SIZE})[:{READ}]]
assert inflight.read() == content({SIZE})[{READ}:]
assert half_read.read() == content({SIZE})[300_001:]
assert unused_reader.read() == content({SIZE})
half_written.write(content(200_000, 4))
for done in (inflight, half_read, unused_reader, half_written, small, unused_writer, uploading):
    done.close()
reads_and_writes("source", {SIZE}, "copy-parent")
"""

WAYS = {
    "os._exit": "pid = os.fork()\nif pid == 0:\n    child()\n    os._exit(0)\nwait_for(pid)",
    "sys.exit": "pid = os.fork()\nif pid == 0:\n    child()\n    sys.exit(0)\nwait_for(pid)",
    "multiprocessing": """
process = multiprocessing.get_context("fork").Process(target=child)
process.start()
process.join()
assert process.exitcode == 0, process.exitcode
""",
    "grandchild": """
pid = os.fork()
if pid == 0:
    reads_and_writes("source", 1_000_000, "copy-child")
    own = file("own", "wb")
    own.write(content(100_000))
    grandchild = os.fork()
    if grandchild == 0:
        assert refused(lambda: own.write(b"x"), own.close) == 2
        child()
        sys.exit(0)
    wait_for(grandchild)
    own.close()
    sys.exit(0)
wait_for(pid)
""",
    "other thread": """
def fork():
    pid = os.fork()
    if pid == 0:
        child()
        os._exit(0)
    wait_for(pid)


forking = threading.Thread(target=fork)
forking.start()
forking.join()
""",
}


@pytest.mark.parametrize("way", WAYS)
def test_busy_parent_and_its_child_do_not_touch_each_other(way: str, blobs: BlobServer, tmp_path: Path) -> None:
    """A DataLoader forks while a checkpoint is being written and a shard is being read."""
    blobs.put("held", content(SIZE))
    blobs.put("half-written", b"previous")
    hold_read, hold_upload = Hold(body_after=1000), Hold()
    reading = blobs.fault(on("GET", "", blob="held"), hold_read)
    uploading = blobs.fault(on("PUT", "block", blob="uploading"), hold_upload, times=None)
    with Script(BUSY_PARENT + WAYS[way] + UNHARMED_PARENT, tmp_path, blobs) as script:
        assert script.line() == "busy"
        reading.wait()
        uploading.wait()
        script.go()
        assert script.line() == "child ended"
        for name in ("half-written", "small", "unused", "uploading"):
            assert not committed(blobs, name), name
        assert blobs.get("half-written") == b"previous"
        hold_read.release()
        hold_upload.release()
        assert script.end().silently() == []

    assert blobs.get("half-written") == content(200_000, 1) + content(200_000, 2) + content(200_000, 4)
    assert blobs.get("small") == b"never more than one block"
    assert blobs.get("unused") == b""
    assert blobs.get("uploading") == content(150_000, 3)
    assert blobs.get("copy-parent") == content(SIZE)
    assert len(blobs.requests("PUT", "blocklist", blob="half-written")) == 1
    if way == "grandchild":
        assert blobs.get("own") == content(100_000)


def test_child_leaves_the_with_block_it_was_forked_in(server: BlobServer, tmp_path: Path) -> None:
    """``sys.exit`` in the child must neither commit nor turn into another error, nor may ``with`` seem to commit."""
    server.put("target", b"previous")
    server.put("source", content(SIZE))
    with Script(
        """
        with file("target", "wb") as writer, file("source") as reader:
            writer.write(content(200_000))
            reader.read(10)
            pid = os.fork()
            if pid == 0:
                sys.exit(0)
            wait_for(pid)
            pid = os.fork()
            if pid == 0:
                try:
                    with reader:
                        pass
                    assert reader.closed
                    with writer:
                        pass
                except BlobFileForkedError as error:
                    assert "target" in str(error)
                    writer.abort()
                    assert writer.closed and not writer.committed
                    os._exit(0)
                os._exit(1)
            wait_for(pid)
            say("children ended")
            wait()
            assert reader.read() == content(1_000_000)[10:]
        """,
        tmp_path,
        server,
    ) as script:
        assert script.line() == "children ended"
        assert server.get("target") == b"previous"
        assert not committed(server, "target")
        script.go()
        script.end().silently()
    assert server.get("target") == content(200_000)


def test_file_closed_before_the_fork_stays_closed(server: BlobServer, tmp_path: Path) -> None:
    """Closing twice does nothing, in a child as well; other use raises what closed files raise."""
    with Script(
        """
        with file("target", "wb") as writer:
            writer.write(b"parent")
        pid = os.fork()
        if pid == 0:
            writer.close()
            writer.abort()
            assert writer.committed
            try:
                writer.write(b"child")
            except ValueError:
                sys.exit(0)
            sys.exit(1)
        wait_for(pid)
        """,
        tmp_path,
        server,
    ) as script:
        script.end().silently()
    assert server.get("target") == b"parent"


def test_fork_from_a_running_loop_with_async_files(blobs: BlobServer, tmp_path: Path) -> None:
    """An async training loop starts its workers with multiprocessing while its own transfers run."""
    blobs.put("held", content(SIZE))
    blobs.put("written", b"previous")
    hold = Hold(body_after=1000)
    reading = blobs.fault(on("GET", "", blob="held"), hold)
    with Script(
        f"""
        async def read_and_write(copy):
            async with async_file("source") as source, async_file(copy, "wb") as target:
                data = await source.read()
                assert data == content({SIZE})
                await target.write(data)

        async def all_refused(reader, writers):
            attempts = [reader.read(1), reader.readinto(bytearray(1)), reader.readline(), reader.seek(0, 2),
                        anext(aiter(reader))]
            for writer in writers:
                attempts += [writer.write(b"child"), writer.flush(), writer.aclose()]
            for attempt in attempts:
                try:
                    await attempt
                except BlobFileForkedError:
                    pass
                else:
                    raise AssertionError(attempt)
            for writer in writers:
                await writer.abort()

        def child():
            reads_and_writes("source", {SIZE}, "copy-sync")
            asyncio.run(read_and_write("copy-async"))
            asyncio.run(all_refused(files["inflight"], [files["written"], files["small"]]))
            files.clear()
            gc.collect()
            asyncio.run(read_and_write("copy-again"))

        files = {{}}

        async def main():
            inflight = files["inflight"] = async_file("held")
            reading = asyncio.create_task(inflight.read({READ}))
            half_read = async_file("source")
            assert await half_read.read(300_001) == content({SIZE})[:300_001]
            written = files["written"] = async_file("written", "wb")
            await written.write(content(200_000, 1))
            small = files["small"] = async_file("small", "wb")
            await small.write(b"small")
            files["left open"] = async_file("left", "wb")
            say("busy")
            await asyncio.to_thread(wait)
            process = multiprocessing.get_context("fork").Process(target=child)
            process.start()
            await asyncio.to_thread(process.join)
            assert process.exitcode == 0, process.exitcode
            say("child ended")
            assert await reading == content({SIZE})[:{READ}]
            assert await inflight.read() == content({SIZE})[{READ}:]
            assert await half_read.read() == content({SIZE})[300_001:]
            await written.write(content(200_000, 2))
            for done in (inflight, half_read, written, small):
                await done.aclose()
            await files["left open"].abort()
            await read_and_write("copy-parent")

        asyncio.run(main())
        """,
        tmp_path,
        blobs,
    ) as script:
        assert script.line() == "busy"
        reading.wait()
        script.go()
        assert script.line() == "child ended"
        assert not committed(blobs, "written")
        assert not committed(blobs, "small")
        assert not committed(blobs, "left")
        hold.release()
        assert script.end().silently() == []
    assert blobs.get("written") == content(200_000, 1) + content(200_000, 2)
    assert blobs.get("small") == b"small"
    for copy in ("copy-sync", "copy-async", "copy-again", "copy-parent"):
        assert blobs.get(copy) == content(SIZE), copy


def test_many_forks_beside_a_busy_reader(blobs: BlobServer, tmp_path: Path) -> None:
    """Workers are started while training reads; whatever moment the fork hits, both sides read exactly."""
    with Script(
        f"""
        def read_all_the_time():
            while not enough.is_set():
                with file("source") as source:
                    rounds.append(source.read() == content({SIZE}))

        rounds, enough = [], threading.Event()
        thread = threading.Thread(target=read_all_the_time, daemon=True)
        thread.start()
        children = []
        for number in range(12):
            pid = os.fork()
            if pid == 0:
                with file("source") as source:
                    assert source.read(100_000) == content({SIZE})[:100_000]
                os._exit(0)
            children.append(pid)
        for pid in children:
            wait_for(pid)
        enough.set()
        thread.join()
        assert all(rounds) and rounds
        """,
        tmp_path,
        blobs,
    ) as script:
        script.end().silently()


def test_writer_of_a_child_that_leaves_it_open_warns_there_and_nowhere_else(server: BlobServer, tmp_path: Path) -> None:
    """The warning belongs to the process that opened the file; the parent's open writer is not the child's."""
    with Script(
        """
        parents = file("parents", "wb")
        parents.write(content(100_000))
        pid = os.fork()
        if pid == 0:
            childs = file("childs", "wb")
            childs.write(content(100_000))
            sys.exit(0)
        wait_for(pid)
        parents.close()
        """,
        tmp_path,
        server,
    ) as script:
        ended = script.end()
    assert ended.status == 0
    assert "/parents" not in ended.stderr
    assert ended.stderr.count("UncommittedBlobWarning") == 1
    assert ended.stderr.count("/childs was left open at exit") == 2  # log line and warning
    assert server.get("parents") == content(100_000)
    with pytest.raises(KeyError):
        server.get("childs")
