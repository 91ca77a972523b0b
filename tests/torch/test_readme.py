"""The Python samples of README.md, run one after the other in one container, with the credential of the machine."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.azurite.launcher import Azurite
from tests.torch.samples import samples_of, with_credential

pytestmark = pytest.mark.timeout(180)


def test_readme_samples_run(azurite_https: Azurite, tmp_path: Path) -> None:
    """People copy them; only the container's URL is replaced here, as they would."""
    samples = samples_of("README.md")

    with with_credential(azurite_https) as place:
        outputs = [place.run(sample, tmp_path) for sample in samples]

    save_and_load, wrapped, datasets, asynchronous, event_loop, errors = outputs
    assert save_and_load == wrapped == ""
    assert (datasets, asynchronous) == (samples[2].output, samples[3].output)
    assert re.fullmatch(r"16 bytes of log, \d{6} bytes of model\nb'epoch 0\\n'\nb'epoch 1\\n'\n", event_loop)
    assert errors.startswith("starting from scratch: ")
    assert "no-such-checkpoint.pth" in errors
