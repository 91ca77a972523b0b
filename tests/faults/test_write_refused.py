"""A write that is refused is one typed error, soon, and nothing of it becomes visible."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from typing import Literal

import pytest

from azstoragetorch import TransferOptions
from azstoragetorch.aio import AsyncBlobIO
from azstoragetorch.exceptions import BlobRequestError, FatalBlobIOWriteError
from azstoragetorch.listing import BlobListing
from tests.blobserver import BlobServer
from tests.faults.case import Case, Use, runs
from tests.faults.play import play
from tests.faults.scene import Stage
from tests.faults.write_refused import EARLY, NOWHERE, REFUSALS

pytestmark = pytest.mark.timeout(60)


@pytest.mark.parametrize(("case", "use"), runs(REFUSALS.cases))
def test_refusal(stage: Stage, case: Case, use: Use) -> None:
    """Asking again would bring the same answer, later."""
    play(stage, case, use)


@pytest.mark.parametrize(("case", "use"), runs(EARLY.cases))
def test_refusal_is_found_before_much_is_sent(stage: Stage, case: Case, use: Use) -> None:
    """A wrong SAS must not be discovered at the end of an upload of gigabytes."""
    play(stage, case, use)


@pytest.mark.parametrize(("case", "use"), runs(NOWHERE.cases))
def test_host_that_cannot_be_reached(stage: Stage, case: Case, use: Use) -> None:
    """A typo in a URL is found at once."""
    play(stage, case, use)


async def test_refused_port_with_the_default_limits() -> None:
    """A service that restarts is waited for, and a wrong port is found within ten seconds, whatever is done there."""
    size = TransferOptions().block_size

    async def write(mode: Literal["wb", "xb"], size: int) -> None:
        async with AsyncBlobIO(closed.url("blob"), mode, credential=False) as file:
            await file.write(bytes(size))

    async def listing() -> None:
        await BlobListing.abuild(closed.container_url, credential=False)

    async def timed(act: Awaitable[None]) -> tuple[type[object], float]:
        start = time.monotonic()
        (error,) = await asyncio.gather(act, return_exceptions=True)
        return type(error), time.monotonic() - start

    with BlobServer(listening=False) as closed:
        expected = [
            (write("wb", 100), BlobRequestError),
            (write("wb", 2 * size), FatalBlobIOWriteError),
            (write("xb", 100), BlobRequestError),
            (write("xb", 2 * size), FatalBlobIOWriteError),
            (write("xb", 0), BlobRequestError),
            (listing(), BlobRequestError),
        ]
        found = await asyncio.gather(*(timed(act) for act, _ in expected))

    assert [error for error, _ in found] == [error for _, error in expected]
    assert all(5 < seconds < 10 for _, seconds in found), found
