"""Writes to Azurite end as those to the scripted server do."""

from __future__ import annotations

import pytest

from tests.faults.case import Case, Use, runs
from tests.faults.play import play
from tests.faults.scene import Stage
from tests.faults.write_emulated import EMULATED

pytestmark = pytest.mark.timeout(60)


@pytest.mark.parametrize(("case", "use"), runs(EMULATED.cases))
def test_emulator(stage: Stage, case: Case, use: Use) -> None:
    """The scripted server is ours, and may share our mistakes."""
    play(stage, case, use)
