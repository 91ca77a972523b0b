"""A listing by several ranges at a time is that from the first page to the last, whatever names there are."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from azstoragetorch._azure.container import AzureContainer
from azstoragetorch._transfer.listing import Collected, collect
from azstoragetorch._values.options import TransferOptions
from azstoragetorch._values.stats import TransferStats
from azstoragetorch._values.url import ContainerUrl, wrong_name
from azstoragetorch.aio import AsyncBlobIO, aclose
from azstoragetorch.exceptions import BlobAccessError, BlobServiceError, ContainerNotFoundError
from tests.blobserver import BlobServer, Hold, Status, on
from tests.blobserver.content import BytesContent
from tests.blobserver.wire import Request

RANGES = 4

pytestmark = pytest.mark.usefixtures("no_blocking_call")


async def listed(
    url: str,
    prefix: str | None = None,
    *,
    page_size: int = 10,
    ranges: int = RANGES,
    progress: Callable[[int], object] = lambda count: None,
) -> Collected:
    container = await AzureContainer.open(ContainerUrl.parse(url), False, TransferOptions(), TransferStats())
    found = await collect(container, prefix, deadline=30, ranges=ranges, page_size=page_size, listed=progress)
    assert asyncio.all_tasks() == {asyncio.current_task()}
    return found


async def names(url: str, prefix: str | None = None, *, page_size: int = 10, ranges: int = RANGES) -> list[str]:
    return names_of(await listed(url, prefix, page_size=page_size, ranges=ranges))


def names_of(found: Collected) -> list[str]:
    return [blob.name for chunk in found.chunks for blob in chunk]


def starts(server: BlobServer) -> list[str]:
    """Return the names that ranges were asked for from."""
    queries = [request.query for request in server.requests("GET", comp="list")]
    return [query["startFrom"] for query in queries if "startFrom" in query and "marker" not in query]


def in_a_range(request: Request) -> bool:
    return "startFrom" in request.query


def fill(server: BlobServer, names: list[str]) -> None:
    for name in names:
        server.put(name, b"x")


EVEN = [f"train/{i:05}.jpg" for i in range(1000)]
SKEWED: dict[str, list[str]] = {
    "even": EVEN,
    "one directory has nearly all": [f"a/{i:04}" for i in range(10)]
    + [f"m/deep/er/{i:04}" for i in range(980)]
    + ["z"],
    "all behind a few": [f"0{i}" for i in range(20)] + [f"z/{i:06}" for i in range(980)],
    "all before a few": [f"a{i:03}" for i in range(980)] + [f"z{i:02}" for i in range(20)],
    "many directories of all sizes": [f"c{c:02}/{i:04}" for c in range(40) for i in range(c * c % 53)],
    "hashes": [f"{random.Random(i).getrandbits(128):032x}" for i in range(1000)],
    "dates": [f"2025-{m:02}-{d:02}T{h:02}" for m in range(1, 13) for d in range(1, 29) for h in range(0, 24, 8)],
    "long common beginning": [f"{'x/' * 100}{i:05}" for i in range(1000)],
    "all scripts": sorted({chr(c) + chr(d) for c in range(0x4E00, 0x4E20) for d in range(0x1F600, 0x1F620)}),
}


@pytest.mark.parametrize("kind", SKEWED)
async def test_same_as_one_page_after_the_other(server: BlobServer, kind: str) -> None:
    """However names are distributed, each is listed once, in order, and by more than one request at a time."""
    expected = sorted(SKEWED[kind])
    fill(server, expected)

    assert await names(server.container_url) == expected

    assert starts(server), "it was tried"
    # Questions have a bound, whatever the names are: 32, one more for each page, and the rest of a page at each bound.
    assert len(server.requests("GET", comp="list")) <= 2 * (len(expected) // 10) + 40


async def test_names_that_cannot_be_cut_are_listed_in_order(server: BlobServer) -> None:
    """Where no character is known that a name in the middle could have, one page follows the other."""
    expected = ["a" * i for i in range(1, 1000)]
    fill(server, expected)

    assert await names(server.container_url) == expected


async def test_even_names_are_listed_by_all_ranges(server: BlobServer) -> None:
    """The point of it: a listing of 200 pages should not take 200 round trips."""
    server.put_listing(100_000)
    server.latency = 0.05  # longer than the work for a page, so that requests overlap

    found = await listed(server.container_url, page_size=2500)

    assert names_of(found)[::25_000] == [f"{i:06}-0000.bin" for i in range(0, 20, 5)]
    assert sum(map(len, found.chunks)) == 100_000
    assert 2 < server.peak_requests <= RANGES
    assert len(server.requests("GET", comp="list")) < 100


@pytest.mark.parametrize("ranges", [1, 2, 3, 8])
async def test_requests_at_a_time_are_bounded(server: BlobServer, ranges: int) -> None:
    """An account has a limit of its own, and other jobs."""
    fill(server, EVEN)
    server.latency = 0.002

    assert await names(server.container_url, ranges=ranges) == EVEN

    assert server.peak_requests <= ranges
    assert (ranges == 1) == (not starts(server))


@pytest.mark.parametrize("count", [0, 1, 10, 11, 20])
async def test_small_containers_are_not_cut(server: BlobServer, count: int) -> None:
    """Two pages take as long as a page and a question."""
    fill(server, EVEN[:count])

    assert await names(server.container_url) == EVEN[:count]

    assert not starts(server)
    assert len(server.requests("GET", comp="list")) == max(1, -(-count // 10))


@pytest.mark.parametrize("prefix", ["train/", "train/000", "a b/%41+#?", "ü\n"])
async def test_ranges_stay_below_the_prefix(server: BlobServer, prefix: str) -> None:
    """What lies before and behind it is not asked for."""
    wanted = [f"{prefix}{i:04}" for i in range(100)]
    fill(server, [*wanted, "a", "zzz", *(f"{i}" for i in range(50))])

    assert await names(server.container_url, prefix) == wanted

    assert starts(server)
    assert all(start.startswith(prefix) for start in starts(server))


async def test_service_that_ignores_the_start_is_listed_in_order(server: BlobServer) -> None:
    """The emulator did for long: every range would bring the same names."""
    fill(server, EVEN)
    server.start_from = False

    assert await names(server.container_url) == EVEN

    in_order = [r for r in server.requests("GET", comp="list") if "startFrom" not in r.query]
    assert len(in_order) == 100, "each page once"
    assert len(starts(server)) < RANGES, "and it was not tried again"


@pytest.mark.parametrize(
    "refusal",
    [
        Status(400, "InvalidQueryParameterValue"),
        Status(400, "InvalidHeaderValue"),
        Status(403, "AuthorizationFailure"),
        Status(409, "FeatureVersionMismatch"),
    ],
    ids=["parameter", "version", "signature", "feature"],
)
async def test_service_that_refuses_the_start_is_listed_in_order(server: BlobServer, refusal: Status) -> None:
    """Older services and gateways do not know the parameter, or its version of the protocol."""
    fill(server, EVEN)
    server.fault(on("GET", "list", when=in_a_range), refusal, times=None)

    assert await names(server.container_url) == EVEN

    assert len(starts(server)) < RANGES


async def test_service_that_begins_elsewhere_is_listed_in_order(server: BlobServer) -> None:
    """A start that is off by some names would lose them without any sign."""
    fill(server, EVEN)
    page = server.store.page

    def shifted(container: str, prefix: str, after: str, count: int, start: str = "") -> object:
        return page(container, prefix, after, count, start and start + "9")

    server.store.page = shifted  # type: ignore[method-assign,assignment]

    assert await names(server.container_url) == EVEN


def depth_first(name: str) -> str:
    """Sort as a hierarchical namespace does: a directory's content comes before all names that go on otherwise."""
    return name.replace("/", "\0")


HIERARCHY = [
    f"{a}{s}{b:02}{t}{c}" for a in "ab" for s in ("/", "-", "") for b in range(20) for t in ("/", ".", "") for c in "xy"
]


@pytest.mark.parametrize("order", [depth_first, str.lower, lambda name: name[::-1]], ids=["depth", "case", "none"])
async def test_service_with_another_order_is_listed_whole(server: BlobServer, order: Callable[[str], str]) -> None:
    """Bounds mean something else there; nothing may be lost, and the result is sorted as everywhere."""
    expected = sorted({*HIERARCHY, *(name.upper() for name in HIERARCHY)})
    fill(server, expected)
    ranked = sorted(expected, key=lambda name: (order(name), name))

    def page(container: str, prefix: str, after: str, count: int, start: str = "") -> object:
        first = ranked.index(after) + 1 if after else 0
        while start and first < len(ranked) and (order(ranked[first]), ranked[first]) < (order(start), start):
            first += 1
        chosen = [(name, server.version(name)) for name in ranked[first : first + count]]
        return chosen, first + count < len(ranked)

    server.store.page = page  # type: ignore[method-assign,assignment]

    assert await names(server.container_url, page_size=7) == expected


async def test_blob_sent_twice_is_listed_once(server: BlobServer) -> None:
    """A blob written during the listing may show on two pages; as two samples it would be seen twice an epoch."""
    fill(server, EVEN[:100])
    page = server.store.page

    def overlapping(container: str, prefix: str, after: str, count: int, start: str = "") -> object:
        blobs, more = page(container, prefix, after, count, start)
        return ([(after, server.version(after)), *blobs] if after else blobs), more

    server.store.page = overlapping  # type: ignore[method-assign,assignment]

    assert await names(server.container_url) == EVEN[:100]


async def test_blob_deleted_at_a_seam_costs_time_and_nothing_else(server: BlobServer) -> None:
    """Ranges that do not fit together any more are thrown away."""
    fill(server, EVEN)
    page = server.store.page
    gone: list[str] = []

    def once(container: str, prefix: str, after: str, count: int, start: str = "") -> object:
        blobs, more = page(container, prefix, after, count, start)
        if start and not after and blobs and not gone:
            gone.append(blobs[0][0])  # the range before will not find it
            server.delete(gone[0])
        return blobs, more

    server.store.page = once  # type: ignore[method-assign,assignment]

    found = await names(server.container_url, ranges=2)

    assert len(gone) == 1
    assert set(EVEN) - set(gone) <= set(found) <= set(EVEN)
    assert found == sorted(set(found))


async def test_directories_and_archived_blobs_are_counted_once(server: BlobServer) -> None:
    """The pages of two ranges overlap at their bounds."""
    blobs: list[str] = []
    archived: list[str] = []
    directories: list[str] = []
    for i in range(600):
        name = f"d{i // 30:02}/{i:04}"
        (blobs, archived, directories)[i % 7 % 3].append(name)
        if i % 7 % 3 == 0:
            server.put(name, b"x")
        elif i % 7 % 3 == 1:
            server.put(name, b"x", tier="Archive")
        else:
            server.put_directory(name)

    found = await listed(server.container_url)

    assert starts(server)
    assert names_of(found) == blobs
    assert found.archived == archived
    assert found.directories == len(directories)


async def test_progress_adds_up(server: BlobServer) -> None:
    """A progress bar shows the number of blobs."""
    fill(server, EVEN)
    counts: list[int] = []

    await listed(server.container_url, progress=counts.append)

    assert sum(counts) == len(EVEN)


async def test_failing_range_fails_the_listing(server: BlobServer) -> None:
    """One typed error, and nothing goes on behind it."""
    fill(server, EVEN)
    server.fault(
        on("GET", "list", when=lambda r: "marker" in r.query), Status(403, "AuthorizationFailure"), nth=5, times=None
    )

    with pytest.raises(BlobAccessError):
        await names(server.container_url)

    await ended(server)


async def test_error_of_the_service_in_a_range_is_not_taken_for_ignorance(server: BlobServer) -> None:
    """A 501 says nothing about the other requests that would be repeated."""
    fill(server, EVEN)
    server.fault(on("GET", "list", when=in_a_range), Status(501, "NotImplemented"), times=None)

    with pytest.raises(BlobServiceError, match="501"):
        await names(server.container_url)

    await ended(server)


async def test_missing_container_is_asked_for_once(server: BlobServer) -> None:
    """A typing error must not cost ranges."""
    with pytest.raises(ContainerNotFoundError):
        await names(f"{server.account_url}/nowhere")

    assert len(server.requests("GET", comp="list")) == 1


@pytest.mark.parametrize("ranged", [False, True])
async def test_cancelled_listing_leaves_nothing(server: BlobServer, ranged: bool) -> None:
    """Ctrl-C while all ranges are under way."""
    fill(server, EVEN)
    rule = server.fault(on("GET", "list", when=lambda r: in_a_range(r) == ranged), Hold(), times=None, nth=3)
    task = asyncio.create_task(names(server.container_url))
    await asyncio.to_thread(rule.wait)

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    await ended(server)


async def test_azurite_is_listed_whole(container_url: str) -> None:
    """The emulator is what users develop with: whatever it makes of ranges, every blob is there once."""
    url = ContainerUrl.parse(container_url)
    expected = [f"{i:02} ü+%" for i in range(40)]
    for name in expected:
        async with AsyncBlobIO(f"{url.blob(name).url}?{url.sas}", "wb") as file:
            await file.write(b"x")

    assert await names(container_url, page_size=5) == expected


async def ended(server: BlobServer) -> None:
    """Fail if the loop has anything left of a listing."""
    assert asyncio.all_tasks() == {asyncio.current_task()}
    await aclose()
    await asyncio.to_thread(server.wait_closed)


WORDS = st.text(st.sampled_from("abz09/-._ é\U0001f600"), min_size=1, max_size=6)
LISTS = st.one_of(
    st.sets(WORDS, max_size=80),
    st.builds(
        lambda heads, tails: {head + tail for head in heads for tail in tails},
        st.sets(WORDS, max_size=6),
        st.sets(WORDS, max_size=20),
    ),
    st.builds(
        lambda head, numbers, width: {f"{head}{n:0{width}}" for n in numbers},
        WORDS,
        st.sets(st.integers(0, 10**6), max_size=150),
        st.integers(1, 7),
    ),
)
_containers = itertools.count()


@pytest.fixture(scope="module")
def shared_server() -> Iterator[BlobServer]:
    with BlobServer() as server:
        yield server
    assert not server.malformed
    assert not server.errors


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
@given(LISTS, st.integers(1, 7), st.integers(2, 6), st.sampled_from(["", "a", "ab", "a/", "0"]), st.booleans())
def test_any_names(
    shared_server: BlobServer, chosen: set[str], page_size: int, ranges: int, prefix: str, honoured: bool
) -> None:
    """No set of names is lost at a seam, and none is listed twice."""
    server = shared_server
    container = f"c{next(_containers):06}"
    server.store.create_container(container)
    chosen = {name for name in chosen if wrong_name(name) is None}  # the others have a test of their own
    for name in chosen:
        server.store.put(container, name, BytesContent(b"x"))
    server.start_from = honoured

    async def run() -> list[str]:
        found = await names(f"{server.account_url}/{container}", prefix, page_size=page_size, ranges=ranges)
        await aclose()
        return found

    assert asyncio.run(run()) == sorted(name for name in chosen if name.startswith(prefix))
