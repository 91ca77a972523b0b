"""Play a case: let the client at the fault, and check what every case must keep to."""

from __future__ import annotations

__all__ = ["Seen", "play", "watch"]

import asyncio
import gc
import inspect
import logging
import pickle
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import unquote

from azstoragetorch import TransferOptions
from azstoragetorch._transfer.memory import Memory
from azstoragetorch.aio import aclose
from tests.faults.case import Case, Result, Use
from tests.faults.scene import Scene, Stage
from tests.files.leaks import kept_connections, no_leaks
from tests.secrets.canaries import found_in, texts_of


class Seen(logging.Handler):
    """What was said while somebody watched: records of all loggers, and warnings."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []
        self.parts: list[str] = []
        """What the lines were made of, which other handlers see."""
        self.alarms: list[str] = []
        """Lines of WARNING and above, and warnings."""

    def emit(self, record: logging.LogRecord) -> None:
        line = f"{record.name} {self.format(record)}"
        self.lines.append(line)
        self.parts.append(repr(record.args))
        if record.levelno >= logging.WARNING:
            self.alarms.append(line)

    def texts(self) -> list[str]:
        """Return all of it."""
        return [*self.lines, *self.parts, *self.alarms]


@contextmanager
def watch() -> Iterator[Seen]:
    """Collect what is logged at DEBUG by anybody, and what is warned of."""
    seen = Seen()
    root = logging.getLogger()
    known = [root, *(item for item in root.manager.loggerDict.values() if isinstance(item, logging.Logger))]
    levels = [(logger, logger.level) for logger in known if logger is root or logger.level != logging.NOTSET]
    root.addHandler(seen)
    for logger, _ in levels:
        logger.setLevel(logging.DEBUG)
    try:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            yield seen
            # Tasks whose error nobody took and sockets that nobody closed speak up when they are collected.
            gc.collect()
        seen.alarms += [f"{item.category.__name__}: {item.message}" for item in warned]
    finally:
        root.removeHandler(seen)
        for logger, level in levels:
            logger.setLevel(level)


def play(stage: Stage, case: Case, use: Use) -> Result:
    """Play a case and return what came of it.

    :raises AssertionError: if that is not what the case says, or if it leaves or gives away what it must not.
    """
    with stage.scene(case) as scene, watch() as seen:
        case.fault(scene)
        result = _attempt(scene, use, scene.options(case.options))
        _check_outcome(case, scene, result)
        least, most = case.bounds
        asked = [f"{item.method} {item.comp or item.range} {item.fault} {item.status}" for item in result.records]
        assert least <= result.requests <= most, f"{result.requests} requests: {asked}"
        assert result.seconds <= case.seconds, f"it took {result.seconds:.2f} s"
        if case.check is not None:
            case.check(scene, result)
        if case.again and use.again:
            scene.heal()
            repeated = _attempt(scene, use, scene.options(case.options))
            assert repeated.error is None, f"the fault is over, and still: {repeated.error!r}"
            if repeated.data is not None:
                assert repeated.data == scene.expected, "after the fault other bytes are read"
            else:
                assert scene.stored() == scene.written, "after the fault other bytes are written"
    said = [*seen.texts(), *(texts_of(result.error) if result.error is not None else ())]
    assert not found_in(said), "a secret is given away"
    assert not [text for text in said if scene.secret in text or unquote(scene.secret) in text], "the SAS is given away"
    assert bool(seen.alarms) <= case.warns, f"alarms: {seen.alarms}"
    return result


def _check_outcome(case: Case, scene: Scene, result: Result) -> None:
    expected, error = case.outcome, result.error
    if expected.error is None:
        if error is not None:
            raise AssertionError(f"instead of success: {type(error).__name__}: {error}") from error
        assert result.data is None or result.data == scene.expected, "other bytes than those of the blob"
    else:
        assert error is not None, "it succeeded, and should not have"
        if type(error) is not expected.error:
            raise AssertionError(f"instead of {expected.error.__name__}: {error!r}") from error
        assert scene.shown in str(error), f"the message does not name the blob: {error}"
        copied = pickle.loads(pickle.dumps(error))
        assert (type(copied), str(copied)) == (type(error), str(error))
    if expected.blob != "any":
        before = scene.content if case.exists else None
        allowed: dict[str, list[bytes | None]] = {
            "old": [before],
            "new": [scene.written],
            "absent": [None],
            "either": [before, scene.written],
        }
        assert scene.stored() in allowed[expected.blob], f"the blob does not hold {expected.blob} content"


def _attempt(scene: Scene, use: Use, options: TransferOptions) -> Result:
    """Let the client do it once and look at what it leaves on its event loop and at the service."""
    error: Exception | None = None
    data: bytes | None = None
    started = time.perf_counter()
    if inspect.iscoroutinefunction(use.run):
        data, error, seconds = asyncio.run(_attempt_on_loop(scene, use, options))
        scene.server.wait_closed()
    else:
        with no_leaks(scene.server):
            started = time.perf_counter()
            try:
                outcome = use.run(scene, options)
            except Exception as failure:
                error = failure
            else:
                assert outcome is None or isinstance(outcome, bytes)
                data = outcome
            seconds = time.perf_counter() - started
    return Result(error, data, seconds, scene.server.requests())


async def _attempt_on_loop(
    scene: Scene, use: Use, options: TransferOptions
) -> tuple[bytes | None, Exception | None, float]:
    error: Exception | None = None
    data: bytes | None = None
    started = time.perf_counter()
    running = use.run(scene, options)
    assert inspect.isawaitable(running)
    try:
        data = await running
    except Exception as failure:
        error = failure
    seconds = time.perf_counter() - started
    left = asyncio.all_tasks() - {asyncio.current_task()}
    assert not left, f"tasks are left: {left}"
    assert Memory.current().used == 0, "memory is left"
    assert not kept_connections(), "connections are kept"
    await aclose()
    return data, error, seconds
