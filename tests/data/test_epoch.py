"""Which epoch an iteration reads: in one process, in workers that claim at once or late, in ranks of one parent."""

from __future__ import annotations

import copy
import gc
import os
import pickle
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from azstoragetorch._data.epoch import KEYS, WORKERS, EpochCell
from tests.bridge.script import output_of

pytestmark = pytest.mark.timeout(60)

METHODS = ["fork", "spawn", "forkserver"] if hasattr(os, "fork") else ["spawn"]
needs_fork = pytest.mark.skipif("not hasattr(__import__('os'), 'fork')", reason="there is no fork on this system")
shares_memory = pytest.mark.skipif("__import__('sys').platform == 'win32'", reason="workers get copies there")

# Every script: a worker is a process that is told by lines what to do with its cell, as many as it gets; it keeps no
# other state, so that one process can be a worker that lives on, is late, or is a rank with workers of its own.
CHILD = """
import multiprocessing, os, sys
from azstoragetorch._data.epoch import EpochCell


def serve(cell, pipe):
    while pipe.poll(20) and (order := pipe.recv()) is not None:  # not for ever, if a check fails
        method, *arguments = order
        if method == "start":  # a process below this one, which it talks for
            child = Child(cell, arguments[0])
            pipe.send("started")
        elif method == "child":
            pipe.send(child.ask(*arguments))
        elif method == "end child":
            child.end()
            pipe.send("ended")
        else:
            result = getattr(cell, method)
            pipe.send(result(*arguments) if callable(result) else result)


class Child:
    def __init__(self, cell, how):
        context = multiprocessing.get_context(how)
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(cell, theirs))
        self.process.start()
        theirs.close()

    def ask(self, *order):
        self.tell(*order)
        return self.hear()

    def tell(self, *order):
        self.pipe.send(order)

    def hear(self):
        assert self.pipe.poll(30), "no answer"
        return self.pipe.recv()

    def end(self):
        self.pipe.send(None)
        self.process.join()
        assert self.process.exitcode == 0, self.process.exitcode
        self.pipe.close()


def check(found, wanted):
    assert found == wanted, f"{found} is not {wanted}"


"""


def runs(source: str, folder: Path, how: str) -> None:
    """Run ``source``, indented as here, with ``CHILD`` above it; ``HOW`` is how it starts processes."""
    body = textwrap.indent(textwrap.dedent(source), "    ")
    assert output_of(f'{CHILD}HOW = {how!r}\nif __name__ == "__main__":\n{body}\n', folder) == []


def test_epochs_advance_by_themselves() -> None:
    """Without ``set_epoch`` every pass over the data is shuffled anew."""
    cell = EpochCell()

    assert [cell.claim(None) for _ in range(3)] == [(0, 0), (1, 0), (2, 0)]
    assert cell.peek() == (3, 0)


def test_start_is_for_one_iteration() -> None:
    """A resumed epoch goes on in the middle; the next begins at its beginning."""
    cell = EpochCell()
    cell.set(5, 40)

    assert cell.peek() == (5, 40)
    assert cell.claim(None) == (5, 40)
    assert cell.claim(None) == (6, 0)


def test_workers_of_one_iteration_agree() -> None:
    """The first one advances, the others read the same."""
    cell = EpochCell()
    cell.set(2, 7)

    assert [cell.claim((99, worker, 0)) for worker in range(4)] == [(2, 7)] * 4
    assert [cell.claim((99, worker, 1)) for worker in (2, 0, 3, 1)] == [(3, 0)] * 4
    assert cell.claim(None) == (4, 0)


def test_seed_that_comes_back_is_a_new_iteration() -> None:
    """``torch.manual_seed`` before every epoch makes all base seeds equal; no epoch and no start may come twice."""
    cell = EpochCell()
    cell.set(2, 7)

    for epoch in ((2, 7), *((number, 0) for number in range(3, 3 + 2 * KEYS))):
        first = epoch[0] % 3  # whoever is first
        assert [cell.claim((7, (first + worker) % 3, 0)) for worker in range(3)] == [epoch] * 3


def test_seed_that_comes_back_for_other_workers_is_a_new_iteration() -> None:
    """Workers with half the epochs behind them are not confused with the new ones that begin theirs."""
    cell = EpochCell()
    assert [cell.claim((7, worker, number)) for number in range(3) for worker in range(2)] == [
        (number, 0) for number in range(3) for worker in range(2)
    ]

    assert [cell.claim((7, worker, 0)) for worker in range(2)] == [(3, 0)] * 2
    assert [cell.claim((7, worker, 3)) for worker in range(2)] == [(4, 0)] * 2
    assert [cell.claim((7, worker, 1)) for worker in range(2)] == [(5, 0)] * 2


def test_key_that_was_seen_before_set_is_new_after_it() -> None:
    """Also for a worker that did not begin the iteration before."""
    cell = EpochCell()
    for epoch in (4, 4, 9):
        cell.set(epoch)
        assert [cell.claim((7, 0, 0)), cell.claim((7, epoch, 0))] == [(epoch, 0)] * 2
        assert cell.peek() == (epoch + 1, 0)


def test_iteration_that_was_overtaken_skips_no_epoch() -> None:
    """Abandoned before any worker began it; one of them does so when the next iteration runs already."""
    cell = EpochCell()
    cell.set(3)
    assert cell.claim((7, 0, 5)) == (3, 0)
    assert cell.claim((7, 1, 4)) == (2, 0)
    assert cell.claim((7, 1, 6)) == (4, 0)


def test_worker_that_is_far_behind_reads_the_same_epochs() -> None:
    """A wrapper that repeats the dataset lets a worker with few samples run ahead; keys are kept for some time only."""
    cell = EpochCell()
    ahead = [cell.claim((7, 0, number)) for number in range(3 * KEYS)]

    assert [cell.claim((7, 1, number)) for number in range(3 * KEYS)] == ahead
    assert cell.peek() == (3 * KEYS, 0)


@pytest.mark.parametrize("seed", [0, -1, -(1 << 63), (1 << 63) - 1, (1 << 63) + 5])
def test_any_seed_is_a_key(seed: int) -> None:
    """Torch's seeds are signed 64-bit integers, and a worker's may be one beyond them."""
    cell = EpochCell()

    assert [cell.claim((seed, *who)) for who in ((0, 0), (1, 0), (0, 1))] == [(0, 0), (0, 0), (1, 0)]


@pytest.mark.parametrize("worker", [63, 64, WORKERS - 1])
def test_any_worker_is_remembered(worker: int) -> None:
    """As far as there is room, with the neighbours told apart."""
    cell = EpochCell()

    assert [cell.claim((7, who, 0)) for who in (worker, worker - 1, worker)] == [(0, 0), (0, 0), (1, 0)]


def test_workers_without_room_agree_with_the_others() -> None:
    """Nobody knows what they claimed, so they follow the newest iteration."""
    cell = EpochCell()

    for epoch in range(2):
        assert [cell.claim((7, worker, 0)) for worker in (0, WORKERS, WORKERS + 1)] == [(epoch, 0)] * 3


def test_resume_tells_the_other_workers() -> None:
    """Every worker settles for itself; one without a state of its own claims, and reads the same."""
    cell = EpochCell()
    cell.settle((7, 0, 0), 5, 40)
    cell.settle((7, 1, 0), 5, 40)

    assert cell.claim((7, 2, 0)) == (5, 40)
    assert cell.claim((7, 1, 1)) == (6, 0)


def test_seed_that_comes_back_after_resume_replays_no_start() -> None:
    """The next epoch would begin in its middle, or some of its workers would read the one before."""
    cell = EpochCell()
    for worker in (1, 0, 2):
        cell.settle((7, worker, 0), 5, 40)

    for epoch in (6, 7):
        assert [cell.claim((7, worker, 0)) for worker in range(3)] == [(epoch, 0)] * 3


def test_resume_of_a_late_worker_takes_nothing_back() -> None:
    """Its iteration was abandoned, and the next one runs already."""
    cell = EpochCell()
    cell.settle((7, 0, 0), 5, 40)
    assert cell.claim((8, 0, 0)) == (6, 0)

    cell.settle((7, 1, 0), 5, 40)

    assert [cell.claim((8, 1, 0)), cell.claim((9, 0, 0))] == [(6, 0), (7, 0)]


def test_resume_of_the_same_checkpoint_again() -> None:
    """A second try, after the first one trained for some epochs: it goes the same way."""
    cell = EpochCell()
    for _ in range(3):
        for worker in range(2):
            cell.settle((7, worker, 0), 5, 40)
        assert [cell.claim((7, worker, 1)) for worker in range(2)] == [(6, 0)] * 2
        assert [cell.claim((7, worker, 2)) for worker in range(2)] == [(7, 0)] * 2


def test_going_back_to_a_checkpoint_forgets_what_came_after_it() -> None:
    """The loader restores its base seed, so that the same keys come again in one process and mean other epochs."""
    cell = EpochCell()
    assert [cell.claim((7, 0, number)) for number in range(4)] == [(0, 0), (1, 0), (2, 0), (3, 0)]

    cell.settle((7, 0, 0), 2, 30)

    assert cell.claim((7, 1, 0)) == (2, 30)
    assert [cell.claim((7, worker, 1)) for worker in (1, 0)] == [(3, 0)] * 2
    assert [cell.claim((7, worker, 2)) for worker in (1, 0)] == [(4, 0)] * 2


def test_resume_without_workers() -> None:
    """The same for the process itself."""
    cell = EpochCell()
    cell.settle(None, 5, 40)

    assert cell.peek() == (6, 0)
    assert not cell.claimed_by_workers


def test_knows_whether_workers_claimed() -> None:
    """Then this process cannot say in a state how far the iteration is."""
    cell = EpochCell()
    found = [cell.claimed_by_workers]
    for act in (
        lambda: cell.claim(None),
        lambda: cell.claim((7, 0, 0)),
        lambda: cell.set(3),
        lambda: cell.settle((7, 0, 0), 3, 0),
        lambda: cell.claim(None),
    ):
        act()
        found.append(cell.claimed_by_workers)

    assert found == [False, False, True, False, True, False]


@pytest.mark.parametrize("name", ["epoch", "start"])
def test_impossible_epoch_is_refused(name: str) -> None:
    """In the call that has it wrong, and not in a worker."""
    cell = EpochCell()
    right: dict[str, Any] = {"epoch": 1, "start": 1}
    acts: list[Callable[..., None]] = [cell.set, lambda **values: cell.settle(None, **values)]
    for act in acts:
        with pytest.raises(ValueError, match=f"{name} must be at least 0, got -1"):
            act(**{**right, name: -1})
        with pytest.raises(ValueError, match=f"{name} must be at most"):
            act(**{**right, name: 1 << 63})
        with pytest.raises(TypeError, match=f"{name} must be an int, not float"):
            act(**{**right, name: 1.0})
    assert cell.peek() == (0, 0)
    cell.set((1 << 63) - 2)
    assert [cell.claim((7, 0, number)) for number in range(2)] == [((1 << 63) - 2, 0), ((1 << 63) - 1, 0)]


STEPS = st.lists(st.sampled_from(["iterate", "seed again", "abandon", "set", "resume", "alone"]), max_size=30)


@given(st.integers(1, 4), STEPS, st.data())
def test_any_history_gives_every_iteration_one_epoch(workers: int, steps: list[str], data: st.DataObject) -> None:
    """Iterations that end, that some workers never begin, seeds that come back, ``set`` and checkpoints between."""
    cell, following = EpochCell(), (0, 0)
    for number, step in enumerate(steps):
        if step == "set":
            following = data.draw(st.tuples(st.integers(0, 5), st.integers(0, 5)))
            cell.set(*following)
        elif step == "alone":
            assert cell.claim(None) == following
            following = following[0] + 1, 0
        else:
            crew = data.draw(st.permutations(range(workers)))
            # Only a seed of iterations that all workers began comes back, see the warning in the module.
            key = {"iterate": (2, number), "abandon": (1, number)}.get(step, (3, 0))
            told = range(0)
            if step == "abandon":
                crew = crew[: data.draw(st.integers(1, workers))]
            elif step == "resume":  # by all that have a state; the first one has
                following = data.draw(st.tuples(st.integers(0, 5), st.integers(0, 5)))
                told = range(data.draw(st.integers(1, workers)))
            for place, worker in enumerate(crew):
                if place in told:
                    cell.settle((key[0], worker, key[1]), *following)
                else:
                    assert cell.claim((key[0], worker, key[1])) == following
            following = following[0] + 1, 0
        assert cell.peek() == following


@pytest.mark.parametrize("way", ["pickle", "deepcopy", "copy"])
def test_copies_count_for_themselves(way: str) -> None:
    """A dataset that is copied for evaluation must not take epochs from the one that trains."""
    cell = EpochCell()
    cell.set(4, 20)
    make = {"pickle": lambda obj: pickle.loads(pickle.dumps(obj)), "deepcopy": copy.deepcopy, "copy": copy.copy}[way]
    other = make(cell)

    assert [cell.claim(None), cell.claim(None)] == [(4, 20), (5, 0)]
    assert [other.claim(None), other.claim(None)] == [(4, 20), (5, 0)]
    other.set(9)
    assert (cell.peek(), other.peek()) == ((6, 0), (9, 0))


def test_pickle_is_small() -> None:
    """It is part of every dataset that a worker is sent."""
    cell = EpochCell()
    for number in range(100):
        cell.claim((7, 0, number))

    assert len(pickle.dumps(cell)) < 2200


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="the system does not show descriptors")
def test_collected_cells_leave_nothing_behind() -> None:
    """A dataset made per epoch, in a notebook for a day."""

    def descriptors() -> int:
        gc.collect()
        return len(os.listdir("/proc/self/fd"))

    def use() -> None:
        cell = EpochCell()
        other = copy.copy(cell)
        assert cell.claim(None) == other.claim(None)

    before = descriptors()
    for _ in range(50):
        use()

    assert descriptors() <= before  # what earlier tests left may be closed meanwhile


@shares_memory
@pytest.mark.parametrize("how", METHODS)
def test_workers_share_the_cell_of_their_parent(how: str, tmp_path: Path) -> None:
    """Iterations of workers started anew, and of workers that live on; ``set`` reaches those, too."""
    runs(
        """
        cell = EpochCell()
        cell.set(5, 3)
        first = [Child(cell, HOW) for _ in range(2)]
        check([first[worker].ask("claim", (7, worker, 0)) for worker in (0, 1)], [(5, 3)] * 2)
        check((cell.peek(), cell.claimed_by_workers), ((6, 0), True))
        check([first[worker].ask("claim", (7, worker, 1)) for worker in (0, 1)], [(6, 0)] * 2)
        cell.set(20)
        check([first[worker].ask("claim", (7, worker, 2)) for worker in (1, 0)], [(20, 0)] * 2)
        second = [Child(cell, HOW) for _ in range(2)]
        check([second[worker].ask("claim", (8, worker, 0)) for worker in (1, 0)], [(21, 0)] * 2)
        check([child.ask("peek") for child in first + second], [(22, 0)] * 4)
        check(cell.claim(None), (22, 0))
        for child in first + second: child.end()
        """,
        tmp_path,
        how,
    )


@shares_memory
@pytest.mark.parametrize("how", METHODS)
def test_workers_that_claim_at_once_agree(how: str, tmp_path: Path) -> None:
    """They all start at the same moment."""
    runs(
        """
        cell = EpochCell()
        children = [Child(cell, HOW) for _ in range(4)]
        for number in range(100):
            for worker, child in enumerate(children): child.tell("claim", (7, worker, number))
            check([child.hear() for child in children], [(number, 0)] * 4)
        for child in children: child.end()
        """,
        tmp_path,
        how,
    )


@shares_memory
@pytest.mark.parametrize("how", METHODS)
def test_late_worker_of_an_abandoned_iteration_takes_no_epoch(how: str, tmp_path: Path) -> None:
    """It may begin when the next iteration runs, or when ``set`` was called for the next one."""
    runs(
        """
        cell = EpochCell()
        early, late = Child(cell, HOW), Child(cell, HOW)
        check(early.ask("claim", (7, 0, 0)), (0, 0))
        cell.set(30)
        check(late.ask("claim", (7, 1, 0)), (0, 0))
        check(cell.peek(), (30, 0))
        check([early.ask("claim", (7, 0, 1)), late.ask("claim", (7, 1, 1))], [(30, 0)] * 2)

        slow, slower = Child(cell, HOW), Child(cell, HOW)
        cell.set(40)
        check(slow.ask("claim", (8, 0, 2)), (31, 0))  # its first iteration began before set; 2 its parent had begun
        check(cell.peek(), (40, 0))
        anew = Child(cell, HOW)  # with the seed of before: somebody called manual_seed
        check(anew.ask("claim", (8, 0, 2)), (40, 0))
        check(slower.ask("claim", (8, 1, 2)), (31, 0))
        check(cell.peek(), (41, 0))
        for child in (early, late, slow, slower, anew): child.end()
        """,
        tmp_path,
        how,
    )


@shares_memory
@pytest.mark.parametrize("how", METHODS)
def test_seed_that_comes_back_gives_new_workers_the_next_epochs(how: str, tmp_path: Path) -> None:
    """A wrapper that repeats the dataset: when the loader stops, one worker is further than the other."""
    runs(
        """
        cell = EpochCell()
        old = [Child(cell, HOW) for _ in range(2)]
        for number in range(3):
            for worker in ((0, 1) if number < 2 else (0,)):
                check(old[worker].ask("claim", (7, worker, number)), (number, 0))
        new = [Child(cell, HOW) for _ in range(2)]
        for number in range(3):
            for worker in (1, 0):
                check(new[worker].ask("claim", (7, worker, number)), (number + 3, 0))
        check(cell.peek(), (6, 0))
        for child in old + new: child.end()
        """,
        tmp_path,
        how,
    )


@shares_memory
@pytest.mark.parametrize("how", METHODS)
def test_workers_that_resume_share_it(how: str, tmp_path: Path) -> None:
    """Late or not, and with the seed again for the next ones, none of which may go on in the middle."""
    runs(
        """
        cell = EpochCell()
        first = [Child(cell, HOW) for _ in range(3)]
        first[1].ask("settle", (7, 1, 0), 5, 40)
        check(first[2].ask("claim", (7, 2, 0)), (5, 40))
        cell.set(6)
        first[0].ask("settle", (7, 0, 0), 5, 40)
        check(cell.peek(), (6, 0))
        check([child.ask("claim", (7, worker, 1)) for worker, child in enumerate(first)], [(6, 0)] * 3)
        second = [Child(cell, HOW) for _ in range(3)]
        check([child.ask("claim", (7, worker, 0)) for worker, child in enumerate(second)], [(7, 0)] * 3)
        for child in first + second: child.end()
        """,
        tmp_path,
        how,
    )


@shares_memory
@pytest.mark.parametrize("how", METHODS)
def test_worker_may_set(how: str, tmp_path: Path) -> None:
    """``worker_init_fn`` is where some call ``set_epoch``, in every worker."""
    runs(
        """
        cell = EpochCell()
        children = [Child(cell, HOW) for _ in range(2)]
        for worker, child in enumerate(children): child.ask("claim", (7, worker, 0))
        for worker, child in enumerate(children):
            child.ask("set", 8)
            check(child.ask("claim", (7, worker, 1)), (8, 0))
        check(cell.peek(), (9, 0))
        for child in children: child.end()
        """,
        tmp_path,
        how,
    )


@shares_memory
@pytest.mark.parametrize("how", METHODS)
def test_ranks_of_one_parent_count_for_themselves(how: str, tmp_path: Path) -> None:
    """Two that iterate alternately would read every other epoch; what the parent does later is not theirs either."""
    runs(
        """
        cell = EpochCell()
        cell.set(5, 2)
        ranks = [Child(cell, HOW) for _ in range(2)]
        cell.set(99)
        for epoch in ((5, 2), (6, 0), (7, 0)):
            check([rank.ask("claim", None) for rank in ranks], [epoch] * 2)
        ranks[0].ask("set", 50)
        check([rank.ask("peek") for rank in ranks], [(50, 0), (8, 0)])
        check(cell.peek(), (99, 0))
        for rank in ranks: rank.end()
        """,
        tmp_path,
        how,
    )


@shares_memory
@pytest.mark.parametrize("below", METHODS)
@pytest.mark.parametrize("how", METHODS)
def test_workers_of_a_rank_share_with_their_rank_alone(how: str, below: str, tmp_path: Path) -> None:
    """Ranks started from one parent, each with DataLoader workers; with equal seeds their keys are equal, too."""
    runs(
        f"""
        cell = EpochCell()
        cell.set(5)
        ranks = [Child(cell, HOW) for _ in range(2)]
        for rank in ranks: rank.ask("start", {below!r})
        check(ranks[0].ask("child", "claim", (7, 0, 0)), (5, 0))
        check(ranks[0].ask("child", "claim", (7, 0, 1)), (6, 0))
        check([rank.ask("peek") for rank in ranks], [(7, 0), (5, 0)])
        check(ranks[1].ask("child", "claim", (7, 0, 0)), (5, 0))
        ranks[1].ask("set", 60)
        check(ranks[1].ask("child", "claim", (7, 0, 1)), (60, 0))
        check(cell.peek(), (5, 0))
        for rank in ranks:
            rank.ask("end child")
            rank.end()
        """,
        tmp_path,
        how,
    )


@shares_memory
@pytest.mark.parametrize("how", METHODS)
def test_worker_that_starts_processes_stays_a_worker(how: str, tmp_path: Path) -> None:
    """A transform may fork; the next claim has to agree with the other workers all the same."""
    runs(
        """
        cell = EpochCell()
        children = [Child(cell, HOW) for _ in range(2)]
        for worker, child in enumerate(children): child.ask("claim", (7, worker, 0))
        children[0].ask("start", HOW)
        check(children[0].ask("child", "peek"), (0, 0))  # what was next when the worker was born; a process of its own
        children[0].ask("end child")
        check([child.ask("claim", (7, worker, 1)) for worker, child in enumerate(children)], [(1, 0)] * 2)
        for child in children: child.end()
        """,
        tmp_path,
        how,
    )


@needs_fork
def test_fork_while_threads_use_cells(tmp_path: Path) -> None:
    """Whatever a thread of the parent is in the middle of, the child's first claim must not wait for it."""
    output = output_of(
        """
        import os, threading
        from azstoragetorch._data.epoch import EpochCell

        cell, stop = EpochCell(), threading.Event()

        def busy():
            while not stop.is_set():
                EpochCell().claim(None)
                cell.claim((7, 0, 0))

        threads = [threading.Thread(target=busy, daemon=True) for _ in range(3)]
        for thread in threads:
            thread.start()
        for number in range(60):
            child = os.fork()
            if child == 0:
                assert cell.claim((8, 0, 0))[1] == 0
                assert EpochCell().claim(None) == (0, 0)
                os._exit(0)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        stop.set()
        for thread in threads:
            thread.join()
        """,
        tmp_path,
    )
    assert output == []


@needs_fork
def test_threads_of_a_rank_get_one_count(tmp_path: Path) -> None:
    """The first use after a fork makes the rank's own memory, once."""
    output = output_of(
        """
        import os, threading
        from azstoragetorch._data.epoch import EpochCell

        for _ in range(30):
            cell = EpochCell()
            child = os.fork()
            if child == 0:
                barrier, found = threading.Barrier(8), []

                def claim():
                    barrier.wait()
                    found.append(cell.claim(None)[0])

                threads = [threading.Thread(target=claim) for _ in range(8)]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
                assert sorted(found) == list(range(8)), found
                os._exit(0)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
            assert cell.peek() == (0, 0)
        """,
        tmp_path,
    )
    assert output == []


def test_needs_no_torch(tmp_path: Path) -> None:
    """It asks torch only where somebody imported it, so that all of this is tested without."""
    source = (
        "import sys\nfrom azstoragetorch._data.epoch import EpochCell\nEpochCell().claim(None)\nprint(*sys.modules)"
    )

    assert "torch" not in output_of(source, tmp_path)[0].split()
