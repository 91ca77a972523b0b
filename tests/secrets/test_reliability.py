"""A token and an account key go through the faults of docs/faults.md, as a SAS in the URL does in tests/faults.

Both through one case of each kind (one of them, where it lasts until a deadline), one of them through each case that
ends at once or after one repetition; with ``AZSTORAGETORCH_SOAK`` both through all cases there are.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from tests.faults.case import Case, Table, Use
from tests.faults.play import play, watch
from tests.faults.read_answers import ANSWERS
from tests.faults.read_busy import BUSY
from tests.faults.read_connection import CONNECTION
from tests.faults.read_hosts import HOSTS
from tests.faults.read_refused import REFUSED
from tests.faults.read_verified import VERIFIED
from tests.faults.read_versions import VERSIONS
from tests.faults.scene import Stage
from tests.faults.tables import TABLES
from tests.faults.write_connection import SENDING
from tests.faults.write_damaged import DAMAGED
from tests.faults.write_outcome import CREATING, UNKNOWN
from tests.faults.write_passing import BLOCKS, COMMITS, SINGLES
from tests.faults.write_refused import NOWHERE, REFUSALS
from tests.secrets.accesses import Access, key, token
from tests.secrets.canaries import SIGNATURE, TOKEN, texts_of

pytestmark = pytest.mark.timeout(60)

CHOSEN: Sequence[tuple[Table, str]] = (
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

SOAK = bool(os.environ.get("AZSTORAGETORCH_SOAK"))

QUICK = 1.2
"""Seconds that a case may take to be played here without having been chosen. It takes a tenth of that."""


def named(table: Table, name: str) -> Case:
    """Return the case of this name.

    :raises ValueError: if there is none any more.
    """
    (case,) = (case for case in table.cases if case.name == name)
    return case


def parameters() -> list[Any]:
    """Return ``case, use, access``: the uses take turns, since what credentials do is the same behind all of them."""
    turns: list[tuple[Table, Case, Access, int]] = []
    for number, (table, name) in enumerate(CHOSEN):
        for turn, access in enumerate((key, token)):
            if SOAK or not name.endswith("always") or turn == number % 2:
                turns.append((table, named(table, name), access, number + turn))
    others = [(table, case) for table in TABLES for case in table.cases if (table, case.name) not in CHOSEN]
    if not SOAK:
        others = [(table, case) for table, case in others if case.service != "azurite" and case.seconds <= QUICK]
    for number, (table, case) in enumerate(others):
        accesses = (key, token) if SOAK else ((key, token)[number % 2],)
        turns += [(table, case, access, number // 2) for access in accesses]
    return [
        pytest.param(case, case.uses[turn % len(case.uses)], access, id=f"{table.name}-{case.name}-{access.__name__}")
        for table, case, access, turn in turns
        if not (case.service == "azurite" and access is token)  # the emulator takes tokens over https only
    ]


@pytest.mark.parametrize(("case", "use", "access"), parameters())
def test_fault(request: pytest.FixtureRequest, case: Case, use: Use, access: Access) -> None:
    """The outcome is that of a SAS, and nothing of the credential, or made from it, is told."""
    stage = Stage(lambda: request.getfixturevalue("azurite"), lambda: request.getfixturevalue("tls_files"), access)
    if access is token and "401" in case.name:
        # A new token is got, and each request sent once more with it.
        case = replace(case, requests=(case.bounds[0], 2 * case.bounds[1]))
    with watch() as seen:
        result = play(stage, case, use)
    said = [*seen.texts(), *(texts_of(result.error) if result.error is not None else ())]
    for record in result.records:
        signature = record.query.get("sig")
        if signature is None:
            assert record.headers["authorization"] == f"Bearer {TOKEN}"
        else:
            assert signature == SIGNATURE or access is key, "not of the client"
            assert not [text for text in said if signature in text], "a signature made of the key is given away"
