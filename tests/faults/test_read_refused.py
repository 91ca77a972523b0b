"""A read takes a refusal for an answer."""

from __future__ import annotations

import pytest

from tests.faults.case import Case, Use, runs
from tests.faults.play import play
from tests.faults.read_refused import REFUSED
from tests.faults.scene import Stage

pytestmark = pytest.mark.timeout(60)


@pytest.mark.parametrize(("case", "use"), runs(REFUSED.cases))
def test_read_that_is_refused(stage: Stage, case: Case, use: Use) -> None:
    """Asking again would not help; it locks accounts and wastes minutes."""
    play(stage, case, use)
