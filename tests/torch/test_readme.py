"""The Python samples of README.md, run one after the other in one container, with the credential of the machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.azurite.launcher import Azurite
from tests.torch.guides import languages_of
from tests.torch.samples import samples_of, with_credential

pytestmark = pytest.mark.timeout(180)


def test_readme_samples_run(azurite_https: Azurite, tmp_path: Path) -> None:
    """People copy them; only the container's URL is replaced here, as they would."""
    samples = samples_of("README.md")

    with with_credential(azurite_https) as place:
        printed = [place.run(sample, tmp_path) for sample in samples]

    assert len(samples) == 3
    assert printed == [sample.output or "" for sample in samples]


def test_readme_has_no_other_blocks() -> None:
    """Its two commands are run as they stand, by CI, and its samples above; a third command would be run by nobody."""
    languages = [language for language in languages_of("README.md") if language != "text"]

    assert languages == ["bash", "bash", "python", "python", "python"]
