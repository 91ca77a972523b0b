"""A bit that flips on the way is noticed by the service, and sent again."""

from __future__ import annotations

import pytest

from tests.faults.case import Case, Use, runs
from tests.faults.play import play
from tests.faults.scene import Stage
from tests.faults.write_damaged import DAMAGED

pytestmark = pytest.mark.timeout(60)


@pytest.mark.parametrize(("case", "use"), runs(DAMAGED.cases))
def test_bit_that_flips_on_the_way(stage: Stage, case: Case, use: Use) -> None:
    """A bad memory chip in a router flips bits that TCP's checksum does not see."""
    play(stage, case, use)
