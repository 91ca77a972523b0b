"""The arguments of ``python -m azstoragetorch``, and what comes of them."""

from __future__ import annotations

import argparse
import sys

from azstoragetorch._check.about import about
from azstoragetorch._check.screen import line

__all__ = ["main"]


def main(arguments: list[str]) -> int:
    """Run the program and return its exit status: 0, or 1 if a step failed, or 2 if the arguments are wrong."""
    parser = _parser()
    given = parser.parse_args(arguments)
    for label, text in about():
        line(label, text)
    if given.url is None:
        return 0
    given.url = sys.stdin.readline().strip() if given.url == "-" else given.url
    try:
        from azstoragetorch._check.visit import visit  # a missing package is told above, not in a traceback
    except ImportError as error:
        line("needs", f"FAILED  {error}")
        return 1
    try:
        return visit(given)
    except KeyboardInterrupt:
        print()
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m azstoragetorch",
        description="Say what is installed. With a URL: check step by step whether it can be reached, measure how fast "
        "it is, and suggest prefetch and num_workers. The exit status is 0 if every step succeeded, else 1.",
    )
    parser.add_argument(
        "url",
        nargs="?",
        metavar="URL",
        help="of a container or a blob, with a SAS or without; - reads it from the standard input, so that a SAS is in "
        "no list of processes and no history of a shell",
    )
    parser.add_argument("--anonymous", action="store_true", help="send no credential, as credential=False does")
    parser.add_argument(
        "--write", action="store_true", help="also write 16 MiB under a new name, and delete them again"
    )
    parser.add_argument(
        "--seconds",
        metavar="S",
        type=number,
        default=2.0,
        help="for each of up to five measurements; 0 for none (default: 2)",
    )
    parser.add_argument(
        "--timeout",
        metavar="S",
        type=timeout,
        default=20.0,
        help="seconds that one step may take, with its retries (default: 20); writing and measuring may take 120",
    )
    parser.add_argument(
        "--transform-ms",
        metavar="MS",
        type=number,
        default=0.0,
        help="milliseconds your transform computes for one sample",
    )
    return parser


def number(text: str) -> float:
    """Read an argument; argparse says the name of this function where it is none."""
    value = float(text)
    if not 0 <= value <= 3600:
        raise argparse.ArgumentTypeError("must be between 0 and 3600")
    return value


def timeout(text: str) -> float:
    """Read an argument that must not be 0."""
    value = number(text)
    if value == 0:
        raise argparse.ArgumentTypeError("must be more than 0")
    return value
