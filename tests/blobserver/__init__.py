"""A strict, scriptable Blob service for tests and benchmarks; standard library only."""

from __future__ import annotations

from tests.blobserver.actions import (
    Call,
    ContentRange,
    CutBody,
    CutUpload,
    Delay,
    Drop,
    FlipBit,
    Garbage,
    Hang,
    Header,
    Hold,
    IgnoreRange,
    LoseAnswer,
    Redirect,
    ReplaceBody,
    ShortBody,
    StallBody,
    StallUpload,
    Status,
    Trickle,
)
from tests.blobserver.admit import Admit
from tests.blobserver.content import SyntheticContent, crc32, synthetic_bytes
from tests.blobserver.faults import Action, Match, Rule, on
from tests.blobserver.log import Record
from tests.blobserver.process import ServerProcess
from tests.blobserver.server import BlobServer
from tests.blobserver.store import Block, Version

__all__ = [
    "Action",
    "Admit",
    "BlobServer",
    "Block",
    "Call",
    "ContentRange",
    "CutBody",
    "CutUpload",
    "Delay",
    "Drop",
    "FlipBit",
    "Garbage",
    "Hang",
    "Header",
    "Hold",
    "IgnoreRange",
    "LoseAnswer",
    "Match",
    "Record",
    "Redirect",
    "ReplaceBody",
    "Rule",
    "ServerProcess",
    "ShortBody",
    "StallBody",
    "StallUpload",
    "Status",
    "SyntheticContent",
    "Trickle",
    "Version",
    "crc32",
    "on",
    "synthetic_bytes",
]
