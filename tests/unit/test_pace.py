"""The pace of requests while a service refuses some, in virtual time: minutes in a second, and every run alike.

A client is as many loops around ``persist`` as it has requests in flight; what they call stands for the service.
"""

from __future__ import annotations

import asyncio
import gc
import random
import selectors
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pytest

from azstoragetorch import TransferOptions, TransferStats
from azstoragetorch._azure.errors import FailedAttempt, status_failure
from azstoragetorch._azure.pace import Pace
from azstoragetorch._azure.retry import persist
from azstoragetorch.exceptions import BlobServiceError, BlobTimeoutError

_T = TypeVar("_T")


class Selector(selectors.SelectSelector):
    """Waits for nothing: the time is later instead."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        assert timeout is not None, "everything waits, and nothing is going to happen"
        self.now += max(0.0, timeout)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop on which a second takes as long as what happens in it."""

    def __init__(self) -> None:
        self._virtual = Selector()
        super().__init__(self._virtual)

    def time(self) -> float:
        return self._virtual.now


def virtually(main: Coroutine[Any, Any, _T], seed: int = 1) -> _T:
    """Run ``main`` from second 0 on, with the same delays each time."""
    random.seed(seed)
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)


def now() -> float:
    return asyncio.get_running_loop().time()


@dataclass(slots=True)
class Service:
    """Admits ``rate`` requests a second and ``burst`` more that were not used before; answers after ``latency``."""

    rate: float
    burst: float = 20.0
    latency: float = 0.002
    status: int = 503
    """What it says to those that it does not admit."""
    away: Callable[[], bool] = lambda: False
    answers: list[tuple[float, bool]] = field(default_factory=list)
    """When, and whether it did what it was asked."""
    _tokens: float = 0.0
    _at: float = 0.0

    async def __call__(self) -> None:
        await asyncio.sleep(self.latency / 2)
        self._tokens = min(self.burst, self._tokens + (now() - self._at) * self.rate)
        self._at = now()
        admitted = self._tokens >= 1 and not self.away()
        self._tokens -= admitted
        self.answers.append((now(), admitted))
        await asyncio.sleep(self.latency / 2)
        if not admitted:
            raise refusal(self.status)

    def between(self, start: float, stop: float) -> tuple[float, float]:
        """Return what was admitted a second, and the part of the requests that was refused."""
        seen = [admitted for at, admitted in self.answers if start <= at < stop]
        return sum(seen) / (stop - start), 1 - sum(seen) / len(seen)


def refusal(status: int = 503, headers: Mapping[str, str] | None = None) -> FailedAttempt:
    return FailedAttempt(status_failure(status, "ServerBusy", headers or {}, None))


async def asked(
    attempt: Callable[[], Awaitable[_T]],
    pace: Pace,
    stats: TransferStats | None = None,
    options: TransferOptions | None = None,
) -> _T:
    return await persist(
        attempt, doing="reading it", options=options or TransferOptions(), stats=stats or TransferStats(), pace=pace
    )


async def client(
    service: Service, until: float = 1e9, *, in_flight: int = 32, count: int = 1 << 60, paced: bool = True
) -> TransferStats:
    """Ask as fast as it can, until that second or for so many answers; nothing may fail."""
    pace, stats = Pace("client"), TransferStats()
    left = iter(range(count))

    async def loop() -> None:
        while now() < until and next(left, None) is not None:
            await asked(service, pace if paced else Pace("of one request"), stats)

    async with asyncio.TaskGroup() as group:
        for _ in range(in_flight):
            group.create_task(loop())
    return stats


@pytest.mark.parametrize("latency", [0.001, 0.03, 0.1])
@pytest.mark.parametrize("burst", [5, 20, 200])
@pytest.mark.parametrize("clients", [1, 4, 8])
def test_clients_share_what_is_admitted(clients: int, burst: int, latency: float) -> None:
    """Whatever a worker does not know of the others, little is refused and little is left."""
    service = Service(200, burst, latency)

    async def main() -> None:
        await asyncio.gather(*(client(service, 20) for _ in range(clients)))

    virtually(main())

    useful, refused = service.between(5, 20)
    assert useful >= 0.85 * 200
    assert refused <= 0.15


@pytest.mark.parametrize("status", [503, 429])
def test_both_answers_for_too_many_requests_lower_the_rate(status: int) -> None:
    """Of the two the service sends 503, and gateways before it 429; the docs promise the same for both."""
    service = Service(200, status=status)

    async def main() -> None:
        await asyncio.gather(*(client(service, 15) for _ in range(4)))

    virtually(main())

    useful, refused = service.between(5, 15)
    assert useful >= 0.85 * 200
    assert refused <= 0.15


def test_answers_of_other_kinds_leave_the_rate_alone() -> None:
    """An error of the service's own says nothing about how much it admits; asking it less would help nobody."""
    service = Service(1e9, latency=0.01, status=500, away=lambda: random.random() < 0.1)
    pace = Pace("account")

    async def main() -> None:
        for _ in range(200):
            await asked(service, pace)

    virtually(main())

    assert not all(admitted for _, admitted in service.answers)
    assert not pace.limited


@pytest.mark.parametrize("seed", range(3))
def test_many_small_shares_starve_nobody(seed: int) -> None:
    """Each client of sixteen is refused so often that it comes to all conclusions there are; none may be silence."""
    service = Service(200, 5, 0.001)

    async def main() -> list[TransferStats]:
        return await asyncio.gather(*(client(service, 20) for _ in range(16)))

    clients = virtually(main(), seed)

    assert service.between(5, 20)[0] >= 0.85 * 200
    assert min(stats.requests - stats.throttled for stats in clients) >= 20 * 200 / 16 / 10, "a tenth of a fair share"


def test_clients_that_join_get_a_share() -> None:
    """A second job on the account must not live on what the first one leaves."""
    service = Service(200)
    samples = [0, 0]

    async def main() -> None:
        async def count(position: int, start: float) -> None:
            await asyncio.sleep(start)
            stats = await client(service, 60)
            samples[position] = stats.requests - stats.throttled

        await asyncio.gather(count(0, 0), count(1, 20))

    virtually(main())

    early, _ = service.between(5, 20)
    assert early >= 0.85 * 200
    assert samples[1] >= 40 * 200 * 0.25, "a quarter of what there was in its 40 seconds; half would be fair"


def test_rate_follows_what_is_admitted() -> None:
    """An account gets more when the service has moved it."""
    service = Service(100)

    async def main() -> None:
        async def more() -> None:
            await asyncio.sleep(15)
            service.rate = 400

        await asyncio.gather(more(), *(client(service, 40) for _ in range(2)))

    virtually(main())

    assert service.between(5, 15)[0] >= 85
    assert service.between(25, 40)[0] >= 0.85 * 400


@pytest.mark.parametrize("seconds", [1, 10, 60])
@pytest.mark.parametrize("limit", [200, 1e9])
def test_account_recovers_within_seconds_of_an_outage(limit: float, seconds: float) -> None:
    """A training that waited out an outage must not crawl when it is over; in it, the service is left in peace."""
    end = 10 + seconds
    service = Service(limit, latency=0.1, away=lambda: 10 <= now() < end)

    async def main() -> None:
        await asyncio.gather(*(client(service, end + 15, in_flight=16) for _ in range(4)))

    virtually(main())

    before = min(limit, service.between(5, 10)[0])
    after, _ = service.between(end + 8, end + 15)
    asked_meanwhile = sum(10.5 <= at < end for at, _ in service.answers)
    assert after >= 0.7 * before
    assert asked_meanwhile <= 4 * (100 + 6 * seconds)


def test_one_refusal_is_no_limit() -> None:
    """A blip on a busy account must not slow thousands of requests down."""
    service = Service(1e9, latency=0.01)
    pace = Pace("account")

    async def main() -> float:
        async def blip() -> None:
            if not service.answers:
                service.answers.append((now(), False))
                raise refusal()
            await service()

        await asked(blip, pace)
        limited = pace.limited
        for _ in range(100):
            await asked(service, pace)
        assert limited
        return now()

    assert virtually(main()) < 100 * 0.01 + 0.5
    assert not pace.limited


def test_wait_that_the_service_asked_for_is_all_it_costs() -> None:
    """One 503 with ``Retry-After: 1`` is a second, plus a little that keeps clients apart."""
    left = iter([refusal(headers={"Retry-After": "1"})])

    async def once() -> None:
        if (error := next(left, None)) is not None:
            raise error

    async def main() -> float:
        await asked(once, Pace("account"))
        return now()

    assert 1 <= virtually(main()) < 1.1


@pytest.mark.parametrize("part", [0.05, 0.1, 0.3])
def test_refusals_that_are_not_of_the_rate_do_not_stop_an_account(part: float) -> None:
    """A part of the service may be unwell for minutes, and asking less does not cure it; then the rate has to recover.

    Half of the rate is given up for seconds at a time to find that out, and some runs are unlucky: what counts is what
    is left in the mean of several, and that none comes near nothing.
    """

    def sick(seed: int, *, paced: bool) -> Service:
        service = Service(1e9, latency=0.2, away=lambda: now() < 60 and random.random() < part)
        virtually(client(service, 80, paced=paced), seed)
        return service

    free = sick(0, paced=False).between(5, 60)[0]
    services = [sick(seed, paced=True) for seed in range(4)]

    during = [service.between(5, 60)[0] / free for service in services]
    after = [service.between(72, 80)[0] / (32 / 0.2) for service in services]
    assert min(during) >= 0.5, during
    assert sum(during) / len(during) >= 0.8, during
    assert min(after) >= 0.95, after


@pytest.mark.parametrize("seed", range(5))
def test_refusals_that_are_not_of_the_rate_starve_nobody(seed: int) -> None:
    """Where 30 % are refused whatever the rate is, falling again and again would end at nothing."""
    service = Service(1e9, latency=0.02, away=lambda: random.random() < 0.3)

    async def main() -> float:
        await client(service, count=2000)
        return now()

    # Without any refusal it were 1.3 s. The time of a request that is refused nine times in a row is in it.
    assert virtually(main(), seed) < 60


def test_turns_go_to_those_who_have_to_end_first() -> None:
    """A request that is repeated must not be overtaken by new ones for ever."""
    order = []

    async def main() -> None:
        pace = await limited()

        async def wait(end: float) -> None:
            await pace.turn(end)
            order.append(end)

        await asyncio.gather(*(wait(end) for end in (50, 10, 40, 20, 20, 30)))

    virtually(main())

    assert sorted(order) == order


async def limited() -> Pace:
    """Return a pace of a few requests a second, the next turn of which is not now."""
    pace = Pace("account")
    pace.refused(now())
    for _ in range(40):
        await pace.turn(now() + 100)
        pace.refused(now())
        await asyncio.sleep(0.05)
    assert pace.rate < 10
    await pace.turn(now() + 100)
    return pace


@pytest.mark.parametrize("survivors", [0, 1])
def test_cancelled_wait_leaves_nothing(survivors: int) -> None:
    """A read that is given up while it waits takes no turn, and holds neither timer nor memory."""

    async def main() -> None:
        pace = await limited()
        kept = [asyncio.create_task(pace.turn(1000)) for _ in range(survivors)]
        given_up = [asyncio.create_task(pace.turn(end)) for end in range(100)]
        await asyncio.sleep(0)
        for task in given_up:
            task.cancel()
        await asyncio.wait(given_up)
        start = now()
        if kept:
            await asyncio.gather(*kept)
            assert now() - start < 1, "the turns of those that were cancelled are not waited for"
        gone = weakref.ref(pace)
        del pace, kept, given_up, task
        gc.collect()
        assert gone() is None, "something on the loop still holds it"

    virtually(main())


def test_turn_that_comes_as_the_wait_is_cancelled_is_the_next_ones() -> None:
    """Else each such cancellation would slow the account down."""

    async def main() -> None:
        pace = await limited()
        first, second = (asyncio.create_task(pace.turn(end)) for end in (1, 2))
        await asyncio.sleep(0)
        start = now()
        loop = asyncio.get_running_loop()
        while not first.done():
            # At the moment of its turn the future is done, and the task not yet awake.
            loop.call_soon(first.cancel)
            await asyncio.sleep(0.01)
        await second
        assert now() - start < 1

    virtually(main())


def test_waiting_counts_against_the_deadline() -> None:
    """No call outlasts its deadline, and one that was never sent says why."""
    options = TransferOptions(deadline=0.1)

    async def never() -> None:
        raise AssertionError

    async def main() -> TransferStats:
        pace, stats = await limited(), TransferStats()
        with pytest.raises(BlobTimeoutError, match=r"there was no turn; the deadline of 0\.1 s passed .* 0 attempts"):
            await asked(never, pace, stats, options)
        return stats

    stats = virtually(main())

    assert (stats.requests, stats.in_flight) == (0, 0)
    assert stats.waited == pytest.approx(0.1)


@pytest.mark.parametrize(("status", "throttled"), [(503, True), (429, True), (500, False), (408, False)])
def test_counters_tell_what_happened(status: int, throttled: bool) -> None:
    """A user who wonders why training is slow looks at them first."""
    stats = TransferStats()
    seen = []

    async def attempt() -> None:
        seen.append(stats.in_flight)
        await asyncio.sleep(0.1)
        if len(seen) < 3:
            raise refusal(status)

    async def main() -> float:
        await asked(attempt, Pace("account"), stats)
        return now()

    took = virtually(main())

    assert seen == [1, 1, 1]
    assert (stats.requests, stats.retries, stats.in_flight) == (3, 2, 0)
    assert stats.throttled == 2 * throttled
    assert stats.waited == pytest.approx(took - 0.3)


def test_refusals_for_ever_end_with_what_the_service_said() -> None:
    """The last answer is worth more than the fact that time is over."""

    async def attempt() -> None:
        raise refusal()

    async def main() -> float:
        with pytest.raises(BlobServiceError, match="503 ServerBusy"):
            await asked(attempt, Pace("account"), options=TransferOptions(deadline=20))
        return now()

    assert virtually(main()) <= 20
