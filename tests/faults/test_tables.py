"""What docs/reliability.md promises is what is tested."""

from __future__ import annotations

import pytest

from tests.faults.case import BRIEF, Case, Result, Table, raises
from tests.faults.reading import FILE
from tests.faults.tables import DOCUMENT, TABLES, Played, declared, render, replace_table, shown

AGAIN = "play the cases and write the tables: python -m tests.faults"


def _case(name: str) -> Case:
    return Case(
        name=name, fault=lambda scene: None, outcome=raises(ValueError), requests=1, uses=(FILE,), options=BRIEF
    )


def test_document_shows_every_table() -> None:
    """A case that nobody can look up promises nothing."""
    assert list(shown(DOCUMENT.read_text())) == [table.name for table in TABLES], AGAIN


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_document_says_what_the_cases_say(table: Table) -> None:
    """Names and outcomes; the measured figures are those of the last run that was written."""
    assert shown(DOCUMENT.read_text())[table.name] == [declared(case) for case in table.cases], AGAIN


def test_table_survives_being_written() -> None:
    """Or the comparison above compares nothing."""
    cases = [_case("reset, once"), _case("reset `x`, always")]
    results = [[Result(None, b"", 0.24, ())], [Result(None, b"", 1.2, ()), Result(None, b"", 0.1, ())]]
    played = [Played(case, result) for case, result in zip(cases, results, strict=True)]
    text = (
        "before\n<!-- table: some -->\nold\n<!-- end of table -->\nafter <!-- table: other -->\n<!-- end of table -->"
    )

    written = replace_table(text, "some", render(played))

    assert shown(written)["some"] == [declared(case) for case in cases]
    assert shown(written)["other"] == []
    assert "| 1.2 of 5 | 0 |" in written
    assert written.startswith("before\n")
    assert replace_table(written, "some", render(played)) == written


def test_table_without_a_place_is_refused() -> None:
    """A new table must not vanish without a word."""
    with pytest.raises(ValueError, match="0 places for table 'new'"):
        replace_table("nothing", "new", "")
