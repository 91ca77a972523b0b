"""What follows from a measurement: the formula of docs/check.md, with numbers that a reader can compute along."""

from __future__ import annotations

import pytest

from azstoragetorch._check import speed
from azstoragetorch._check.access import Found, parse_url
from azstoragetorch._check.screen import shown_rate, shown_size, shown_time
from azstoragetorch._check.speed import Level, advice, worth_trying
from azstoragetorch._values.url import BlobUrl, ContainerUrl

KiB, MiB = 1024, 1024 * 1024
URL = "https://acct.blob.core.windows.net/data"


def found(size: int, count: int = 10) -> Found:
    container = ContainerUrl.parse(URL)
    return Found([(container.blob(f"{number}"), size) for number in range(count)])


def level(in_flight: int, per_second: int, size: int, cpu: float = 0.1) -> Level:
    return Level(in_flight, per_second * size, per_second, 1.0, cpu)


def advised(
    monkeypatch: pytest.MonkeyPatch, size: int, levels: list[Level], transform: float = 0.0, cores: int = 8
) -> list[str]:
    monkeypatch.setattr(speed, "cores", lambda: cores)
    return [text for _, text in advice(found(size), levels, transform)]


def test_fewest_requests_that_fill_the_link_are_suggested(monkeypatch: pytest.MonkeyPatch) -> None:
    """More under way than that only take memory: 800 a second, of 40 ms each, are 32."""
    levels = [level(1, 48, 100 * KiB), level(8, 390, 100 * KiB), level(32, 800, 100 * KiB), level(128, 850, 100 * KiB)]
    first, *_ = advised(monkeypatch, 100 * KiB, levels)
    assert first == "prefetch=32: 800 samples of 100 KiB a second * 40 ms for each"


def test_slow_link_is_not_asked_for_more_than_comes_in_time() -> None:
    """At 1 MiB a second 32 requests of 4 MiB would all pass their deadline, and with it goes what was measured."""
    slow = [level(1, 1, MiB), level(8, 1, MiB)]
    assert worth_trying(8, 4 * MiB, slow[:1], 120)
    assert not worth_trying(32, 4 * MiB, slow, 120)
    assert worth_trying(32, 4 * MiB, [level(1, 1, MiB), level(8, 8, MiB)], 120)


def test_more_requests_than_bring_more_are_not_tried() -> None:
    """128 take 8 MB of memory for blobs of 64 KiB, and time."""
    full = [level(8, 100, 64 * KiB), level(32, 105, 64 * KiB)]
    assert not worth_trying(128, 64 * KiB, full, 120)
    assert worth_trying(128, 64 * KiB, [full[0], level(32, 400, 64 * KiB)], 120)


def test_samples_of_several_requests_count_as_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests are of 4 MiB at most: 32 of them are 8 samples of 16 MiB, which is more than half the budget holds."""
    texts = advised(monkeypatch, 16 * MiB, [level(1, 10, 4 * MiB), level(32, 100, 4 * MiB)])
    assert texts[0].startswith("prefetch=8: 25 samples of 16 MiB a second * 320 ms")
    assert texts[1].startswith("options=TransferOptions(memory_budget=256 * 2**20)")


@pytest.mark.parametrize(
    ("transform", "workers"), [(0.0, 1), (0.001, 1), (0.005, 4), (0.02, 8)], ids=["none", "1 ms", "5 ms", "20 ms"]
)
def test_workers_are_the_cores_that_fetching_and_transform_take(
    monkeypatch: pytest.MonkeyPatch, transform: float, workers: int
) -> None:
    """0.1 cores fetch 700 a second; 700 * 5 ms are 3.5 cores more; and there are 8."""
    levels = [level(32, 700, 100 * KiB)]
    texts = advised(monkeypatch, 100 * KiB, levels, transform)
    assert texts[1].startswith(f"num_workers={workers}: ")
    assert ("expect 397 samples a second" in texts[-1]) == (transform == 0.02)  # 700 * 8 / 14.1


def test_busy_process_is_told_from_a_full_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the measured rate is that of one process, and says nothing of the network."""
    assert "try another worker" in advised(monkeypatch, KiB, [level(32, 3000, KiB, cpu=0.95)])[-1]


def test_single_blob_has_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a checkpoint: 1 GB at 500 MB/s."""
    [(_, text)] = advice(Found([(BlobUrl.parse(f"{URL}/a"), 10**9)]), [Level(32, 10**9, 238, 2.0, 0.5)], 0.0)
    assert text == "reading all of it takes about 2.0 s at 500 MB/s"


def test_blobs_that_no_dataset_fetches_ahead_are_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Checkpoints: more prefetch would change nothing."""
    texts = advised(monkeypatch, 1000 * MiB, [level(32, 50, 4 * MiB)])
    assert texts[0] == "reading one of 1.0 GiB takes about 5.0 s at 210 MB/s"
    assert "larger than 64 MiB (prefetch_max_blob)" in texts[1]
    assert len(texts) == 2


def test_numbers_have_few_digits() -> None:
    """They are for eyes."""
    assert [shown_size(size) for size in (1, 999, 1024, 20_000, 5 << 40)] == [
        *("1 bytes", "999 bytes", "1.0 KiB", "20 KiB", "5.0 TiB")
    ]
    assert [shown_rate(rate) for rate in (5, 60e6, 1.25e9, 2e12)] == ["5 B/s", "60 MB/s", "1.2 GB/s", "2000 GB/s"]
    assert [shown_time(seconds) for seconds in (0.0008, 0.021, 3.21)] == ["0.8 ms", "21 ms", "3.2 s"]


@pytest.mark.parametrize(
    ("text", "kind"),
    [(URL, ContainerUrl), (f"{URL}/a/b?versionid=1", BlobUrl), ("https://acct.blob.core.windows.net/a.pth", BlobUrl)],
)
def test_url_tells_what_it_is_of(text: str, kind: type) -> None:
    """A name behind an account that can be a container is one, although a blob of $root could be called so."""
    assert type(parse_url(text)) is kind
