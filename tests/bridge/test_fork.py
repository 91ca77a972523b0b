"""What forked, spawned and fork-server children find."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bridge.script import output_of

pytestmark = [
    pytest.mark.timeout(60),
    pytest.mark.skipif("not hasattr(__import__('os'), 'fork')", reason="there is no fork on this system"),
]

COMMON = """
import asyncio, gc, multiprocessing, os, socket, sys, threading, warnings
from azstoragetorch._bridge import call, generation, run
from azstoragetorch._values.graveyard import bury


async def answer():
    await asyncio.sleep(0.001)
    return os.getpid(), threading.current_thread().name, threading.active_count()


def check_loop():
    "Prove that this process has a working loop of its own."
    pid, name, threads = run(answer)
    assert (pid, name) == (os.getpid(), "azstoragetorch"), (pid, name)
    return threads


def wait_for(child):
    _, status = os.waitpid(child, 0)
    assert status == 0, status


"""

# A peer that answers every byte, and one connection of the loop to it, held by asyncio's transport.
ECHO = """
def echo(listener):
    while True:
        peer, _ = listener.accept()
        threading.Thread(target=pump, args=(peer,), daemon=True).start()


def pump(peer):
    while data := peer.recv(65536):
        peer.sendall(data)


listener = socket.create_server(("127.0.0.1", 0))
threading.Thread(target=echo, args=(listener,), daemon=True).start()


async def connect():
    return await asyncio.open_connection(*listener.getsockname())


async def exchange(connection, count):
    reader, writer = connection
    for number in range(count):
        writer.write(b"%08d" % number)
        assert await asyncio.wait_for(reader.readexactly(8), 10) == b"%08d" % number


async def close(connection):
    connection[1].close()
    await connection[1].wait_closed()


"""


# Work in a thread of the loop that no fork may be in the middle of.
WORK = """
import signal, time
from azstoragetorch._values.unforked import unforked

inside, begun = set(), threading.Semaphore(0)


def work(where):
    with unforked():
        inside.add(where)
        begun.release()
        time.sleep(1)
        inside.discard(where)


async def begin():
    asyncio.get_running_loop().run_in_executor(None, work, "a thread")

"""


def test_child_of_an_idle_parent_gets_a_loop_of_its_own(tmp_path: Path) -> None:
    """DataLoader forks its workers after the parent has read."""
    printed = output_of(
        COMMON
        + """
before = check_loop(), generation()
child = os.fork()
if child == 0:
    print("child", check_loop(), generation() != before[1], flush=True)
    os._exit(0)
wait_for(child)
print("parent", check_loop(), generation() == before[1])
""",
        tmp_path,
    )
    assert printed == ["child 2 True", "parent 2 True"]


def test_generation_differs_in_a_grandchild(tmp_path: Path) -> None:
    """A file of the parent is as foreign two forks away."""
    printed = output_of(
        COMMON
        + """
first = generation()
child = os.fork()
if child == 0:
    second = generation()
    grandchild = os.fork()
    if grandchild == 0:
        print(len({first, second, generation()}), flush=True)
        os._exit(0)
    wait_for(grandchild)
    os._exit(0)
wait_for(child)
""",
        tmp_path,
    )
    assert printed == ["3"]


@pytest.mark.parametrize("way", ["os._exit(0)", "sys.exit(0)", "multiprocessing"])
def test_connections_of_the_parent_survive_a_child_that_collects_garbage(way: str, tmp_path: Path) -> None:
    """A child that finalizes inherited sockets takes them out of the epoll set it shares with the parent."""
    printed = output_of(
        COMMON
        + ECHO
        + f"""
def work():
    gc.collect()
    check_loop()
    gc.collect()


connections = [run(connect)]
run(exchange, connections[0], 10)
held = connections.copy()
if {way!r} == "multiprocessing":
    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    child.join()
    assert child.exitcode == 0
else:
    child = os.fork()
    if child == 0:
        # Streams close their transport when they are collected, and warn of it as well.
        warnings.simplefilter("ignore", ResourceWarning)
        connections.clear(), held.clear()
        work()
        {way if "exit" in way else "pass"}
    wait_for(child)
run(exchange, connections[0], 10)
run(close, connections[0])
print("parent goes on")
""",
        tmp_path,
    )
    assert printed == ["parent goes on"]


def test_fork_in_the_middle_of_reads(tmp_path: Path) -> None:
    """Workers are forked while another thread reads: both sides go on, neither prints a word."""
    printed = output_of(
        COMMON
        + ECHO
        + """
stop = threading.Event()
rounds = 0


def read():
    global rounds
    connection = run(connect)
    while not stop.is_set():
        run(exchange, connection, 20)
        rounds += 1
    run(close, connection)


reader = threading.Thread(target=read)
reader.start()
for number in range(12):
    child = os.fork()
    if child == 0:
        gc.collect()
        check_loop()
        os._exit(0) if number % 2 else sys.exit(0)
    wait_for(child)
    before = rounds
    while rounds < before + 2:
        check_loop()
stop.set()
reader.join()
print("parent goes on")
""",
        tmp_path,
    )
    assert printed == ["parent goes on"]


def test_fork_does_not_wait_for_a_loop_that_is_stuck(tmp_path: Path) -> None:
    """A callback that never ends must not block the fork, and the late parking callback must not stop the loop."""
    printed = output_of(
        COMMON
        + """
from azstoragetorch._bridge import loop_thread
loop_thread.PARK_SECONDS = 0.1
check_loop()
stuck, release = threading.Event(), threading.Event()
call(lambda: (stuck.set(), release.wait()))
stuck.wait()
child = os.fork()
if child == 0:
    check_loop()
    sys.exit(0)
wait_for(child)
release.set()
check_loop()
print("parent goes on")
""",
        tmp_path,
    )
    assert printed == ["parent goes on"]


def test_fork_waits_for_what_the_loop_and_its_threads_are_doing(tmp_path: Path) -> None:
    """A child forked in the middle of a TLS handshake inherits a lock of OpenSSL and hangs in its own first one."""
    printed = output_of(
        COMMON
        + WORK
        + """
run(begin)
call(work, "the loop")
for _ in range(2):
    begun.acquire()
child = os.fork()
if child == 0:
    print("forked inside", inside or "nothing", flush=True)
    os._exit(0)
wait_for(child)
check_loop()
""",
        tmp_path,
    )
    assert printed == ["forked inside nothing"]


def test_fork_waits_for_a_token(tmp_path: Path) -> None:
    """Credentials that are no coroutines speak TLS in a thread, at the first request and whenever a token runs out."""
    printed = output_of(
        COMMON
        + """
import time
from azure.core.credentials import AccessToken
from azstoragetorch import TransferOptions
from azstoragetorch.exceptions import BlobRequestError
from azstoragetorch.io import BlobIO

inside, begun = set(), threading.Event()


class Credential:
    def get_token(self, *scopes, **options):
        inside.add("get_token")
        begun.set()
        time.sleep(0.5)
        inside.clear()
        return AccessToken("token", int(time.time()) + 3600)


def read():
    url, options = "http://127.0.0.1:1/devstoreaccount1/data/blob", TransferOptions(deadline=1)
    try:
        with BlobIO(url, "rb", credential=Credential(), options=options) as file:
            file.read()
    except BlobRequestError:
        pass  # nobody answers there


reader = threading.Thread(target=read)
reader.start()
begun.wait()
child = os.fork()
if child == 0:
    print("forked inside", inside or "nothing", flush=True)
    os._exit(0)
wait_for(child)
reader.join()
""",
        tmp_path,
    )
    assert printed == ["forked inside nothing"]


# What forks must not wait for: each would otherwise take the 10 s that are the most, and all transfers with it.
AT_ONCE = {
    "a thread that itself waits for the loop": """
async def later():
    await asyncio.sleep(0.2)


async def wait_for_the_loop():
    asyncio.get_running_loop().run_in_executor(None, run, later)


run(wait_for_the_loop)
fork()
""",
    "a thread that looks a name up": """
async def look_up():
    asyncio.get_running_loop().run_in_executor(None, begun.acquire)


run(look_up)
fork()
begun.release()
""",
    "the fork of a signal handler within a fork": """
signal.signal(signal.SIGALRM, lambda *_: fork())
run(begin)
begun.acquire()
signal.setitimer(signal.ITIMER_REAL, 0.3)
fork()
""",
    "a fork on the loop and one beside it": """
call(lambda: (begun.release(), time.sleep(0.1), fork()))
begun.acquire()
fork()
""",
}


@pytest.mark.parametrize("what", AT_ONCE)
def test_fork_does_not_wait_for(what: str, tmp_path: Path) -> None:
    """It would be for nothing."""
    printed = output_of(
        COMMON
        + WORK
        + """
def fork():
    started = time.monotonic()
    child = os.fork()
    if child == 0:
        os._exit(0)
    wait_for(child)
    assert time.monotonic() - started < 5


check_loop()
"""
        + AT_ONCE[what]
        + """
check_loop()
print("done")
""",
        tmp_path,
    )
    assert printed == ["done"]


def test_signal_handler_within_a_fork_may_wait_for_the_loop(tmp_path: Path) -> None:
    """A preemption handler saves a checkpoint at whatever moment it is called; the fork holds the loop then."""
    printed = output_of(
        COMMON
        + WORK
        + """
signal.signal(signal.SIGALRM, lambda *_: print("handled", check_loop() > 0, flush=True))
run(begin)
begun.acquire()
signal.setitimer(signal.ITIMER_REAL, 0.3)
child = os.fork()
if child == 0:
    check_loop()
    os._exit(0)
wait_for(child)
check_loop()
print("done")
""",
        tmp_path,
    )
    assert printed == ["handled True", "done"]


def test_loop_stands_still_while_the_process_forks(tmp_path: Path) -> None:
    """The child copies memory: a loop in the middle of a callback would be copied half done."""
    printed = output_of(
        """
        import os, time

        seen = []

        def look():
            seen.append(ticks)
            time.sleep(0.002)  # an invitation to a loop that is not parked

        # Hooks run in reverse order before a fork and in order after it: these run inside the bridge's.
        os.register_at_fork(before=look, after_in_parent=look)
        from azstoragetorch._bridge import call, run

        ticks = 0

        def tick():
            global ticks
            ticks += 1
            call(tick)

        async def begin():
            tick()

        async def ticked():
            return ticks

        run(begin)
        for _ in range(20):
            child = os.fork()
            if child == 0:
                os._exit(0)
            os.waitpid(child, 0)
            assert run(ticked) > seen[-1]
        print(seen[::2] == seen[1::2], len(set(seen)))
        """,
        tmp_path,
    )
    assert printed == ["True 20"]


def test_threads_may_fork_at_once(tmp_path: Path) -> None:
    """Two DataLoaders may start their workers from two threads, during reads of a third."""
    printed = output_of(
        COMMON
        + """
def fork_often():
    together.wait()
    for _ in range(8):
        child = os.fork()
        if child == 0:
            check_loop()
            os._exit(0)
        wait_for(child)
        check_loop()
    passed.append(True)


check_loop()
passed = []
together = threading.Barrier(6)
threads = [threading.Thread(target=fork_often) for _ in range(6)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(len(passed), check_loop())
""",
        tmp_path,
    )
    assert printed == ["6 2"]


def test_fork_on_the_loop_thread_itself(tmp_path: Path) -> None:
    """Nothing can be parked then; the child may still start over."""
    printed = output_of(
        COMMON
        + """
async def fork():
    child = os.fork()
    if child == 0:
        check_loop()
        os._exit(0)
    return child


wait_for(run(fork))
check_loop()
print("parent goes on")
""",
        tmp_path,
    )
    assert printed == ["parent goes on"]


def test_fork_in_a_signal_handler_during_a_wait(tmp_path: Path) -> None:
    """The child inherits a wait whose task stays with the parent: it has to end, not to hang."""
    printed = output_of(
        COMMON
        + """
import signal

children = []


async def wait_for_child():
    os.kill(os.getpid(), signal.SIGUSR1)
    while not children:
        await asyncio.sleep(0.001)
    return "parent's answer"


signal.signal(signal.SIGUSR1, lambda number, frame: children.append(os.fork()))
try:
    print(run(wait_for_child), flush=True)
except RuntimeError as error:
    assert children == [0]
    assert "forked" in str(error)
    check_loop()
    sys.exit(0)
wait_for(children[0])
""",
        tmp_path,
    )
    assert printed == ["parent's answer"]


def test_fork_under_a_running_loop(tmp_path: Path) -> None:
    """Jupyter again: DataLoader workers are forked from a thread whose own loop is running."""
    printed = output_of(
        COMMON
        + """
async def cell():
    check_loop()
    child = os.fork()
    if child == 0:
        check_loop()
        asyncio.new_event_loop().close()
        os._exit(0)
    wait_for(child)
    check_loop()


asyncio.run(cell())
print("parent goes on")
""",
        tmp_path,
    )
    assert printed == ["parent goes on"]


def test_buried_object_is_never_finalized(tmp_path: Path) -> None:
    """Not at interpreter exit either, where the globals of all modules are cleared."""
    printed = output_of(
        """
        from azstoragetorch._values.graveyard import bury

        class Session:
            def __init__(self, name):
                self.name = name

            def __del__(self):
                print("finalized", self.name, flush=True)

        bury(Session("buried"))
        dropped = Session("dropped")
        del dropped
        """,
        tmp_path,
    )
    assert printed == ["finalized dropped"]


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_process_pools_of_every_start_method(method: str, tmp_path: Path) -> None:
    """Whatever a DataLoader is told to use, the worker finds a loop and ends in silence."""
    printed = output_of(
        COMMON
        + f"""
def work(number):
    pid, _, _ = run(answer)
    return pid == os.getpid()


if __name__ == "__main__":
    check_loop()
    with multiprocessing.get_context({method!r}).Pool(2) as pool:
        print(pool.map(work, range(6)))
        pool.close()
        pool.join()
    check_loop()
""",
        tmp_path,
    )
    assert printed == [str([True] * 6)]
