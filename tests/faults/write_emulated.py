"""Writes to Azurite behind the proxy: its answers to second tries and to questions were written by others than ours."""

from __future__ import annotations

__all__ = ["EMULATED"]

from dataclasses import replace

from tests.faults.case import Table
from tests.faults.write_passing import BLOCKS, COMMITS, SINGLES
from tests.faults.writing import WRITE

_PLAYED = {
    "503 ServerBusy, once",
    "connection reset before the answer, once",
    "connection closed within what is sent, once",
    "no answer, once",
    "reset when it was applied, once",
    "reset when it was applied, always",
    "applied, no answer, always",
    "connection reset before the answer, always",
}

EMULATED = Table(
    "writes-emulator",
    tuple(
        replace(case, service="azurite", uses=(WRITE,), seconds=case.seconds + 1)
        for table in (BLOCKS, COMMITS, SINGLES)
        for case in table.cases
        if case.name.partition(": ")[2] in _PLAYED
    ),
)
