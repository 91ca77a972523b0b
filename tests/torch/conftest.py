"""What tests of pages share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.azurite.launcher import Azurite
from tests.torch.samples import Place, with_credential


@pytest.fixture(scope="module")
def place(request: pytest.FixtureRequest, azurite_https: Azurite) -> Iterator[Place]:
    """Where the samples of a page run; its parameter is the page, so that each has a container of its own."""
    with with_credential(azurite_https) as place:
        yield place
