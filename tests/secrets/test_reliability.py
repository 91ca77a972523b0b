"""A token and an account key go through the faults of docs/faults.md.

Both through one case of each kind (one of them, where it lasts until a deadline), one of them through each case that
ends at once or after one repetition. A SAS in the URL goes through all cases there are, in tests/faults.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any, TypeAlias

import pytest

from azstoragetorch import TransferOptions
from azstoragetorch._data.access import Access as DataAccess
from azstoragetorch._data.blob import Blob
from azstoragetorch._data.loading import checked_loading
from azstoragetorch._values.url import BlobUrl
from azstoragetorch.aio import AsyncBlobIO
from azstoragetorch.io import BlobIO
from tests.faults.case import Case, Table, Use
from tests.faults.play import play, watch
from tests.faults.read_answers import ANSWERS
from tests.faults.read_busy import BUSY
from tests.faults.read_connection import CONNECTION
from tests.faults.read_hosts import HOSTS
from tests.faults.read_refused import REFUSED
from tests.faults.read_verified import VERIFIED
from tests.faults.read_versions import VERSIONS
from tests.faults.scene import Scene, Stage
from tests.faults.write_connection import SENDING
from tests.faults.write_damaged import DAMAGED
from tests.faults.write_outcome import CREATING, UNKNOWN
from tests.faults.write_passing import BLOCKS, COMMITS, SINGLES
from tests.faults.write_refused import NOWHERE, REFUSALS
from tests.secrets.accesses import Access, key, token
from tests.secrets.canaries import TOKEN, found_in, texts_of

pytestmark = pytest.mark.timeout(60)

Run: TypeAlias = Callable[[Scene, TransferOptions], bytes | Awaitable[bytes | None] | None]

READS: Sequence[tuple[Table, str]] = (
    (CONNECTION, "connection reset before an answer, always"),
    (CONNECTION, "connection closed within the body, once"),
    (CONNECTION, "an answer that is not HTTP, always"),
    (CONNECTION, "no answer, once"),
    (CONNECTION, "nothing more within the body, always"),
    (CONNECTION, "body slower than `min_rate`, once"),
    (CONNECTION, "all connections dropped while ranges are under way"),
    (HOSTS, "connection refused, always"),
    (HOSTS, "certificate not trusted"),
    (HOSTS, "TLS handshake cut, always"),
    (ANSWERS, "no ETag, once for a range of many"),
    (ANSWERS, "range ignored, the whole blob with status 200, always"),
    (ANSWERS, "redirect to another host"),
    (VERIFIED, "a flipped bit, always"),
    (VERSIONS, "blob replaced by one as large between two ranges"),
    (BUSY, "503 ServerBusy, always"),
    (BUSY, "429 TooManyRequests, three times"),
    (REFUSED, "403, wrong credential"),
    (REFUSED, "403 of a proxy: a page of HTML"),
    (REFUSED, "404, no such container"),
    (REFUSED, "403 for one of many ranges while others are under way"),
)

WRITES: Sequence[tuple[Table, str]] = (
    (BLOCKS, "Put Block: 503 ServerBusy, always"),
    (BLOCKS, "Put Block: connection reset within what is sent, always"),
    (COMMITS, "Put Block List: 500 InternalError, three times"),
    (COMMITS, "Put Block List: an answer that is not HTTP, always"),
    (SINGLES, "Put Blob: no answer, always"),
    (SINGLES, "Put Blob: reset when it was applied, always"),
    (SENDING, "idle connections closed by the service between two blocks"),
    (REFUSALS, "Put Block: 403 of a proxy"),
    (REFUSALS, "Put Blob: 400 InvalidHeaderValue"),
    (REFUSALS, "Put Block List: redirect to another host"),
    (NOWHERE, "blocks: certificate not trusted"),
    (NOWHERE, "one request: connection refused, always"),
    (UNKNOWN, "Put Block List and the question after it: reset when it was applied, always"),
    (CREATING, "the blob exists"),
    (CREATING, "the blob appears before the commit"),
    (DAMAGED, 'bit flipped in the block, once, `checksum="md5"`'),
)


QUICK = 1.2
"""Seconds that a case may take to be played here without having been chosen. It takes a tenth of that."""


@pytest.fixture(scope="module")
def stage(request: pytest.FixtureRequest) -> Stage:
    """As that of the fault suite; no case here is one of the emulator, which takes no token."""
    return Stage(lambda: request.getfixturevalue("azurite"), lambda: request.getfixturevalue("tls_files"))


def reads(access: Access) -> dict[str, Run]:
    """Ways to read the blob with a credential."""

    def by_file(scene: Scene, options: TransferOptions) -> bytes:
        url, credential = access(scene.shown)
        with BlobIO(url, "rb", credential=credential, options=options) as file:
            return file.read()

    async def by_async_file(scene: Scene, options: TransferOptions) -> bytes:
        url, credential = access(scene.shown)
        async with AsyncBlobIO(url, "rb", credential=credential, options=options) as file:
            return await file.read()

    def by_dataset(scene: Scene, options: TransferOptions) -> bytes:
        url, credential = access(scene.shown)
        made = checked_loading(DataAccess.of(credential, options), None, 4, "raise")
        with closing(made.samples([Blob(BlobUrl.parse(url), made.access)])) as samples:
            (sample,) = samples
        return bytes(sample["data"])

    return {"BlobIO": by_file, "AsyncBlobIO": by_async_file, "dataset": by_dataset}


def writes(access: Access, mode: Any) -> dict[str, Run]:
    """Ways to write the blob with a credential."""

    def by_file(scene: Scene, options: TransferOptions) -> None:
        url, credential = access(scene.shown)
        with BlobIO(url, mode, credential=credential, options=options) as file:
            file.write(scene.written)

    async def by_async_file(scene: Scene, options: TransferOptions) -> None:
        url, credential = access(scene.shown)
        async with AsyncBlobIO(url, mode, credential=credential, options=options) as file:
            await file.write(scene.written)

    return {"BlobIO": by_file, "AsyncBlobIO": by_async_file}


def named(table: Table, name: str) -> Case:
    """Return the case of this name.

    :raises ValueError: if there is none any more.
    """
    (case,) = (case for case in table.cases if case.name == name)
    return case


def played(stage: Stage, case: Case, access: Access, use: Use) -> None:
    """Play the case with a credential in the place of the SAS, and look for what is made of the credential, too."""

    def fault(scene: Scene) -> None:
        scene.server.require_sas = None
        scene.server.require_token = TOKEN if access is token else None
        case.fault(scene)

    with watch() as seen:
        result = play(stage, replace(case, fault=fault), use)
    said = [*seen.texts(), *(texts_of(result.error) if result.error is not None else ())]
    assert not found_in(said)
    for record in result.records:
        proof = record.headers["authorization"] if access is token else record.query["sig"]
        assert not [text for text in said if proof in text]


def parameters(chosen: Sequence[tuple[Table, str]]) -> list[Any]:
    """Return ``case, access, turn``: the faces take turns, since what credentials do is the same behind all of them."""
    found = [
        (table, named(table, name), access, number + turn)
        for number, (table, name) in enumerate(chosen)
        for turn, access in enumerate((key, token))
        if not name.endswith("always") or turn == number % 2
    ]
    tables = {table.name: table for table, _ in chosen}.values()
    others = [
        (table, case)
        for table in tables
        for case in table.cases
        if (table, case.name) not in chosen and case.service != "azurite" and case.seconds <= QUICK
    ]
    found += [(table, case, (key, token)[number % 2], number // 2) for number, (table, case) in enumerate(others)]
    return [
        pytest.param(case, access, turn, id=f"{table.name}-{case.name}-{access.__name__}")
        for table, case, access, turn in found
    ]


@pytest.mark.parametrize(("case", "access", "turn"), parameters(READS))
def test_read(stage: Stage, case: Case, access: Access, turn: int) -> None:
    """The outcome is that of a SAS, and nothing of the credential, or made from it, is told."""
    ways = reads(access)
    # Blobs of many ranges are read by files only, here as there.
    possible = [name for name in ways if any(use.name == name for use in case.uses)]
    name = possible[turn % len(possible)]
    played(stage, case, access, Use(name, ways[name]))


@pytest.mark.parametrize(("case", "access", "turn"), parameters(WRITES))
def test_write(stage: Stage, case: Case, access: Access, turn: int) -> None:
    """Blocks, their list, single requests and the questions after them each have an error path of their own."""
    mode = "xb" if any("xb" in use.name for use in case.uses) else "wb"
    ways = writes(access, mode)
    name = list(ways)[turn % len(ways)]
    played(stage, case, access, Use(name, ways[name], again=mode == "wb"))
