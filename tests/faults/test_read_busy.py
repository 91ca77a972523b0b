"""A read outlasts a busy service, for as long as its options say."""

from __future__ import annotations

import pytest

from tests.faults.case import Case, Use, runs
from tests.faults.play import play
from tests.faults.read_busy import BUSY
from tests.faults.scene import Stage

pytestmark = pytest.mark.timeout(60)


@pytest.mark.parametrize(("case", "use"), runs(BUSY.cases))
def test_service_that_is_busy(stage: Stage, case: Case, use: Use) -> None:
    """It passes by itself; how long a read may wait for that is the caller's to say."""
    play(stage, case, use)
