"""Lend synchronous code one event loop: the only package that starts threads.

    caller's thread                               thread "azstoragetorch" (daemon, started by the first `run`)
    run(func, *args)  ---- call_soon_threadsafe --->  task of func(*args)
      waits on a lock  <-------- released by --------  the task's done callback

Operations: `run` a coroutine function and wait, `call` a plain function and do not wait, `at_exit` to act before the
loop stops, `generation` to notice a fork.
"""

from __future__ import annotations

from azstoragetorch._bridge.fork import generation
from azstoragetorch._bridge.process import at_exit, call, run

__all__ = ["at_exit", "call", "generation", "run"]
