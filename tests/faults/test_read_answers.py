"""A read believes no answer that is not what it asked for."""

from __future__ import annotations

import pytest

from tests.faults.case import Case, Use, runs
from tests.faults.play import play
from tests.faults.read_answers import ANSWERS
from tests.faults.scene import Stage

pytestmark = pytest.mark.timeout(60)


@pytest.mark.parametrize(("case", "use"), runs(ANSWERS.cases))
def test_answer_that_is_wrong(stage: Stage, case: Case, use: Use) -> None:
    """A bad proxy or a cache in between: the bytes are asked for again, or there is an error."""
    play(stage, case, use)
