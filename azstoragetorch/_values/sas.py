"""What a shared access signature says of itself, and which of it does not fit a request.

A SAS is a query of short pairs: until when it is valid (``se``), from when (``st``), for what (``sp``), on what
(``sr``, or ``ss`` and ``srt`` for one of the whole account), and the signature of all that (``sig``). Everything but
the signature may be shown; but a secret may have been pasted into any pair, so a value is shown only where it looks
like one.
https://learn.microsoft.com/rest/api/storageservices/delegate-access-with-shared-access-signature
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal
from urllib.parse import unquote

__all__ = ["Need", "objections", "sas_fields", "shown_fields", "shown_span"]

_SHOWN = {
    "sp": re.compile(r"[a-z]{1,16}"),
    "sr": re.compile(r"[a-z]{1,2}"),
    "ss": re.compile(r"[a-z]{1,4}"),
    "srt": re.compile(r"[a-z]{1,3}"),
    "st": re.compile(r"[0-9TZ:.+-]{8,33}"),
    "se": re.compile(r"[0-9TZ:.+-]{8,33}"),
    "ske": re.compile(r"[0-9TZ:.+-]{8,33}"),
}

_RESOURCES = {"b": "one blob", "bv": "one version of a blob", "bs": "one snapshot of a blob", "d": "one directory"}

_RIGHTS = {"r": "reading", "w": "writing", "l": "listing"}


@dataclass(frozen=True, slots=True)
class Need:
    """What one request asks of a SAS."""

    right: Literal["r", "w", "l"]
    """Letter of ``sp``. Creating a blob needs ``c`` or ``w``, blocks and overwriting need ``w``."""
    secure: bool
    """Whether it goes over https."""
    snapshot: bool = False
    version: bool = False


def sas_fields(query: str) -> dict[str, str]:
    """Return the pairs of ``query``, decoded, by their names in lower case."""
    pairs = (pair.partition("=") for pair in query.lstrip("?").split("&") if pair)
    return {name.lower(): unquote(value) for name, _, value in pairs}


def shown_fields(fields: Mapping[str, str]) -> str:
    """Return what may be shown of a SAS, such as ``sp=r, sr=b, se=2030-01-01T00:00:00Z``; empty if nothing may."""
    return ", ".join(f"{name}={value}" for name in _SHOWN if (value := _shown(fields, name)) is not None)


def objections(fields: Mapping[str, str], need: Need, now: datetime) -> Iterator[str]:
    """Yield why the service must refuse a request with this SAS, as ends of a sentence that begins with "it".

    :param now: the time by the service's clock.
    """
    missing = [f"{name}=" for name in ("sv", "sig") if not fields.get(name)]
    missing += ["sr= or srt="] if "sr" not in fields and "srt" not in fields else []
    # What a stored access policy says is not in the SAS.
    missing += [f"{name}=" for name in ("se", "sp") if name not in fields and "si" not in fields]
    if missing:
        yield f"is incomplete, {' and '.join(missing)} missing"
    yield from _untimely(fields, now)
    yield from _unfit(fields, need)


def shown_span(span: timedelta) -> str:
    """Return a span of time in its largest unit, such as ``3 hours``."""
    seconds = abs(span.total_seconds())
    for size, unit in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= size:
            count = int(seconds // size)
            return f"{count} {unit}{'s' if count > 1 else ''}"
    return f"{seconds:.0f} seconds"


def _untimely(fields: Mapping[str, str], now: datetime) -> Iterator[str]:
    for name, what in (("se", "expired"), ("ske", "was signed with a user delegation key that expired")):
        end = _time(fields.get(name))
        if end is not None and end <= now:
            yield f"{what} at {_shown(fields, name)} ({name}=), {shown_span(now - end)} ago"
    start = _time(fields.get("st"))
    if start is not None and start > now:
        yield f"is not valid before {_shown(fields, 'st')} (st=), in {shown_span(start - now)}"
    for name in ("st", "se"):
        if name in fields and _time(fields[name]) is None:
            yield f"has a time that cannot be read ({name}=)"


def _unfit(fields: Mapping[str, str], need: Need) -> Iterator[str]:
    doing = _RIGHTS[need.right]
    if "sp" in fields and need.right not in fields["sp"]:
        has = _shown(fields, "sp")
        yield f"lacks the permission {need.right!r} that {doing} needs{f' (it has sp={has})' if has else ''}"
    resource = fields.get("sr")
    if need.right == "l" and resource in ("b", "bv", "bs"):
        yield f"is for {_RESOURCES[resource]} (sr={resource}), and listing needs one for the container (sr=c)"
    elif (resource == "bv" and not need.version) or (resource == "bs" and not need.snapshot):
        parameter = "versionid" if resource == "bv" else "snapshot"
        yield f"is for {_RESOURCES[resource]} (sr={resource}), and the URL names none ({parameter}=)"
    if "ss" in fields and "b" not in fields["ss"]:
        yield "is not for blobs (b in ss=)"
    kind, of = ("c", "containers") if need.right == "l" else ("o", "objects")
    if "srt" in fields and kind not in fields["srt"]:
        yield f"is not for {of} ({kind} in srt=)"
    if fields.get("spr") == "https" and not need.secure:
        yield "allows https only (spr=)"


def _shown(fields: Mapping[str, str], name: str) -> str | None:
    value = fields.get(name, "")
    return value if _SHOWN[name].fullmatch(value) else None


def _time(text: str | None) -> datetime | None:
    if not text:
        return None
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return None
    return time if time.tzinfo is not None else time.replace(tzinfo=UTC)
