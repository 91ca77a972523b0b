"""The samples of the guides in docs/, run; what a page says a sample prints is what it prints."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.azurite.launcher import Azurite
from tests.torch.samples import Place, Sample, samples_of, with_credential

pytestmark = pytest.mark.timeout(180)

PAGES = ["docs/datasets.md", "docs/observability.md"]
SAMPLES = [sample for page in PAGES for sample in samples_of(page)]


@pytest.fixture(scope="module")
def place(azurite_https: Azurite) -> Iterator[Place]:
    with with_credential(azurite_https) as place:
        yield place


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.heading)
def test_sample_prints_what_the_page_says(sample: Sample, place: Place, tmp_path: Path) -> None:
    """People copy them; only the container's URL is replaced here, as they would."""
    printed = place.run(sample, tmp_path)

    if sample.ranks:
        printed = "".join(sorted(printed.splitlines(keepends=True)))
    assert printed == (sample.output or "")
