"""A listing has every blob, or ends in one error in time."""

from __future__ import annotations

import pytest

from tests.faults.case import Case, Use, runs
from tests.faults.play import play
from tests.faults.read_listing import LISTING
from tests.faults.scene import Stage

pytestmark = pytest.mark.timeout(60)


@pytest.mark.parametrize(("case", "use"), runs(LISTING.cases))
def test_listing_over_a_bad_network(stage: Stage, case: Case, use: Use) -> None:
    """A training set that lacks a page trains another model, and nobody would see it."""
    play(stage, case, use)
