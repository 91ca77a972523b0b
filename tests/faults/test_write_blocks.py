"""A write survives trouble with its blocks, or ends in one error in time."""

from __future__ import annotations

import pytest

from tests.faults.case import Case, Use, runs
from tests.faults.play import play
from tests.faults.scene import Stage
from tests.faults.write_passing import BLOCKS

pytestmark = pytest.mark.timeout(60)


@pytest.mark.parametrize(("case", "use"), runs(BLOCKS.cases))
def test_block(stage: Stage, case: Case, use: Use) -> None:
    """A checkpoint of hours must not be lost to one busy front end, and half of one never becomes visible."""
    play(stage, case, use)
