"""Reads from Azurite end like reads from the scripted service."""

from __future__ import annotations

import pytest

from tests.faults.case import Case, Use, runs
from tests.faults.play import play
from tests.faults.read_azurite import AZURITE
from tests.faults.scene import Stage

pytestmark = pytest.mark.timeout(60)


@pytest.mark.parametrize(("case", "use"), runs(AZURITE.cases))
def test_azurite_behind_a_bad_network(stage: Stage, case: Case, use: Use) -> None:
    """Its answers were written by others than ours."""
    play(stage, case, use)
