"""What of a SAS explains a refusal: the most frequent failure there is, and the service only says "403"."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from azstoragetorch._values.sas import Need, objections, sas_fields, shown_fields, shown_span

NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)
BLOB = "sv=2024-11-04&st=2029-12-31T00%3A00%3A00Z&se=2030-01-02T00%3A00%3A00Z&sr=b&sp=rw&sig=x"
ACCOUNT = "sv=2024-11-04&ss=b&srt=co&sp=rwl&se=2030-01-02&spr=https&sig=x"


def objected(query: str, right: Literal["r", "w", "l"] = "r", **need: Any) -> list[str]:
    return list(objections(sas_fields(query), Need(right, **{"secure": True, **need}), NOW))


@pytest.mark.parametrize(
    ("query", "right", "need"),
    [
        (BLOB, "r", {}),
        (BLOB, "w", {}),
        (BLOB, "r", {"secure": False}),
        (BLOB.replace("sr=b", "sr=bs"), "r", {"snapshot": True}),
        (BLOB.replace("sr=b", "sr=bv"), "r", {"version": True}),
        (BLOB.replace("sr=b&sp=rw", "sr=c&sp=rl"), "l", {}),
        (BLOB.replace("sr=b&sp=rw", "sr=d&sdd=2&sp=rl"), "l", {}),
        (ACCOUNT, "r", {}),
        (ACCOUNT, "l", {}),
        ("sv=1&sr=c&si=policy&sig=x", "w", {}),
        (BLOB.replace("2030-01-02T00%3A00%3A00Z", "2030-01-01T12%3A00%3A01.5Z"), "r", {}),
    ],
)
def test_sas_that_fits_is_not_blamed(query: str, right: Literal["r", "w", "l"], need: dict[str, bool]) -> None:
    """A wrong reason costs more time than none."""
    assert objected(query, right, **need) == []


@pytest.mark.parametrize(
    ("query", "right", "need", "words"),
    [
        (BLOB.replace("2030-01-02", "2029-12-30"), "r", {}, "expired at 2029-12-30T00:00:00Z (se=), 2 days ago"),
        (BLOB.replace("2030-01-02T00%3A00%3A00Z", "2030-01-01T12%3A00%3A00Z"), "r", {}, "0 seconds ago"),
        (BLOB.replace("2030-01-02T00%3A00%3A00Z", "2030-01-01"), "r", {}, "expired at 2030-01-01 (se=), 12 hours ago"),
        (BLOB.replace("2029-12-31T00", "2030-01-01T15"), "r", {}, "before 2030-01-01T15:00:00Z (st=), in 3 hours"),
        (f"{BLOB}&ske=2030-01-01T11%3A59%3A00Z", "r", {}, "user delegation key that expired at 2030-01-01T11:59:00Z"),
        (BLOB.replace("se=2030", "se=soon"), "r", {}, "a time that cannot be read (se=)"),
        (BLOB, "l", {}, "lacks the permission 'l' that listing needs (it has sp=rw)"),
        (BLOB.replace("sp=rw", "sp=w"), "r", {}, "lacks the permission 'r' that reading needs (it has sp=w)"),
        (BLOB.replace("sp=rw", "sp=rc"), "w", {}, "lacks the permission 'w' that writing needs (it has sp=rc)"),
        (BLOB.replace("sp=rw", "sp="), "w", {}, "lacks the permission 'w' that writing needs"),
        (BLOB.replace("sp=rw", "sp=rl"), "l", {}, "is for one blob (sr=b), and listing needs one for the container"),
        (BLOB.replace("sr=b", "sr=bv"), "r", {}, "is for one version of a blob (sr=bv), and the URL names none"),
        (BLOB.replace("sr=b", "sr=bs"), "r", {}, "is for one snapshot of a blob (sr=bs), and the URL names none"),
        (ACCOUNT.replace("ss=b", "ss=fq"), "r", {}, "is not for blobs (b in ss=)"),
        (ACCOUNT.replace("srt=co", "srt=c"), "r", {}, "is not for objects (o in srt=)"),
        (ACCOUNT.replace("srt=co", "srt=o"), "l", {}, "is not for containers (c in srt=)"),
        (ACCOUNT, "r", {"secure": False}, "allows https only (spr=)"),
        ("sv=1&sr=b&sp=r&se=2031-01-01", "r", {}, "is incomplete, sig= missing"),
        ("sv=1&sig=x", "r", {}, "is incomplete, sr= or srt= and se= and sp= missing"),
        ("?", "r", {}, "is incomplete, sv= and sig="),
    ],
)
def test_reason_is_named(query: str, right: Literal["r", "w", "l"], need: dict[str, bool], words: str) -> None:
    """With the field, so that whoever makes the next one knows what to change."""
    assert any(words in objection for objection in objected(query, right, **need))


def test_all_reasons_are_named() -> None:
    """Else the next SAS fails for the second of them."""
    assert len(objected(BLOB.replace("2030-01-02", "2029-12-30").replace("sp=rw", "sp=l"), "w")) == 2


@given(st.sampled_from(["st", "se", "ske", "sp", "sr", "ss", "srt", "sv", "spr"]), st.sampled_from("rwl"))
def test_no_field_shows_what_was_pasted_into_it(name: str, right: Any) -> None:
    """A signature or key under the wrong name is still a secret."""
    secret = "Ab3/canary+4567890123456789012345678901234567890=="
    fields = {**sas_fields(BLOB), name: secret, "sig": secret}
    said = [*objections(fields, Need(right, secure=False), NOW), shown_fields(fields)]
    assert not any("canary" in text or "Ab3" in text for text in said)


@given(st.text(max_size=80))
def test_any_text_is_taken_as_a_query(query: str) -> None:
    """What is in the credential was never checked by anybody, and this runs while an error is told."""
    assert objected(query) is not None
    assert shown_fields(sas_fields(query)) is not None


def test_shown_fields_are_those_that_decide() -> None:
    """For the case in which they all fit."""
    assert shown_fields(sas_fields(BLOB)) == "sp=rw, sr=b, st=2029-12-31T00:00:00Z, se=2030-01-02T00:00:00Z"


@pytest.mark.parametrize(
    ("seconds", "words"), [(0, "0 seconds"), (-61, "1 minute"), (7300, "2 hours"), (86400, "1 day"), (3e7, "347 days")]
)
def test_span_is_told_in_its_largest_unit(seconds: float, words: str) -> None:
    """Nobody reads "expired 187200 seconds ago"."""
    assert shown_span(timedelta(seconds=seconds)) == words
