"""2 GiB within a budget of 32 MiB: what grows with the size, however slowly, shows here."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import TlsFiles
from tests.faults.memory_use import BUDGET, MOST, WORKS, MiB, growth

pytestmark = pytest.mark.timeout(600)


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("what", WORKS)
def test_budget_holds_for_2_gib(what: str, scheme: str, tls_files: TlsFiles, tmp_path: Path) -> None:
    """Takes 10 to 40 s each: a checkpoint of a real model, an epoch of a real dataset."""
    tls = tls_files if scheme == "https" else None
    peak, seconds = growth(what, 2048 * MiB, tmp_path, tls, seconds=500)
    print(f"{what} over {scheme}: {peak / MiB:.1f} MiB for a budget of {BUDGET / MiB:.0f}, in {seconds:.1f} s")
    # The two at once have the connections of both in the pool.
    assert peak <= (BUDGET * 5 // 4 if what == "together" else MOST)
