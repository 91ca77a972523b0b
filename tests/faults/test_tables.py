"""What docs/faults.md and docs/reliability.md promise is what is tested."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.faults.case import BRIEF, EXACT, Case, Result, Table, kept, raises
from tests.faults.reading import FILE
from tests.faults.tables import DOCUMENT, GUIDE, TABLES, Played, declared, render, replace_table, shown, summary

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


def test_guide_shows_the_sums_of_all_tables() -> None:
    """Who reads no table still has to know how much was tested, and what came of it."""
    guide = GUIDE.read_text()

    assert replace_table(guide, "summary", summary(DOCUMENT.read_text())) == guide, AGAIN


def test_sums_are_those_of_the_cases() -> None:
    """Or a table may be counted short."""
    kept_one, exact = (replace(_case(name), outcome=outcome) for name, outcome in (("b", kept(OSError)), ("c", EXACT)))
    one, other = Table("one", (_case("a"), kept_one)), Table("other", (exact,))
    text = (
        "## Of `xb`, 1\n<!-- table: one -->\n<!-- end of table -->\n"
        "## More\n<!-- table: other -->\n<!-- end of table -->\n"
    )
    for table, seconds in ((one, (0.26, 1.5)), (other, (3.0,))):
        played = [Played(case, [Result(None, b"", time, ())]) for case, time in zip(table.cases, seconds, strict=True)]
        text = replace_table(text, table.name, render(played))

    assert summary(text, (one, other)).splitlines()[2:] == [
        "| [Of `xb`, 1](faults.md#of-xb-1) | 2 | 0 | 2: `ValueError`, `OSError`; previous content stands | 1.5 |",
        "| [More](faults.md#more) | 1 | 1 | 0 | 3.0 |",
        "| all | 3 | 1 | 2 | 3.0 |",
    ]
    with pytest.raises(ValueError, match="'other' has no heading of its own"):
        summary(text.replace("## More\n", ""), (one, other))


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
