"""A read returns the bytes of one version of the blob."""

from __future__ import annotations

import pytest

from tests.faults.case import Case, Use, runs
from tests.faults.play import play
from tests.faults.read_versions import VERSIONS
from tests.faults.scene import Stage

pytestmark = pytest.mark.timeout(60)


@pytest.mark.parametrize(("case", "use"), runs(VERSIONS.cases))
def test_blob_that_changes(stage: Stage, case: Case, use: Use) -> None:
    """Half of one checkpoint and half of the next is the one thing that must never be loaded."""
    play(stage, case, use)
