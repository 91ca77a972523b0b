"""A write sends again what a connection lost, from its first byte."""

from __future__ import annotations

import pytest

from tests.faults.case import Case, Use, runs
from tests.faults.play import play
from tests.faults.scene import Stage
from tests.faults.write_connection import SENDING

pytestmark = pytest.mark.timeout(60)


@pytest.mark.parametrize(("case", "use"), runs(SENDING.cases))
def test_connection(stage: Stage, case: Case, use: Use) -> None:
    """Uploads keep their connections busy for hours, and each of them breaks some day."""
    play(stage, case, use)
