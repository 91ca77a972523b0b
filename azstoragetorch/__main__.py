"""``python -m azstoragetorch``: what is installed, and with a URL whether it can be reached and how fast it is."""

from __future__ import annotations

import sys

from azstoragetorch._check.program import main

__all__ = ["main"]

if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
