"""Two writers of one blob never make a third content of it; one that loses is told."""

from __future__ import annotations

import threading

import pytest

from azstoragetorch._face import Mode
from azstoragetorch.exceptions import BlobExistsError, BlobModifiedError
from azstoragetorch.io import BlobIO
from tests.faults.case import BRIEF, Case, Use, runs
from tests.faults.play import play
from tests.faults.scene import Stage
from tests.faults.write_foreign import FOREIGN
from tests.faults.write_rivals import RIVALS

pytestmark = pytest.mark.timeout(60)


@pytest.mark.parametrize(("case", "use"), runs(RIVALS.cases))
def test_rival(stage: Stage, case: Case, use: Use) -> None:
    """Two ranks that save under one name."""
    play(stage, case, use)


@pytest.mark.parametrize(("case", "use"), runs(FOREIGN.cases))
def test_what_others_left_or_hold(stage: Stage, case: Case, use: Use) -> None:
    """Leases, other types of blobs and the blocks of an upload that crashed: nothing of that is replaced silently."""
    play(stage, case, use)


@pytest.mark.parametrize(("mode", "error"), [("wb", BlobModifiedError), ("xb", BlobExistsError)])
def test_commits_at_the_same_moment(container_url: str, mode: Mode, error: type[Exception]) -> None:
    """In the tables one comes first. Where nobody knows who does, still exactly one of many wins, and wins whole."""
    base, _, sas = container_url.partition("?")
    url = f"{base}/model?{sas}"
    contents = [bytes([letter]) * 70_000 for letter in b"abcdef"]
    files = [BlobIO(url, mode, options=BRIEF) for _ in contents]
    for file, content in zip(files, contents, strict=True):
        file.write(content)
        file.flush()
    outcomes: dict[int, BaseException | None] = {}
    together = threading.Barrier(len(files))

    def close(index: int) -> None:
        together.wait(20)
        try:
            files[index].close()
        except error as failure:
            outcomes[index] = failure
        else:
            outcomes[index] = None

    threads = [threading.Thread(target=close, args=(index,)) for index in range(len(files))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(outcomes) == len(files)
    (winner,) = (index for index, failure in outcomes.items() if failure is None)
    assert [file.committed for file in files] == [index == winner for index in range(len(files))]
    with BlobIO(url, "rb") as file:
        assert file.read() == contents[winner]
