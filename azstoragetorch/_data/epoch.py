"""Which epoch the next iteration of a dataset reads, known to the dataset's process and to its DataLoader workers.

*Operations*: ``set`` and ``peek`` the next epoch, ``claim`` one for an iteration that begins, ``settle`` one that a
checkpoint named.

*Goals*: all workers of one iteration read the same epoch, whoever of them is first; the next iteration reads the next
one; ``set`` reaches workers that live on from epoch to epoch; nothing of it needs a word from the DataLoader, which
tells a dataset in the parent process nothing at all.

*Plan*: the workers of one iteration know two things in common: the DataLoader's base seed, and how many iterations each
of them began before. With the worker's number they are its *key*. The first worker takes the next epoch, the others
are told the same. A seed may come back, after ``torch.manual_seed``; so every claim is noted with the workers that made
it, and one that made it already begins a new iteration. The next epoch and the last claims lie in shared memory. An
iteration can be late: abandoned, with a worker that begins it when the next one runs already, or when ``set`` was
called. So every worker knows the *generation* (how many calls of ``set`` there were) of its birth: it sees the claims
made since then, and a worker born later does not see them.

*Whose it is*: processes that each iterate for themselves, such as ranks forked or spawned from one parent, must not
take epochs from each other. A process *owns* its memory, or *borrows* that of the process it was born from, which is
for DataLoader workers only. All others go on with a memory of their own, from what was next at their birth, as soon
as they use the cell, fork or start a child.

*Warning*: a worker that died before it claimed anything, in an iteration whose seed comes back, cannot be told from one
that is late: the next one with its number may read the epoch that it missed. On Windows no memory is shared: a worker
counts for itself, from what was next at its birth: call ``set`` before every epoch; persistent workers do not see it.
"""

from __future__ import annotations

import os
import struct
import sys
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar
from weakref import WeakValueDictionary

from azstoragetorch._values.shards import check_int
from azstoragetorch._values.shared import SharedMemory

__all__ = ["EpochCell"]

KEYS = 16  # how many iterations one worker may be ahead of another, or be begun while an abandoned one still starts
WORKERS = 512  # workers of one loader that can be told apart
MOST = (1 << 63) - 2  # an epoch or a start; leaves room for the one after it

_HEAD = struct.Struct("<QQQQQQ")  # next epoch, its start, generation, claims, whether workers did the last, claims kept
_KEY = struct.Struct("<QQQQQQ64s")  # a _Claimed

_T = TypeVar("_T")


class _Claimed(NamedTuple):
    """What the iteration with a seed and a number reads."""

    seed: int
    number: int
    generation: int
    epoch: int
    start: int
    serial: int
    """How many others were claimed before it."""
    workers: bytes = bytes(WORKERS // 8)
    """One bit for each worker that claimed it."""

    def has(self, worker: int) -> bool:
        """Whether this worker claimed it; of workers beyond the 512th nobody knows."""
        return bool(int.from_bytes(self.workers, "little") >> worker & 1)

    def joined(self, worker: int) -> _Claimed:
        """Return it with this worker among those that claimed it."""
        bit = 1 << worker if worker < WORKERS else 0
        return self._replace(workers=(int.from_bytes(self.workers, "little") | bit).to_bytes(WORKERS // 8, "little"))


class _Birth(NamedTuple):
    """What was next when a process was born."""

    epoch: int = 0
    start: int = 0
    generation: int = 0
    serial: int = 0


class _State:
    """The content of the memory, unpacked; only used under its lock."""

    __slots__ = ("by_workers", "claimed", "epoch", "generation", "serial", "start")

    def __init__(self, view: memoryview) -> None:
        self.epoch, self.start, self.generation, self.serial, by_workers, kept = _HEAD.unpack_from(view)
        self.by_workers = bool(by_workers)
        self.claimed = [_Claimed(*_KEY.unpack_from(view, _HEAD.size + i * _KEY.size)) for i in range(kept)]

    def pack_into(self, view: memoryview) -> None:
        del self.claimed[KEYS:]  # newest first
        head = _HEAD.pack(self.epoch, self.start, self.generation, self.serial, self.by_workers, len(self.claimed))
        packed = head + b"".join(_KEY.pack(*claimed) for claimed in self.claimed)
        view[: len(packed)] = packed

    def advance(self, epoch: int) -> None:
        """Let the iteration after one that reads ``epoch`` read the next."""
        self.epoch, self.start = epoch + 1, 0

    def note(self, seed: int, worker: int, number: int, generation: int, epoch: int, start: int) -> None:
        """Keep what this worker, as the first one, was told."""
        self.claimed.insert(0, _Claimed(seed, number, generation, epoch, start, self.serial).joined(worker))
        self.serial += 1

    def join(self, claimed: _Claimed, worker: int) -> None:
        """Keep that this worker was told the same."""
        self.claimed[self.claimed.index(claimed)] = claimed.joined(worker)


class EpochCell:
    """The epoch that the next iteration of a dataset reads, shared by the process that owns the dataset and its
    DataLoader workers.

    Epochs begin at 0. A *start* is the position in the epoch's order from which an iteration goes on. Everything here
    takes microseconds and may be called by any thread.
    """

    __slots__ = ("__weakref__", "_birth", "_borrowed", "_owned", "_worker")

    def __init__(self) -> None:
        self._birth = _Birth()
        self._owned = {os.getpid(): SharedMemory(_HEAD.size + KEYS * _KEY.size)}
        self._borrowed: SharedMemory | None = None
        self._worker = 0
        _cells[id(self)] = self

    def set(self, epoch: int, start: int = 0) -> None:
        """Say what the next iteration reads. Iterations that have begun keep what they read.

        :raises TypeError: if an argument is not an int.
        :raises ValueError: if one is negative or beyond 2**63 - 2.
        """
        _check(epoch, start)

        def change(state: _State) -> None:
            state.epoch, state.start = epoch, start
            state.generation += 1
            state.by_workers = False
            # For a worker that sets (worker_init_fn), its first claim comes after this and not before.
            self._birth = _Birth(epoch, start, state.generation)

        self._locked(change)

    def peek(self) -> tuple[int, int]:
        """Return epoch and start of the next iteration."""
        return self._locked(lambda state: (state.epoch, state.start))

    @property
    def claimed_by_workers(self) -> bool:
        """Whether workers began the last iteration, so that this process does not know how far it is.

        False again after `set`, and on Windows always.
        """
        return self._locked(lambda state: state.by_workers)

    def claim(self, key: tuple[int, int, int] | None) -> tuple[int, int]:
        """Begin an iteration: return its epoch and start; the iteration after it reads the next epoch from 0.

        :param key: ``None`` in a process that reads for itself. In a DataLoader worker base seed
            (``worker_info.seed - worker_info.id``), id, and how many iterations of the dataset it began before.
        """
        if key is None:

            def begin(state: _State) -> tuple[int, int]:
                answer = state.epoch, state.start
                state.advance(state.epoch)
                state.by_workers = False
                return answer

            return self._locked(begin)

        seed, worker, number = _checked(key)
        first, self._worker = self._worker != os.getpid(), os.getpid()

        def join(state: _State) -> tuple[int, int]:
            epoch, start, born, serial = self._born(state)
            seen = [it for it in state.claimed if it.seed == seed and it.generation >= born and not it.has(worker)]
            # Of what was claimed before this worker was born, its first iteration alone can be of the same workers:
            # those that were started a moment before it are quick. The rest is of others, whose seed came back.
            same = [it for it in seen if it.number == number and (first or it.serial >= serial)]
            if same:
                # A seed that came back in a later generation, for workers born later, does not concern this one.
                found = min(same, key=lambda it: it.generation)
                state.join(found, worker)
                return found.epoch, found.start
            later = [it for it in seen if it.number > number and it.serial >= serial]
            if later:
                # Others are further already: this one was abandoned before any other worker began it, or it is more
                # than KEYS behind. Advancing here would make those that come next skip an epoch.
                nearest = min(later, key=lambda it: it.number)
                return max(0, nearest.epoch - (nearest.number - number)), 0
            if first and born < state.generation:
                # The first iteration of a worker begins with its birth. What `set` said since is for the next one.
                state.note(seed, worker, number, born, epoch, start)
                return epoch, start
            answer = state.epoch, state.start
            state.note(seed, worker, number, state.generation, *answer)
            state.advance(state.epoch)
            state.by_workers = True
            return answer

        return self._locked(join)

    def settle(self, key: tuple[int, int, int] | None, epoch: int, start: int) -> None:
        """Begin an iteration that goes on where a checkpoint says; the iteration after it reads the next epoch.

        :param key: as for `claim`. The other workers may settle the same, or claim it.
        :raises TypeError: if epoch or start is not an int.
        :raises ValueError: if one is negative or beyond 2**63 - 2.
        """
        _check(epoch, start)
        first = self._worker != os.getpid()
        if key is not None:
            self._worker = os.getpid()

        def change(state: _State) -> None:
            if key is not None:
                seed, worker, number = _checked(key)
                born = self._born(state).generation
                for told in state.claimed:
                    if told[:5] == (seed, number, born, epoch, start) and not told.has(worker):
                        state.join(told, worker)  # another worker was here, and did the rest
                        return
                # The loader restores its base seed, too: this process may have claimed keys with it before it went
                # back to the checkpoint, and they named other epochs.
                state.claimed = [claimed for claimed in state.claimed if claimed.seed != seed]
                state.note(seed, worker, number, born, epoch, start)
                if first and born < state.generation:
                    return  # as in `claim`: what was set since is for the next iteration
            state.advance(epoch)
            state.by_workers = key is not None

        self._locked(change)

    def _born(self, state: _State) -> _Birth:
        """Return what this process was born with; for the owner everything that was is past."""
        if os.getpid() in self._owned:
            return _Birth(state.epoch, state.start, state.generation, 0)
        return self._birth

    def _locked(self, act: Callable[[_State], _T]) -> _T:
        memory = self._memory()
        with memory.lock():
            state = _State(memory.view)
            result = act(state)
            state.pack_into(memory.view)
        return result

    def _memory(self) -> SharedMemory:
        """Return the memory of this process: borrowed in a DataLoader worker, else its own, made if need be."""
        pid = os.getpid()
        if (own := self._owned.get(pid)) is not None:
            return own
        if self._is_borrowing():
            return self._borrowed or next(iter(self._owned.values()))
        own = SharedMemory(_HEAD.size + KEYS * _KEY.size)
        _HEAD.pack_into(own.view, 0, self._birth.epoch, self._birth.start, 0, 0, False, 0)
        own = self._owned.setdefault(pid, own)  # one step, so that two threads end up with one
        # What was borrowed goes; no other pid stays, which a descendant might get when its owner is long gone.
        self._owned, self._borrowed = {pid: own}, None
        return own

    def _is_borrowing(self) -> bool:
        """Whether this process uses the memory of the one it was born from: it is a worker, and no owner."""
        pid = os.getpid()
        return pid not in self._owned and (pid == self._worker or _is_dataloader_worker())

    def _remember_birth(self) -> None:
        """Before a child is born: note what is next, and have a memory that its workers may share."""
        if not self._is_borrowing():
            self._birth = self._locked(lambda state: _Birth(state.epoch, state.start, state.generation, state.serial))

    def __reduce__(self) -> tuple[Any, ...]:
        # While a child is spawned the memory arrives there as the same one, else as a copy.
        self._remember_birth()
        return _borrow, (self._memory(), tuple(self._birth))


def _borrow(memory: SharedMemory, birth: tuple[int, int, int, int]) -> EpochCell:
    cell = EpochCell.__new__(EpochCell)
    cell._birth, cell._owned, cell._borrowed, cell._worker = _Birth(*birth), {}, memory, 0
    _cells[id(cell)] = cell
    return cell


def _check(epoch: int, start: int) -> None:
    for name, value in (("epoch", epoch), ("start", start)):
        check_int(name, value, 0)
        if value > MOST:
            raise ValueError(f"{name} must be at most 2**63 - 2, got {value}")


def _checked(key: tuple[int, int, int]) -> tuple[int, int, int]:
    seed, worker, number = key
    return seed & 0xFFFF_FFFF_FFFF_FFFF, worker, number  # torch's seeds are signed


def _is_dataloader_worker() -> bool:
    # Only asked for, not imported: where torch was not imported there is no worker.
    data = sys.modules.get("torch.utils.data")
    return data is not None and data.get_worker_info() is not None


_cells: WeakValueDictionary[int, EpochCell] = WeakValueDictionary()


def _before_fork() -> None:
    for reference in _cells.valuerefs():  # a list, in one step: other threads make and drop cells meanwhile
        cell = reference()
        if cell is not None:
            cell._remember_birth()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork)
