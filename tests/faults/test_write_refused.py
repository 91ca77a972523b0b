"""A write that is refused is one typed error, soon, and nothing of it becomes visible."""

from __future__ import annotations

import pytest

from tests.faults.case import Case, Use, runs
from tests.faults.play import play
from tests.faults.scene import Stage
from tests.faults.write_refused import EARLY, NOWHERE, REFUSALS

pytestmark = pytest.mark.timeout(60)


@pytest.mark.parametrize(("case", "use"), runs(REFUSALS.cases))
def test_refusal(stage: Stage, case: Case, use: Use) -> None:
    """Asking again would bring the same answer, later."""
    play(stage, case, use)


@pytest.mark.parametrize(("case", "use"), runs(EARLY.cases))
def test_refusal_is_found_before_much_is_sent(stage: Stage, case: Case, use: Use) -> None:
    """A wrong SAS must not be discovered at the end of an upload of gigabytes."""
    play(stage, case, use)


@pytest.mark.parametrize(("case", "use"), runs(NOWHERE.cases))
def test_host_that_cannot_be_reached(stage: Stage, case: Case, use: Use) -> None:
    """A typo in a URL is found at once."""
    play(stage, case, use)
