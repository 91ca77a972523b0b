"""Ctrl-C at any moment of a synchronous call: nothing is held afterwards, and the next call is exact.

A script of its own works on while a timer interrupts it, hundreds of times, each after a random while. The seed of what
is drawn is printed with a failure, and taken from ``AZSTORAGETORCH_SEED`` if that is set; where exactly an interrupt
strikes, and which of two requests at a time meets a fault, is still up to the machine.
"""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.blobserver import BlobServer, CutBody, Status, on
from tests.processes.child import content
from tests.processes.script import Script
from tests.secrets.canaries import SIGNATURE

SOAK = bool(os.environ.get("AZSTORAGETORCH_SOAK"))
INTERRUPTS = 2000 if SOAK else 100
"""Of each work; a few ms each."""

pytestmark = pytest.mark.timeout(900 if SOAK else 60)

SIZE = 1_000_000
SAMPLES = 12
SAS = f"sp=rwdl&sig={quote(SIGNATURE, safe='')}"

COMMON = f"""
import json, random
from azstoragetorch._bridge import run
from azstoragetorch._data.access import Access
from azstoragetorch._data.blob import Blob
from azstoragetorch._data.loading import checked_loading
from azstoragetorch._transfer.memory import Memory
from azstoragetorch._values.url import BlobUrl
from azstoragetorch.aio import aclose
from azstoragetorch.exceptions import FatalBlobIOWriteError
from azstoragetorch.listing import BlobListing
from tests.secrets.canaries import found_in, texts_of

CONTAINER = os.environ["TEST_CONTAINER_URL"]
OPTIONS = TransferOptions(range_size=65536, block_size=65536, in_flight=4, readahead=4, memory_budget=1 << 20)
SIZE = {SIZE}
DATA = content(SIZE)
armed = False
draw = random.Random(SEED)


def url(name):
    return f"{{CONTAINER}}/{{name}}?{SAS}"


def ring(number, frame):
    global armed
    if armed:
        armed = False
        raise KeyboardInterrupt


def interrupted(work, longest):
    \"\"\"Do ``work`` and say whether it was interrupted, perhaps when it was done.\"\"\"
    global armed
    try:
        armed = True
        signal.setitimer(signal.ITIMER_REAL, draw.uniform(0.00001, longest))
        work()
        armed = False
    except KeyboardInterrupt as error:
        assert not found_in(texts_of(error))
        return True
    return False


def swallowed(what):
    # Python drops what is raised in a finalizer, or in a callback of a weak reference.
    assert isinstance(what.exc_value, KeyboardInterrupt), what


async def left():
    # Whoever is interrupted while he leaves an iteration does not wait for its end.
    others = asyncio.all_tasks() - {{asyncio.current_task()}} - known
    if others:
        await asyncio.wait(others, timeout=20)
    others = asyncio.all_tasks() - {{asyncio.current_task()}} - known
    memory = Memory.current()
    lease = memory.try_take(1 << 20, 1 << 20)
    if lease is not None:
        lease.free()
    return len(others), memory.used, lease is not None


async def note():
    global known
    known = asyncio.all_tasks() - {{asyncio.current_task()}}


sys.unraisablehook = swallowed
signal.signal(signal.SIGALRM, ring)
run(note)
"""

READ = """
source = open_source()
count = hits = 0
while hits < INTERRUPTS:
    if source.closed or draw.random() < 0.1:
        source.close()
        source = open_source()
    start = draw.randrange(SIZE)
    size = draw.choice([1, 10, 1000, 100_000, SIZE])
    how = draw.choice(["read", "readinto", "readline", "peek", "close"])
    target = bytearray(size)
    found = []

    def work():
        if how == "close":
            source.close()
            return
        source.seek(start)
        if how == "readinto":
            source.readinto(target)
            return
        if how == "peek":
            source.peek(size)
            return
        # Interrupts mostly meet waits; small reads of what is there give the rest of the code its share.
        for _ in range(1 if size > 1000 else 30):
            source.seek(start)
            data = getattr(source, how)(size)
        found.append(data)

    hit = interrupted(work, 0.0005 if size <= 1000 else 0.006)
    hits += hit
    end = min(start + size, SIZE)
    if not hit and how == "readinto":
        assert target[: end - start] == DATA[start:end]
    if not hit and how == "read":
        assert found == [DATA[start:end]]
    try:
        target.clear()
    except BufferError:
        gc.collect()  # the traceback of an interrupt may be in a cycle with the frames that hold the view
        target.clear()
    if source.closed:
        continue
    source.seek(start)
    assert source.tell() == start
    assert source.read(size) == DATA[start:end]
    count += 1
source.close()
"""

WRITE = """
hits = 0
while hits < INTERRUPTS:
    name = f"target-{hits}-{draw.randrange(1 << 30)}"
    size = draw.choice([100, 65_536, 200_000, 600_000])
    step = draw.choice([10_000, 65_536, 150_000])
    target = open_target(name)
    within = draw.random() < 0.5

    def write():
        while (position := target.tell()) < size:
            target.write(DATA[position : min(position + step, size)])
            if draw.random() < 0.1:
                target.flush()

    def work():
        if within:
            with target:
                write()
        else:
            write()
            target.close()

    hit = interrupted(work, 0.02 if size > 100 else 0.006)
    hits += hit
    # What the service may hold now: nothing, or all; of a file that was left open and is closed now, all that it took.
    allowed = [size] if target.committed or not hit else [0, size]
    if not target.closed:
        if within:
            target.abort()
            allowed = [0]
        else:
            taken = target.tell()
            try:
                target.close()
                allowed = [taken]
            except FatalBlobIOWriteError as error:
                assert "interrupted" in str(error), error
                assert not found_in(texts_of(error))
                target.abort()
                allowed = [0]
    say(json.dumps([name, allowed]))
"""

ITERATE = """
def blob(number, known):
    path = BlobUrl.parse(url(f"sample{number}"))
    return Blob(path, access, size=len(SAMPLES[number]), etag=ETAGS[number]) if known else Blob(path, access)


access = Access(False, OPTIONS)
SAMPLES = [content(number * 29_000 % 200_000, number) for number in range(COUNT)]
listed = url("").replace("/?", "?")
listing = BlobListing.build(listed, prefix="sample", credential=False)
ETAGS = {int(entry.name[6:]): entry.etag for entry in listing}
expected = sorted(f"sample{number}" for number in range(COUNT))
hits = 0
while hits < INTERRUPTS:
    loading = checked_loading(access, lambda blob: blob.read(), draw.choice([0, 1, 5]), "raise")
    blobs = [blob(number, draw.random() < 0.5) for number in range(COUNT)]
    how = draw.choice(["all", "left", "list"])
    found = []

    def work():
        if how == "list":
            found.append(BlobListing.build(listed, prefix="sample", credential=False))
            return
        for sample in loading.samples(blobs):
            found.append(sample)
            if how == "left" and len(found) == 3:
                break

    hits += interrupted(work, 0.02)
    if how == "list":
        assert all([entry.name for entry in listing] == expected for listing in found)
    else:
        assert found == SAMPLES[: len(found)]
        assert blobs[COUNT - 1].read() == SAMPLES[COUNT - 1]
    del found, blobs
"""

END = """
gc.collect()
tasks, used, free = run(left)
assert (tasks, used, free) == (0, 0, True), (tasks, used, free)
with open_source() as source, open_target("copy") as target:
    target.write(source.read())
assert target.committed
run(aclose)
say("done")
"""

WORKS = {"read": READ, "write": WRITE, "iterate": ITERATE}


@pytest.mark.parametrize("faults", [False, True], ids=["", "faults"])
@pytest.mark.parametrize("work", WORKS)
def test_interrupted_at_any_moment(work: str, faults: bool, server: BlobServer, tmp_path: Path) -> None:
    """Whoever interrupts a notebook cell goes on in the next one, with the same process and often the same file."""
    seed = int(os.environ.get("AZSTORAGETORCH_SEED", random.SystemRandom().randrange(1 << 32)))
    print(f"AZSTORAGETORCH_SEED={seed}")
    chance = random.Random(seed)
    server.require_sas = {"sig": SIGNATURE}
    server.put("source", content(SIZE))
    for number in range(SAMPLES):
        server.put(f"sample{number}", content(number * 29_000 % 200_000, number))
    if faults:
        server.fault(on(when=lambda request: chance.random() < 0.1), Status(503, "ServerBusy"), times=None)
        server.fault(on("GET", "", when=lambda request: chance.random() < 0.1), CutBody(100), times=None)
    source = f"""
SEED, INTERRUPTS, COUNT = {seed}, {INTERRUPTS}, {SAMPLES}
{COMMON}
open_source = lambda: BlobIO(url("source"), "rb", credential=False, options=OPTIONS)
open_target = lambda name: BlobIO(url(name), draw.choice(["wb", "xb"]), credential=False, options=OPTIONS)
{WORKS[work]}
{END}
"""
    written: dict[str, list[int]] = {}
    with Script(source, tmp_path, server) as script:
        while (line := script.line()) != "done":
            name, allowed = json.loads(line)
            written[name] = allowed
        server.wait_closed()
        assert script.end().silently() == []
    assert server.get("copy") == content(SIZE)
    assert len(written) >= (INTERRUPTS if work == "write" else 0)
    for name, allowed in written.items():
        found = size_of(server, name)
        assert found in allowed, name
        assert found == 0 or server.get(name) == content(SIZE)[:found]


def size_of(server: BlobServer, name: str) -> int:
    """Return the bytes of a blob, 0 where there is none."""
    try:
        return server.version(name).size
    except KeyError:
        return 0
