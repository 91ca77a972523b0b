"""What connections take in memory beside the buffers of a transfer, as far as it is put on the account."""

from __future__ import annotations

import pytest

from azstoragetorch import TransferOptions
from azstoragetorch._values.beside import AT_ONCE, PLENTY, TLS, beside
from azstoragetorch._values.options import KiB, MiB

OPTIONS = TransferOptions(range_size=8 * MiB, in_flight=4)


@pytest.mark.parametrize("size", [0, 4 * KiB, MiB, 100 * MiB])
def test_plain_http_takes_nothing(size: int) -> None:
    """A connection has 20 KiB there: to account for them would only hold back small samples."""
    assert beside("http", size, OPTIONS) == 0


def test_smallest_request_pays_for_its_connection() -> None:
    """256 connections that bring 4 KiB each are 80 MiB over https, whatever they bring."""
    assert TLS <= beside("https", 0, OPTIONS) <= beside("https", 4 * KiB, OPTIONS) < TLS + 8 * KiB


def test_grows_up_to_what_is_received_at_once() -> None:
    """More than that never waits for its decryption, so larger requests take no more."""
    sizes = [beside("https", size, OPTIONS) for size in (0, 100 * KiB, AT_ONCE, MiB, 3 * MiB)]
    assert sizes == sorted(sizes)
    assert sizes[-1] == sizes[-2] == sizes[-3]


@pytest.mark.parametrize("size", [PLENTY - 1, PLENTY, 64 * MiB])
def test_never_more_than_a_twelfth_of_what_is_large(size: int) -> None:
    """Ranges of a file are as many at a time as without it."""
    assert beside("https", size, OPTIONS) * 12 <= size


def test_every_range_of_one_blob_has_its_connection() -> None:
    """A sample of 1 MiB in ranges of 64 KiB keeps as many connections busy as there may be requests."""
    small = TransferOptions(range_size=64 * KiB, in_flight=4)
    one = beside("https", 64 * KiB, small)
    assert [beside("https", count * 64 * KiB, small) for count in (1, 2, 4, 16)] == [one, 2 * one, 4 * one, 4 * one]
