"""The tables of docs/faults.md, from the cases and from what came of them when they were played; and their sums.

The sums, in docs/reliability.md, are made of the cases and of the other document, so they need no play of their own.
"""

from __future__ import annotations

__all__ = ["DOCUMENT", "GUIDE", "TABLES", "Played", "declared", "render", "replace_table", "shown", "summary"]

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.faults.case import Case, Outcome, Result, Table
from tests.faults.read_answers import ANSWERS
from tests.faults.read_azurite import AZURITE
from tests.faults.read_busy import BUSY
from tests.faults.read_connection import CONNECTION
from tests.faults.read_hosts import HOSTS
from tests.faults.read_listing import LISTING
from tests.faults.read_refused import REFUSED
from tests.faults.read_verified import VERIFIED
from tests.faults.read_versions import VERSIONS
from tests.faults.write_connection import SENDING
from tests.faults.write_damaged import DAMAGED
from tests.faults.write_emulated import EMULATED
from tests.faults.write_foreign import FOREIGN
from tests.faults.write_outcome import CREATING, UNKNOWN
from tests.faults.write_passing import BLOCKS, COMMITS, SINGLES
from tests.faults.write_refused import EARLY, NOWHERE, REFUSALS
from tests.faults.write_rivals import RIVALS

READS: tuple[Table, ...] = (CONNECTION, HOSTS, ANSWERS, VERIFIED, VERSIONS, BUSY, REFUSED, LISTING, AZURITE)
WRITES: tuple[Table, ...] = (
    BLOCKS,
    COMMITS,
    SINGLES,
    SENDING,
    REFUSALS,
    EARLY,
    NOWHERE,
    UNKNOWN,
    CREATING,
    DAMAGED,
    RIVALS,
    FOREIGN,
    EMULATED,
)
TABLES = (*READS, *WRITES)

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "faults.md"
GUIDE = DOCUMENT.with_name("reliability.md")

_HEAD = "| what happens | how it is used | outcome | seconds | requests |"
_RULE = "| --- | --- | --- | --- | --- |"
_SUMMARY_HEAD = "| kind of fault | cases | exact | an error | slowest, s |"
_SUMMARY_RULE = "| --- | --- | --- | --- | --- |"


@dataclass(frozen=True, slots=True)
class Played:
    """One case with the results of all its uses."""

    case: Case
    results: Sequence[Result]


def declared(case: Case) -> tuple[str, str, str]:
    """Return the first cells of a case's row: what does not depend on the run."""
    return case.name, ", ".join(use.name for use in case.uses), case.outcome.text


def render(played: Sequence[Played]) -> str:
    """Return the rows of a table.

    Seconds are those of the slowest use, and the most that are allowed; requests are the fewest and the most that any
    use sent.
    """
    rows = [_HEAD, _RULE]
    for item in played:
        seconds = max(result.seconds for result in item.results)
        counts = sorted({result.requests for result in item.results})
        requests = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
        cells = (*declared(item.case), f"{seconds:.1f} of {item.case.seconds:g}", requests)
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def replace_table(text: str, name: str, rows: str) -> str:
    """Put rows between the markers of a table.

    :raises ValueError: if the text does not have them exactly once.
    """
    changed, count = _block(name).subn(lambda match: f"{match[1]}\n{rows}\n{match[3]}", text)
    if count != 1:
        raise ValueError(f"the document has {count} places for table {name!r} instead of one")
    return changed


def shown(text: str) -> Mapping[str, list[tuple[str, str, str]]]:
    """Return what the document declares, by the names of its tables."""
    tables: dict[str, list[tuple[str, str, str]]] = {}
    for name in re.findall(r"<!-- table: (\S+) -->", text):
        match = _block(name).search(text)
        rows = match[2].strip().splitlines()[2:] if match else []
        cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
        tables[name] = [(row[0], row[1], row[2]) for row in cells]
    return tables


def summary(text: str, tables: Sequence[Table] = TABLES) -> str:
    """Return the rows that sum up the tables of a document, each with a link to the heading that it stands under.

    :param text: the document, with the tables as they were written last.
    :raises ValueError: if a table is not in it under a heading of its own.
    """
    rows = [_SUMMARY_HEAD, _SUMMARY_RULE]
    seen: set[str] = set()
    total, failing, slowest = 0, 0, 0.0
    for table in tables:
        match = _block(table.name).search(text)
        heading = re.findall(r"^## (.+)$", text[: match.start()], re.MULTILINE)[-1:] if match else []
        if match is None or not heading or heading[0] in seen:
            raise ValueError(f"table {table.name!r} has no heading of its own in the document")
        seen.update(heading)
        seconds = max(float(cell) for cell in re.findall(r"\| ([\d.]+) of [\d.]+ \|", match[2]))
        errors = [case.outcome for case in table.cases if case.outcome.error is not None]
        cells = (
            f"[{heading[0]}]({DOCUMENT.name}#{_fragment(heading[0])})",
            str(len(table.cases)),
            str(len(table.cases) - len(errors)),
            _in_short(errors),
            f"{seconds:.1f}",
        )
        rows.append(f"| {' | '.join(cells)} |")
        total, failing, slowest = total + len(table.cases), failing + len(errors), max(slowest, seconds)
    rows.append(f"| all | {total} | {total - failing} | {failing} | {slowest:.1f} |")
    return "\n".join(rows)


def _in_short(errors: Sequence[Outcome]) -> str:
    """Return how many cases end in an error, in which ones, and what writes among them leave."""
    classes: dict[str, None] = {}
    left: dict[str, None] = {}
    for outcome in errors:
        parts = outcome.text.split(", ")
        classes.update(dict.fromkeys(name for part in parts for name in re.findall("`.+?`", part)))
        left[", ".join(part for part in parts if "`" not in part)] = None
    text = f"{len(errors)}: {', '.join(classes)}" if errors else "0"
    return "; ".join(filter(None, (text, *left)))


def _fragment(heading: str) -> str:
    """Return what follows the ``#`` in links to a heading."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def _block(name: str) -> re.Pattern[str]:
    return re.compile(rf"(<!-- table: {re.escape(name)} -->)\n(.*?)(<!-- end of table -->)", re.DOTALL)
