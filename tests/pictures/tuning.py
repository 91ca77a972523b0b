"""The rows of the tables of docs/tuning.md: what an option's smaller and larger values cost."""

from __future__ import annotations

from collections.abc import Mapping

from azstoragetorch import TransferOptions
from tests.benchmarks.kinds import MIB, Case
from tests.benchmarks.tuning_cases import TUNING_CASES
from tests.pictures.figures import Figures, amount

__all__ = ["HEAD", "rows_of_options"]

HEAD = ("what", "option", "time", "CPU", "peak memory")

PIECES: Mapping[str, tuple[str, str]] = {
    "readinto": ("reads", "`readinto` of 512 MiB"),
    "load": ("reads", "`torch.load` of 512 MB"),
    "write": ("writes", "`write` of 512 MiB"),
    "save": ("writes", "`torch.save` of 512 MB"),
    "samples": ("samples", "1,000 samples of 100 KiB"),
    "heavy": ("samples", "64 samples of 4 MiB"),
}
"""By piece, or by container: the table that it belongs to, and what it is called there."""


def rows_of_options(figures: Figures) -> dict[str, list[list[str]]]:
    """Return the rows of each table; none of a table whose cases were not run."""
    found: dict[str, list[list[str]]] = {table: [] for table, _ in PIECES.values()}
    for case in TUNING_CASES:
        if figures.of(case.name, "ours", lambda run: run.wall) is not None:
            table, title = PIECES[case.container or case.piece]
            found[table].append([title, _option(case), *_cells(figures, case)])
    return found


def _option(case: Case) -> str:
    """Write the option that a case sets; in bold where it is the default."""
    [(name, value)] = case.options.items() if case.options else [("prefetch", case.prefetch)]
    default = 32 if name == "prefetch" else getattr(TransferOptions(), name)  # an argument of datasets, and no option
    shown = f"{value // MIB} MiB" if isinstance(value, int) and value >= MIB else f"{value}"
    text = f"`{name}` {shown}"
    return f"**{text}**" if value == default else text


def _cells(figures: Figures, case: Case) -> list[str]:
    # What was loaded is memory of the caller.
    payload = figures.sizes.state if case.piece == "load" else 0
    peak = figures.need(case.name, "ours", lambda run: run.peak) - payload
    times = [figures.need(case.name, "ours", what) for what in (lambda run: run.wall, lambda run: run.cpu)]
    return [*(f"{amount(seconds)} s" for seconds in times), f"{peak / MIB:.0f} MiB"]
