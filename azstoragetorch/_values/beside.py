"""What a request takes in memory beside the buffer it fills or drains: the buffers of its connection.

Nobody here allocates them, and Python has no switch to make them smaller, so they are put on the account of memory.
Over plain http they are 20 KiB, and what one turn of the event loop has received; nothing is accounted for that. Over
https `asyncio` keeps for each connection, until it is closed, a buffer to receive into, and in front of the decryption
one that grows to what was received at once.
"""

from __future__ import annotations

from azstoragetorch._values.options import KiB, MiB, TransferOptions

__all__ = ["beside"]

TLS = 320 * KiB
"""Bytes of a connection over TLS that has received little. Measured: 305 to 320 KiB (Python 3.11 to 3.13), of which
256 KiB are the buffer to receive into."""

AT_ONCE = 256 * KiB
"""Most that it receives in one turn of the event loop."""

PLENTY = 8 * MiB
"""Bytes for which the rest is a twelfth more. The budget is a promise to within a fifth, so it is not worth having
fewer ranges of a file at a time."""


def beside(scheme: str, size: int, options: TransferOptions) -> int:
    """Return the bytes to account for, beside ``size`` bytes of one blob, while they are transferred.

    :param scheme: ``"http"`` or ``"https"``.
    :param size: bytes that are asked for; what is more than a range is asked for over several connections.
    """
    each = min(size, options.largest_range)
    if scheme != "https" or each >= PLENTY:
        return 0
    connections = 1 if each == size else min(options.in_flight, -(-size // each))
    # In front of the decryption, or behind the encryption: OpenSSL grows it by thirds. 420 KiB were measured for
    # 100 KiB at once, 600 for 256.
    return connections * (TLS + min(each, AT_ONCE) * 4 // 3)
