"""Memory that is there once for a process and its children, and the lock that goes with it."""

from __future__ import annotations

import errno
import gc
import os
import pickle
import threading
from pathlib import Path

import pytest

from azstoragetorch._values.shared import SharedMemory
from tests.bridge.script import output_of

METHODS = pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 1_000_001])
def test_memory_is_writable_and_full_of_zeros(size: int) -> None:
    """Whoever reads before anybody wrote must find something defined; a container may be empty."""
    memory = SharedMemory(size)

    assert memory.view.format == "B"
    assert memory.view == bytes(size)
    memory.view[:] = b"\xff" * size
    assert memory.view == b"\xff" * size


def test_negative_size_is_refused() -> None:
    """An error of arithmetic must not become an error of the system."""
    with pytest.raises(ValueError, match="-1"):
        SharedMemory(-1)


@METHODS
def test_child_sees_what_is_written_later_and_is_seen(method: str, tmp_path: Path) -> None:
    """The epoch that a parent sets must reach the workers that it started before; a copy would keep the old one."""
    lines = output_of(
        f"""
        import multiprocessing
        from azstoragetorch._values.shared import SharedMemory

        def work(memory, here, go):
            here.set()
            assert go.wait(30)
            assert memory.view[:5] == b"later", bytes(memory.view[:5])
            memory.view[5:10] = b"child"

        if __name__ == "__main__":
            context = multiprocessing.get_context({method!r})
            memory = SharedMemory(1 << 20)
            here, go = context.Event(), context.Event()
            worker = context.Process(target=work, args=(memory, here, go))
            worker.start()
            assert here.wait(30)
            memory.view[:5] = b"later"
            go.set()
            worker.join()
            print(worker.exitcode, bytes(memory.view[:10]))
        """,
        tmp_path,
    )

    assert lines == ["0 b'laterchild'"]


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_child_that_starts_gets_a_descriptor_and_no_content(method: str, tmp_path: Path) -> None:
    """80 MB through a pipe to each of eight workers are seconds and 640 MB; so is a grandchild's share."""
    lines = output_of(
        f"""
        import multiprocessing, os
        from multiprocessing import reduction
        from azstoragetorch._values.shared import SharedMemory

        class Measured(SharedMemory):
            __slots__ = ()
            def __reduce__(self):
                made = super().__reduce__()
                print(len(reduction.ForkingPickler.dumps(made)) < 1000, flush=True)
                return made

        def inner(memory):
            memory.view[1] += 1

        def work(memory, method):
            assert not os.get_inheritable(memory._descriptor)
            memory.view[0] += 1
            worker = multiprocessing.get_context(method).Process(target=inner, args=(memory,))
            worker.start()
            worker.join()
            assert worker.exitcode == 0

        if __name__ == "__main__":
            memory = Measured(50_000_000)
            worker = multiprocessing.get_context({method!r}).Process(target=work, args=(memory, {method!r}))
            worker.start()
            worker.join()
            print(worker.exitcode, *memory.view[:2])
        """,
        tmp_path,
    )

    assert lines == ["True", "0 1 1"]


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_memory_pickled_twice_for_one_child_is_mapped_twice(method: str, tmp_path: Path) -> None:
    """Wrappers that pickle what they hold (cloudpickle's do) come beside the plain object; both have one descriptor."""
    lines = output_of(
        f"""
        import gc, multiprocessing, pickle
        from azstoragetorch._values.shared import SharedMemory

        class Wrapper:
            def __init__(self, held):
                self.held = held
            def __reduce__(self):
                return pickle.loads, (pickle.dumps(self.held),)

        def work(held):
            assert held[0] is not held[1]
            held[0].view[0] = 5
            assert held[1].view[0] == 5
            del held[0]
            gc.collect()
            with held[0].lock():
                held[0].view[1] = 6

        if __name__ == "__main__":
            memory = SharedMemory(10)
            worker = multiprocessing.get_context({method!r}).Process(target=work, args=([memory, Wrapper(memory)],))
            worker.start()
            worker.join()
            print(worker.exitcode, *memory.view[:2])
        """,
        tmp_path,
    )

    assert lines == ["0 5 6"]


def test_plain_pickle_is_a_copy() -> None:
    """A file or a queue outlives the memory, and a copy of a dataset must not write into the first."""
    memory = SharedMemory(3)
    memory.view[:] = b"abc"

    copied = pickle.loads(pickle.dumps(memory))
    copied.view[0] = 0

    assert bytes(copied.view) == b"\0bc"
    assert bytes(memory.view) == b"abc"


def test_lock_excludes_threads() -> None:
    """Locks of files do not: two loaders in two threads would claim one epoch."""
    memory = SharedMemory(8)
    number = memory.view.cast("Q")

    def count() -> None:
        for _ in range(500):
            with memory.lock():
                seen = number[0]
                os.sched_yield()
                number[0] = seen + 1

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert number[0] == 2000


@METHODS
def test_lock_excludes_processes(method: str, tmp_path: Path) -> None:
    """The workers of one iteration ask at the same moment."""
    lines = output_of(
        f"""
        import multiprocessing, os
        from azstoragetorch._values.shared import SharedMemory

        def work(memory):
            number = memory.view.cast("Q")
            for _ in range(500):
                with memory.lock():
                    seen = number[0]
                    os.sched_yield()
                    number[0] = seen + 1

        if __name__ == "__main__":
            context = multiprocessing.get_context({method!r})
            memory = SharedMemory(8)
            workers = [context.Process(target=work, args=(memory,)) for _ in range(3)]
            for worker in workers:
                worker.start()
            work(memory)
            for worker in workers:
                worker.join()
                assert worker.exitcode == 0
            print(memory.view.cast("Q")[0])
        """,
        tmp_path,
    )

    assert lines == ["2000"]


def test_fork_while_another_thread_holds_the_lock_leaves_the_child_free(tmp_path: Path) -> None:
    """The child has no such thread: it would wait for ever."""
    lines = output_of(
        """
        import os, threading
        from azstoragetorch._values.shared import SharedMemory

        memory, held, done = SharedMemory(1), threading.Event(), threading.Event()

        def hold():
            with memory.lock():
                held.set()
                done.wait()

        thread = threading.Thread(target=hold)
        thread.start()
        held.wait()
        own = SharedMemory(1)
        child = os.fork()
        if not child:
            with own.lock():
                os._exit(7)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        done.set()
        thread.join()
        """,
        tmp_path,
    )

    assert lines == ["7"]


def test_nothing_is_left_when_it_is_collected() -> None:
    """A dataset built a hundred times in a notebook must not use up the descriptors."""
    gc.collect()  # what earlier tests left
    before = len(os.listdir("/proc/self/fd"))
    parts = []
    for i in range(50):
        memory: SharedMemory | None = SharedMemory(1000)
        assert memory is not None
        parts.append(memory.view[10:20])
        parts[i][0] = i
    memory = None
    gc.collect()

    assert [part[0] for part in parts] == list(range(50)), "a view keeps the memory"
    parts.clear()
    assert len(os.listdir("/proc/self/fd")) <= before  # what earlier tests left may be closed meanwhile


def test_descriptor_is_not_inherited_by_programs() -> None:
    """A program that the script starts would hold the memory for as long as it runs."""
    memory = SharedMemory(10)

    assert not os.get_inheritable(memory._descriptor)


def test_memory_does_not_count_against_dev_shm() -> None:
    """Containers have 64 MB there, and a full one kills with SIGBUS; anonymous memory has no such bound."""
    memory = SharedMemory(10)

    assert os.readlink(f"/proc/self/fd/{memory._descriptor}").startswith("/memfd:")


def test_without_anonymous_files_a_temporary_one_serves(tmp_path: Path) -> None:
    """macOS has none, and some sandboxes refuse them; the file has no name that could be left behind."""
    lines = output_of(
        f"""
        import os
        def refused(*_): raise OSError(38, "Function not implemented")
        os.memfd_create = refused
        os.environ["TMPDIR"] = {str(tmp_path)!r}
        import multiprocessing
        from azstoragetorch._values.shared import SharedMemory

        def work(memory):
            memory.view[0] = 7

        if __name__ == "__main__":
            memory = SharedMemory(1000)
            worker = multiprocessing.get_context("spawn").Process(target=work, args=(memory,))
            worker.start()
            worker.join()
            print(memory.view[0], os.listdir({str(tmp_path)!r}))
        """,
        tmp_path,
    )

    assert lines == ["7 ['script.py']"]


def test_memory_that_cannot_be_had_is_an_error_that_says_so() -> None:
    """Not a SIGBUS in the middle of the first epoch."""
    with pytest.raises(OSError, match=f"{1 << 60} bytes of memory to share with child processes") as caught:
        SharedMemory(1 << 60)

    assert caught.value.errno in (errno.ENOMEM, errno.EFBIG, errno.EINVAL, errno.ENOSPC, errno.EOVERFLOW)


def test_file_is_mapped_and_not_copied(tmp_path: Path) -> None:
    """A manifest on disk is the table itself; nobody may write to it through the mapping."""
    path = tmp_path / "file"
    path.write_bytes(b"content")
    memory = SharedMemory.adopt(os.open(path, os.O_RDONLY), 7, writable=False)

    assert bytes(memory.view) == b"content"
    assert memory.view.readonly
    assert pickle.loads(pickle.dumps(memory)).view.tobytes() == b"content"


def test_descriptor_that_cannot_be_mapped_is_closed(tmp_path: Path) -> None:
    """It was handed over; nobody else would close it."""
    path = tmp_path / "empty"
    path.touch()
    descriptor = os.open(path, os.O_RDONLY)

    with pytest.raises((OSError, ValueError)):
        SharedMemory.adopt(descriptor, 100, writable=False)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
