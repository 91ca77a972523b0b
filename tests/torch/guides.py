"""The guides in docs/ whose samples are run, in two parts, each a test file of its own: processes share them by files.

A page has a container of its own. What it says that a sample prints is what the sample has to print.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from tests.torch.samples import REPOSITORY, Place, Sample, samples_of

__all__ = ["ELSEWHERE", "FILES_AND_OPERATION", "PAGES", "TRAINING", "check", "languages_of", "over_samples_of"]

TRAINING = ["docs/datasets.md", "docs/distributed.md", "docs/workers.md"]
"""Pages of datasets; most of their samples start processes."""

FILES_AND_OPERATION = [
    "docs/async.md",
    "docs/getting-started.md",
    "docs/index.md",
    "docs/migrating.md",
    "docs/models.md",
    "docs/observability.md",
    "docs/reliability.md",
    "docs/tuning.md",
]

PAGES = sorted([*TRAINING, *FILES_AND_OPERATION])
"""Every page with samples in Python."""

ELSEWHERE = {"docs/check.md": "tests/check/test_page.py", "docs/examples.md": "tests/torch/test_examples.py"}
"""Pages of commands, and the tests that run them."""

_FENCE = re.compile(r"^ *(?:```+|~~~+|:::+) *(.*?)$", re.MULTILINE)

_Decorator: TypeAlias = Callable[[Callable[..., Any]], Callable[..., Any]]


def over_samples_of(pages: Sequence[str]) -> _Decorator:
    """Return the mark that gives a test every sample of these pages, with the page's container as ``place``."""
    samples = [(page, sample) for page in pages for sample in samples_of(page)]
    return pytest.mark.parametrize(
        ("place", "sample"),
        [
            pytest.param(page, sample, id=f"{Path(page).stem}-{number}-{sample.heading}")
            for number, (page, sample) in enumerate(samples)
        ],
        indirect=["place"],
    )


def check(sample: Sample, place: Place, folder: Path) -> None:
    """Run a sample and compare what it prints with what the page says."""
    printed = place.run(sample, folder)

    if sample.ranks:
        printed = "".join(sorted(printed.splitlines(keepends=True)))
    assert printed == (sample.output or "")


def languages_of(page: str) -> list[str]:
    """Return the language of every block of a page, empty where it names none, and of directives ``{name}``."""
    opening = _FENCE.findall((REPOSITORY / page).read_text(encoding="utf-8"))[::2]
    return [text.partition(" ")[0] for text in opening]
