"""A commit survives trouble, or ends in one error in time."""

from __future__ import annotations

import pytest

from tests.faults.case import Case, Use, runs
from tests.faults.play import play
from tests.faults.scene import Stage
from tests.faults.write_passing import COMMITS

pytestmark = pytest.mark.timeout(60)


@pytest.mark.parametrize(("case", "use"), runs(COMMITS.cases))
def test_commit(stage: Stage, case: Case, use: Use) -> None:
    """What the service did and did not say is the difference between a saved and a lost checkpoint."""
    play(stage, case, use)
