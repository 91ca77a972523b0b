"""What all tests of secrets need."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module", autouse=True)
def short_collections() -> Iterator[None]:
    """Every watch ends with a garbage collection; without all that the imports made it takes a tenth of the time."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()
