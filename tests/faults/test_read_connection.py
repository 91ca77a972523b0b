"""A read survives a network that breaks, or ends in one error in time."""

from __future__ import annotations

import pytest

from tests.faults.case import Case, Use, runs
from tests.faults.play import play
from tests.faults.read_connection import CONNECTION
from tests.faults.scene import Stage

pytestmark = pytest.mark.timeout(60)


@pytest.mark.parametrize(("case", "use"), runs(CONNECTION.cases))
def test_connection_that_breaks(stage: Stage, case: Case, use: Use) -> None:
    """Jobs run for weeks: every connection breaks some day, and half a checkpoint must never be loaded."""
    play(stage, case, use)
