"""What cannot be told from an answer is asked; what cannot be asked is said to be unknown."""

from __future__ import annotations

import pytest

from tests.faults.case import Case, Use, runs
from tests.faults.play import play
from tests.faults.scene import Stage
from tests.faults.write_outcome import CREATING, UNKNOWN

pytestmark = pytest.mark.timeout(60)


@pytest.mark.parametrize(("case", "use"), runs(UNKNOWN.cases))
def test_outcome_that_cannot_be_known(stage: Stage, case: Case, use: Use) -> None:
    """To say 'failed' or 'saved' would be a guess."""
    play(stage, case, use)


@pytest.mark.parametrize(("case", "use"), runs(CREATING.cases))
def test_blob_that_is_created(stage: Stage, case: Case, use: Use) -> None:
    """Mode x never replaces anything, and never takes another's blob for its own."""
    play(stage, case, use)
