"""The tables of figures in README.md and docs/, between markers that say which one it is.

A figure is the median of a case; a ratio is bold where the goal beside it is missed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from tests.pictures.figures import OLD, Figures, amount, times
from tests.pictures.tuning import HEAD, rows_of_options

__all__ = ["PAGES", "filled", "figures_of", "tables"]

ROOT = Path(__file__).resolve().parents[2]
PAGES = (ROOT / "README.md", *(ROOT / "docs" / f"{name}.md" for name in ("performance", "tuning", "observability")))


@dataclass(frozen=True, slots=True)
class Row:
    """One goal that is a ratio.

    :ivar unit: of the goal, which names it together with the case.
    :ivar show: writes a figure of the goal; with its unit, if nothing is given.
    :ivar floor: what the floor is, in a word or two; nothing is shown of it without.
    :ivar requests: tell how many requests it took.
    """

    title: str
    case: str
    unit: str
    show: Callable[[float], str] | None = None
    floor: str = ""
    requests: bool = False


@dataclass(frozen=True, slots=True)
class Bound:
    """One goal that is a bound: case, unit and the beginning of its title name it."""

    title: str
    case: str
    unit: str
    goal: str = ""
    digits: int = 0


def _rate(milliseconds: float) -> str:
    return f"{amount(1000 / milliseconds)} samples/s"


FILES = (
    Row("`torch.load`, far, https", "load https", "s", floor="memory", requests=True),
    Row("the same, http", "load http", "s", floor="memory", requests=True),
    Row("`torch.save`, far, https", "save https", "s", floor="memory"),
    Row("the same, http with MD5 (the default there)", "save http", "s", floor="memory"),
    Row("`readinto` of 512 MiB, near, https: CPU", "readinto", "s/GB", floor="TLS socket"),
    Row("`read` of the same: CPU", "read", "s/GB", floor="TLS socket"),
    Row("`readinto` of the same: time", "readinto", "s", floor="TLS socket"),
    Row("`read` of the same: time", "read", "s", floor="TLS socket"),
    Row("`write` of 512 MiB, near, https: CPU", "write", "s/GB", floor="TLS socket"),
)
DATASETS = (
    Row("iterate, far, http", "iterate far http", "ms", _rate),
    Row("the same, https", "iterate far https", "ms", _rate),
    Row("iterate, near, http: CPU a sample", "iterate http", "us", floor="socket"),
    Row("the same, https", "iterate https", "us", floor="TLS socket"),
    Row("`DataLoader`, map-style, shuffled, 2 workers, far, http", "batches far http", "ms", _rate),
    Row("the same, https", "batches far https", "ms", _rate),
    Row("map-style dataset of 20,000 blobs: time", "list 20,000", "s"),
    Row("the same: peak memory", "list 20,000", "MB"),
)
PYTHON = (
    Row("a transform of 2 ms", "burn", "ms", floor="alone"),
    Row("of 0.2 ms", "burn 0.2 ms", "ms", floor="alone"),
    Row("of 10 ms, 300 samples", "burn 10 ms", "ms", floor="alone"),
    Row("of 2 ms, http", "burn http", "ms", floor="alone"),
    Row("of 0.2 ms, samples of 4 KiB", "burn tiny", "ms", floor="alone"),
    Row("of 2 ms, 64 samples of 4 MiB", "burn heavy", "ms", floor="alone"),
    Row("of 2 ms, in 2 DataLoader workers, iterable", "burn workers", "ms"),
    Row("the same, map-style", "burn batches", "ms"),
    Row("an endless loop in another thread, 300 samples", "spin", "ms"),
    Row("the same, 64 samples of 4 MiB", "spin heavy", "ms"),
    Row("the same, 300 samples, `DataLoader` without workers, map-style", "spin batches", "ms"),
    Row("nothing, 64 samples of 4 MiB", "heavy", "ms", floor="TLS socket"),
)
"""A sample of each; see `_whole`."""
FILE_BOUNDS = (
    Bound("one blob of 100 KiB: GET requests", "small", "", "one small blob: GET"),
    Bound("the same: HEAD requests", "small", "", "one small blob: HEAD"),
    Bound("`read` of 512 MiB: peak memory, times the blob", "read", "x", digits=1),
    Bound("`torch.load`, http: peak memory above the payload", "load http", "MiB"),
    Bound("`torch.save`, http: peak memory above the payload", "save http", "MiB"),
    Bound("the same, https", "save https", "MiB"),
    Bound("4 KiB at a random place of 1 GiB: fetched", "random first", "KiB"),
)
DATASET_BOUNDS = (
    Bound("map-style dataset of 100,000 blobs, names of 28 characters: kept for each", "pack 100,000", "bytes"),
    Bound("the same: pickled", "pack 100,000", "MB", digits=1),
    Bound("listing of 1,000,000 blobs: kept for each", "list 1,000,000", "bytes"),
    Bound("the same: peak memory", "list 1,000,000", "MB"),
    Bound("a sample: GET requests", "one sample", "", "one sample"),
)
WATCHING = (
    ("the counters of one request", "counters"),
    ("one line that nobody listens to", "silent line"),
    ("tracing that is off, a read", "look for tracing"),
    ("tracing that is off, any other operation", "untraced"),
    ("beside them: a blob of 100 KiB opened, read and closed", "small files"),
    ("the same with tracing on (two spans, a batch processor)", "traced files"),
)
"""Cases whose figure is what they take above an empty loop."""
HEADLINE = (
    Row("`torch.load` of 512 MB in 300 tensors", "load https", "s"),
    Row("`torch.save` of the same", "save https", "s"),
    Row("iterate over 1,000 blobs of 100 KiB", "iterate far https", "ms", _rate),
)
AT_A_TIME = (
    ("`torch.load`, far", "load https"),
    ("`torch.save`, far", "save https"),
    ("`read` of 512 MiB, near", "read"),
    ("iterate, far", "iterate far https"),
    ("`DataLoader`, map-style, 2 workers, far", "batches far https"),
)
"""Cases over https, of which the server counted how many requests it had at a time."""


def tables(figures: Figures) -> dict[str, str]:
    """Return every table by the name in its marker."""
    return {
        "headline": _headline(figures),
        "at a time": _at_a_time(figures),
        "machine": _machine(figures),
        "files": _compared(figures, FILES),
        "bounds of files": _bounds(figures, FILE_BOUNDS, compared=True),
        "checksums": _checksums(figures),
        "datasets": _compared(figures, DATASETS),
        "bounds of datasets": _bounds(figures, DATASET_BOUNDS, compared=False),
        "python": _compared(figures, PYTHON, whole=True),
        "watching": _watching(figures),
        # They take minutes and judge nothing, so a run may be without them.
        **{f"options of {name}": _table(HEAD, rows) if rows else "" for name, rows in rows_of_options(figures).items()},
    }


def filled(text: str, content: dict[str, str]) -> str:
    """Return a page with its tables written anew.

    :raises KeyError: if it has a marker of no table.
    """

    def one(match: re.Match[str]) -> str:
        return f"<!-- figures: {match[1]} -->\n{content[match[1]]}\n<!-- end of figures -->"

    return re.sub(r"<!-- figures: (.+?) -->\n.*?<!-- end of figures -->", one, text, flags=re.DOTALL)


def figures_of(text: str) -> list[str]:
    """Return the names of the tables that a page has."""
    return re.findall(r"<!-- figures: (.+?) -->", text)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _compared(figures: Figures, rows: Sequence[Row], *, whole: bool = False) -> str:
    """Return a table of ratios.

    :param whole: show the seconds of the whole iteration and not of a sample.
    """
    lines = []
    for row in rows:
        outcome = figures.outcome(row.case, row.unit)
        assert outcome.ratio is not None, row.case
        old, ours = (_cell(figures, row, rival, whole) for rival in (OLD, "ours"))
        ratio = f"{times(outcome.ratio)}x"
        floor = f"{_cell(figures, row, 'floor', whole)} ({row.floor})" if row.floor else ""
        lines.append([row.title, old, ours, ratio if outcome.reached else f"**{ratio}**", outcome.target[3:], floor])
    return _table(["what", "0.2.0", "this version", "ratio", "goal", "floor"], lines)


def _cell(figures: Figures, row: Row, rival: str, whole: bool) -> str:
    outcome = figures.outcome(row.case, row.unit)
    value = {OLD: outcome.old, "ours": outcome.ours, "floor": outcome.floor}[rival]
    assert value is not None, (row.case, rival)
    if whole:
        return f"{amount(figures.need(row.case, rival, lambda run: run.wall))} s"
    text = row.show(value) if row.show else f"{amount(value)} {row.unit}"
    if row.requests and rival != "floor":
        text += f", {figures.need(row.case, rival, lambda run: run.requests):.0f} requests"
    return text


def _headline(figures: Figures) -> str:
    lines = []
    for row in HEADLINE:
        ratio = figures.outcome(row.case, row.unit).ratio
        assert ratio is not None, row.case
        old, ours = (
            f"{_cell(figures, row, rival, whole=False)}, {_most(figures, row.case, rival)} at a time"
            for rival in (OLD, "ours")
        )
        lines.append([row.title, old, ours, f"**{times(ratio)} times** as fast"])
    return _table(["", "0.2.0", "this version", ""], lines)


def _at_a_time(figures: Figures) -> str:
    lines = [[title, *(_most(figures, case, rival) for rival in (OLD, "ours"))] for title, case in AT_A_TIME]
    return _table(["requests at a time, at most", "0.2.0", "this version"], lines)


def _most(figures: Figures, case: str, rival: str) -> str:
    return f"{figures.need(case, rival, lambda run: run.peak_requests):.0f}"


def _bounds(figures: Figures, bounds: Sequence[Bound], *, compared: bool) -> str:
    """Return what has a bound of its own, whatever 0.2.0 needs.

    :param compared: say what that is.
    """
    lines = []
    for bound in bounds:
        outcome = figures.outcome(bound.case, bound.unit, bound.goal)
        old, ours = (
            f"{value:.{bound.digits}f} {bound.unit}".strip() for value in (outcome.old or 0, outcome.ours or 0)
        )
        cell = ours if outcome.reached else f"**{ours}**"
        lines.append([bound.title, *([old] if compared else []), cell, outcome.target[3:]])
    return _table(["what", *(["0.2.0"] if compared else []), "this version", "at most"], lines)


def _checksums(figures: Figures) -> str:
    gigabytes = figures.sizes.blob / 1e9
    lines = []
    for name, read, write in (
        ("none", "unverified", "without checksum"),
        ("CRC64", "verified by CRC64", "with CRC64"),
        ("MD5", "verified by MD5", "with MD5"),
    ):
        cells = [
            f"{amount(figures.need(case, 'ours', what) / gigabytes)} s"
            for case in (f"readinto {read}", f"write {write}")
            for what in (lambda run: run.cpu, lambda run: run.wall)
        ]
        lines.append([name, *cells])
    return _table(["", "`readinto`: CPU", "time", "`write`: CPU", "time"], lines)


def _watching(figures: Figures) -> str:
    lines = []
    for title, case in WATCHING:
        outcome = figures.outcome(case, "us")
        microseconds = (outcome.ours or 0) - (outcome.floor or 0)
        lines.append([title, f"{microseconds:.{1 if microseconds < 10 else 0}f}"])
    return _table(["CPU time, in microseconds", ""], lines)


def _machine(figures: Figures) -> str:
    machine, ours, old = figures.machine, figures.versions("ours"), figures.versions(OLD)
    load = median(run.load for run in figures.runs)
    # What follows a plus is which build of torch it was.
    packages = [
        f"{name} {ours[name].partition('+')[0]}" for name in ("torch", "azure-storage-blob", "azure-core", "aiohttp")
    ]
    return (
        f"{figures.date}, {machine['cpus']} shared cores ({machine['architecture']}, {machine['system']} "
        f"{'.'.join(machine['kernel'].split('.')[:2])}), loopback,\nPython {machine['python']}, "
        f"{', '.join(packages)};\n"
        f"0.2.0 with azure-storage-blob {old['azure-storage-blob']}. Medians of {figures.turns()}. "
        f"Client and server share the cores.\nThe load average before a run was {load:.1f} (median)."
    )
