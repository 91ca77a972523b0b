"""The stage of the fault suite."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from tests.faults.scene import Stage


@pytest.fixture(scope="module")
def stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    """Makes the scenes of the cases; starts the emulator only for those that want it."""
    # Every play ends with a garbage collection, to hear of what it left. Without all that the imports made it takes a
    # tenth of the time, and it would be half of the whole suite's.
    gc.collect()
    gc.freeze()
    yield Stage(lambda: request.getfixturevalue("azurite"), lambda: request.getfixturevalue("tls_files"))
    gc.unfreeze()
