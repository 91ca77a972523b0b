"""A write of one request survives trouble, or ends in one error in time."""

from __future__ import annotations

import pytest

from tests.faults.case import Case, Use, runs
from tests.faults.play import play
from tests.faults.scene import Stage
from tests.faults.write_passing import SINGLES

pytestmark = pytest.mark.timeout(60)


@pytest.mark.parametrize(("case", "use"), runs(SINGLES.cases))
def test_small(stage: Stage, case: Case, use: Use) -> None:
    """Small files are one request, which may be sent again although it was applied."""
    play(stage, case, use)
