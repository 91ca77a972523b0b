"""Memory stays within the budget, however much is moved and however slow the connections are."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import TlsFiles
from tests.faults.memory_use import BUDGET, MOST, WORKS, MiB, growth

pytestmark = pytest.mark.timeout(120)


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("what", WORKS)
def test_budget_holds(what: str, scheme: str, tls_files: TlsFiles, tmp_path: Path) -> None:
    """256 MiB with a budget of 32: whoever gave eight workers a sixteenth of a machine's memory each relies on it."""
    tls = tls_files if scheme == "https" else None
    peak, seconds = growth(what, 256 * MiB, tmp_path, tls, seconds=100)
    print(f"{what} over {scheme}: {peak / MiB:.1f} MiB for a budget of {BUDGET / MiB:.0f}, in {seconds:.1f} s")
    assert peak <= MOST
