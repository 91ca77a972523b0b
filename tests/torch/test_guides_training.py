"""The samples of the guides to datasets, workers and ranks, run; those of the other guides are in test_guides.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.torch.guides import TRAINING, check, over_samples_of
from tests.torch.samples import Place, Sample

pytestmark = pytest.mark.timeout(180)


@over_samples_of(TRAINING)
def test_sample_prints_what_the_page_says(sample: Sample, place: Place, tmp_path: Path) -> None:
    """People copy them; only the container's URL is replaced here, as they would."""
    check(sample, place, tmp_path)
