"""Play all cases, or the tables that are named, and write docs/faults.md, and its sums into docs/reliability.md."""

from __future__ import annotations

import argparse
import gc
import sys
import tempfile
import time
from contextlib import ExitStack
from functools import cache
from pathlib import Path

from tests.azurite.launcher import Azurite
from tests.conftest import TlsFiles, make_tls_files
from tests.faults.play import play
from tests.faults.scene import Stage
from tests.faults.tables import DOCUMENT, GUIDE, TABLES, Played, render, replace_table, summary


def main() -> int:
    """Return the number of cases that did not end as they should; nothing is written for a table that has any."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("tables", nargs="*", metavar="TABLE", help="of " + ", ".join(table.name for table in TABLES))
    chosen = parser.parse_args().tables
    unknown = set(chosen) - {table.name for table in TABLES}
    if unknown:
        parser.error(f"no such table: {', '.join(sorted(unknown))}")
    failures = 0
    with ExitStack() as stack:

        @cache
        def azurite() -> Azurite:
            return stack.enter_context(Azurite())

        @cache
        def tls() -> TlsFiles:
            return make_tls_files(Path(stack.enter_context(tempfile.TemporaryDirectory())))

        stage = Stage(azurite, tls)
        gc.collect()
        gc.freeze()  # as in conftest.py
        for table in TABLES:
            if chosen and table.name not in chosen:
                continue
            started = time.perf_counter()
            played: list[Played] = []
            wrong = 0
            for case in table.cases:
                try:
                    played.append(Played(case, [play(stage, case, use) for use in case.uses]))
                except AssertionError as error:
                    wrong += 1
                    print(f"{table.name}: {case.name}: {error}", file=sys.stderr)
            print(f"{table.name}: {len(table.cases)} cases in {time.perf_counter() - started:.0f} s, {wrong} wrong")
            failures += wrong
            if not wrong:
                DOCUMENT.write_text(replace_table(DOCUMENT.read_text(), table.name, render(played)))
        GUIDE.write_text(replace_table(GUIDE.read_text(), "summary", summary(DOCUMENT.read_text())))
    return failures


if __name__ == "__main__":
    sys.exit(min(main(), 100))
