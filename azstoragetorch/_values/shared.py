"""Memory that a process and its children see both, whichever way the children start.

*Operations*: ``view`` is the memory, ``lock()`` excludes all others for a moment; an object pickles.

*Goals*: the table of a million blobs must exist once on a machine and not once per worker, and a worker must see what
its parent writes later. Python objects cannot be shared: a child that only reads them writes their reference counts.

*Plan*: an anonymous file mapped by everybody. A forked child inherits the mapping. A spawned or forkserver child is
handed the descriptor while it starts, and maps it anew. Anything else that pickles it gets a copy of the content.
The file is one of ``memfd_create``: it needs no path, and it is not bounded by ``/dev/shm``, which has 64 MB in many
containers. Where there is no such call, it is a temporary file without a name. Windows has neither: every child gets
a copy, and what one writes the others do not see.

*Warning*: the lock is for a few microseconds. It holds up every thread of this process that wants any lock of this
module, and every process that wants this one.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import sys
import tempfile
import threading
import weakref
from collections.abc import Iterator
from multiprocessing import context, reduction
from typing import Any

if sys.platform != "win32":
    import fcntl

__all__ = ["SharedMemory"]

# Locks of a file exclude processes and not threads. One lock for all memories of the process, since two objects may
# be the same memory.
_threads = threading.Lock()

# What each child is handed while it starts. Once: spawn refuses a descriptor that is handed over twice, as that of a
# data set would be that is pickled once more by a wrapper beside it.
_handed: weakref.WeakKeyDictionary[Any, dict[int, Any]] = weakref.WeakKeyDictionary()


def _renew() -> None:
    global _threads
    _threads = threading.Lock()  # another thread of the parent may have held it, and nobody here would release it


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)


class SharedMemory:
    """``size`` bytes of zeroed memory that child processes map instead of copying (fork, spawn, forkserver).

    :param size: bytes, may be 0.
    :param shared: ``False`` for what is so small that a copy is cheaper than two open descriptors.
    :raises ValueError: if ``size`` is negative.
    :raises OSError: if that much memory cannot be had.
    """

    __slots__ = ("__weakref__", "_descriptor", "_writable", "view")

    _descriptor: int
    _writable: bool
    view: memoryview
    """The memory, byte by byte. A view, and every part of it, keeps it mapped when this object is gone."""

    def __init__(self, size: int, *, shared: bool = True) -> None:
        if size < 0:
            raise ValueError(f"the size of memory must not be negative, got {size}")
        if sys.platform == "win32" or not shared:
            self._descriptor, self._writable, self.view = -1, True, memoryview(bytearray(size))
            return
        descriptor = _anonymous_file(size)
        self._map(descriptor, size, writable=True)

    @classmethod
    def adopt(cls, descriptor: int, size: int, *, writable: bool) -> SharedMemory:
        """Map the first ``size`` bytes of a file, and take ``descriptor`` over; it is closed if that fails.

        The file must not get shorter while it is mapped: touching what was cut off kills the process.

        :raises OSError: if it cannot be mapped.
        :raises ValueError: if the file is shorter.
        """
        self = cls.__new__(cls)
        self._map(descriptor, size, writable=writable)
        return self

    def _map(self, descriptor: int, size: int, *, writable: bool) -> None:
        try:
            access = mmap.ACCESS_WRITE if writable else mmap.ACCESS_READ  # both shared, neither copy-on-write
            mapped = mmap.mmap(descriptor, size, access=access) if size else bytearray()
        except (OSError, ValueError) as error:
            os.close(descriptor)
            if isinstance(error, ValueError):
                raise  # the file is shorter
            raise _refused(size, error) from None
        weakref.finalize(self, os.close, descriptor).atexit = False
        self._descriptor, self._writable, self.view = descriptor, writable, memoryview(mapped)

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Exclude all other processes and threads that ask for the lock of this memory.

        Not reentrant, and not for anything that may wait.
        """
        with _threads:
            if sys.platform == "win32" or self._descriptor < 0:
                yield
                return
            # Of the process and not of the descriptor: a process that dies lets go, and a forked child has none of
            # its parent's.
            fcntl.lockf(self._descriptor, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.lockf(self._descriptor, fcntl.LOCK_UN)

    def __reduce__(self) -> tuple[Any, ...]:
        child = context.get_spawning_popen()
        if sys.platform == "win32" or child is None or self._descriptor < 0:
            return _copied, (bytes(self.view), self._descriptor >= 0)
        handed = _handed.setdefault(child, {})
        if self._descriptor not in handed:
            handed[self._descriptor] = reduction.DupFd(self._descriptor)
        return _inherit, (handed[self._descriptor], len(self.view), self._writable)


def _anonymous_file(size: int) -> int:
    """Open a file of ``size`` zeros that has no name and goes with its last descriptor."""
    descriptor = -1
    if hasattr(os, "memfd_create"):
        # Refused in some sandboxes: then it is a file, too.
        with contextlib.suppress(OSError):
            descriptor = os.memfd_create("azstoragetorch")
    in_memory = descriptor >= 0
    try:
        if not in_memory:
            with tempfile.TemporaryFile(prefix="azstoragetorch-") as file:
                descriptor = os.dup(file.fileno())
        os.ftruncate(descriptor, size)
        if not in_memory and size and hasattr(os, "posix_fallocate"):
            # A full disk must be an error here and not a SIGBUS at the first write. Memory is different: its pages are
            # better made one by one, while what they are copied from goes, and nothing is promised by asking first.
            os.posix_fallocate(descriptor, 0, size)
    except OSError as error:
        if descriptor >= 0:
            os.close(descriptor)
        raise _refused(size, error) from None
    return descriptor


def _refused(size: int, error: OSError) -> OSError:
    return OSError(
        error.errno,
        f"{size} bytes of memory to share with child processes could not be had ({error.strerror}); "
        f"free memory, raise the limit of open files, or set TMPDIR to a folder with room",
    )


def _inherit(descriptor: Any, size: int, writable: bool) -> SharedMemory:
    """Map, in a child that starts, what its parent has mapped."""
    number = descriptor.detach()
    os.set_inheritable(number, False)  # it had to be, to get here; programs that the child starts have no use for it
    # The number stays open: what was pickled twice comes here twice with it.
    return SharedMemory.adopt(os.dup(number), size, writable=writable)


def _copied(content: bytes, shared: bool) -> SharedMemory:
    memory = SharedMemory(len(content), shared=shared)
    memory.view[:] = content
    return memory
