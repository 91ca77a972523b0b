"""The command line; ends with status 1 if a goal is missed."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.benchmarks.cases import GOALS, chosen
from tests.benchmarks.kinds import Sizes
from tests.benchmarks.report import outcomes, table, write_json
from tests.benchmarks.rivals import FOLDER_VARIABLE, OLD_VERSION, old_rival, our_rival
from tests.benchmarks.runner import Runner


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks",
        description=f"Measure {OLD_VERSION} and this version in turns.",
        epilog="goals, each with its first figure:\n" + "\n".join(_titles()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", default="", metavar="P1,P3", help="only these goals, see below")
    parser.add_argument("--repeat", type=int, default=3, help="turns of every case; medians are judged")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every single run to FILE")
    rivals = parser.add_mutually_exclusive_group()
    rivals.add_argument(
        "--old-python",
        metavar="PATH",
        help=f"interpreter that has azstoragetorch {OLD_VERSION}; by default one is made in ${FOLDER_VARIABLE} "
        f"or in .tox",
    )
    rivals.add_argument(
        "--ours-only", action="store_true", help=f"leave out {OLD_VERSION}: no ratios, no verdict on them"
    )
    options = parser.parse_args()
    if options.repeat < 1:
        parser.error("--repeat must be at least 1")
    try:
        goals, cases = chosen([name.strip().upper() for name in options.only.split(",") if name.strip()])
    except ValueError as error:
        parser.error(str(error))
    sizes = Sizes()
    takers = [our_rival()] if options.ours_only else [old_rival(options.old_python), our_rival()]
    with tempfile.TemporaryDirectory() as folder, Runner(takers, sizes, Path(folder), note=_note) as runner:
        runs = runner.run(cases, options.repeat)
    judged = outcomes(goals, runs, sizes)
    print(table(judged, runs))
    if options.json is not None:
        write_json(options.json, judged, runs, sizes)
    return int(any(one.reached is False for one in judged))


def _titles() -> Iterator[str]:
    """Say what the names of the goals stand for."""
    firsts = {goal.name: goal for goal in reversed(GOALS)}
    for name in sorted(firsts, key=lambda name: (name[0], int(name[1:]))):
        goal = firsts[name]
        bound = "" if goal.least is None else f" ({goal.least:g} times less than {OLD_VERSION})"
        yield f"  {name:4} {goal.title}{bound}"


def _note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
