"""The allowance of a window: it grows while the network is what is waited for, and only then."""

from __future__ import annotations

import time

import pytest

from azstoragetorch._transfer.ramp import FIRST, Ramp


def compute(seconds: float) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def idle(seconds: float) -> None:
    time.sleep(seconds)  # that the thread does nothing is what is looked at


def test_idle_thread_and_waiting_consumer_double_it() -> None:
    """Behind a latency more on their way come sooner, up to what the memory allows."""
    ramp = Ramp(3 * FIRST, 32)

    found = []
    for _ in range(3):
        idle(0.01)
        ramp.look(wanted=True)
        found.append((ramp.allowance, ramp.grows))

    assert found == [(2 * FIRST, True), (3 * FIRST, False), (3 * FIRST, False)]


def test_busy_thread_leaves_it() -> None:
    """Where the processor is what is waited for, more at a time only costs."""
    # A thread that got less than three quarters of a core looks idle. A millisecond is less than the system gives to
    # one thread at a time, so that some of these are whole on a busy machine, too.
    for _ in range(500):
        ramp = Ramp(100 * FIRST, 32)
        compute(0.001)
        ramp.look(wanted=True)
        if ramp.allowance == FIRST:
            return
    pytest.fail("a thread that computes all the time was never found busy")


def test_consumer_that_is_busy_itself_leaves_it() -> None:
    """It would only hold more memory for longer."""
    ramp = Ramp(100 * FIRST, 32)
    idle(0.01)

    ramp.look(wanted=False)

    assert ramp.allowance == FIRST


def test_small_samples_are_never_held_back() -> None:
    """Those of a depth that fit from the start cost nothing to admit; a small budget is all there is."""
    assert Ramp(100 * FIRST, 32).is_small(FIRST // 32)
    assert not Ramp(100 * FIRST, 32).is_small(FIRST // 32 + 1)
    assert Ramp(FIRST // 2, 32).allowance == FIRST // 2
    assert not Ramp(FIRST // 2, 32).grows
