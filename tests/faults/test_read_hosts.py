"""A read from a host that cannot be reached ends in one error in time."""

from __future__ import annotations

import pytest

from tests.faults.case import Case, Use, runs
from tests.faults.play import play
from tests.faults.read_hosts import HOSTS
from tests.faults.scene import Stage

pytestmark = pytest.mark.timeout(60)


@pytest.mark.parametrize(("case", "use"), runs(HOSTS.cases))
def test_host_that_cannot_be_reached(stage: Stage, case: Case, use: Use) -> None:
    """A typo in a URL is found at once, a restarted proxy is sat out."""
    play(stage, case, use)
