"""A read that verifies what comes believes no byte that the service did not send."""

from __future__ import annotations

import pytest

from tests.faults.case import Case, Use, runs
from tests.faults.play import play
from tests.faults.read_verified import VERIFIED
from tests.faults.scene import Stage

pytestmark = pytest.mark.timeout(60)


@pytest.mark.parametrize(("case", "use"), runs(VERIFIED.cases))
def test_answer_that_is_not_what_the_service_holds(stage: Stage, case: Case, use: Use) -> None:
    """A bad memory chip in between: the bytes are asked for again, or there is an error."""
    play(stage, case, use)
