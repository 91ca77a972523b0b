"""What pages say that a machine can check without building them; the samples on them are run by tests/torch/."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from azstoragetorch import TransferOptions

REPOSITORY = Path(__file__).parents[2]
UNITS = {"": 1, "s": 1, "ranges": 1, "KiB": 1 << 10, "KiB/s": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}

_LINK = re.compile(r"\]\((?![a-z]+:)(?P<path>[^)#\s]*)(?:#(?P<fragment>[^)\s]+))?\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_BLOCK = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_OPTION = re.compile(
    r"^\| \[`(?P<name>\w+)`\]\(#(?P<place>[\w-]+)\) \| (?P<default>.*?) \| (?P<bounds>.*?) \|", re.MULTILINE
)


def fragments_of(page: Path) -> set[str]:
    """Return what a link into a page may end with, by GitHub's rule, which is Sphinx's too."""
    headings = _HEADING.findall(_BLOCK.sub("", page.read_text(encoding="utf-8")))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_lead_to_what_exists(name: str) -> None:
    """Sphinx checks the links of docs/; these pages are read where it is not, and a heading is easily renamed."""
    text = _BLOCK.sub("", (REPOSITORY / name).read_text(encoding="utf-8"))

    for link in _LINK.finditer(text):
        target = REPOSITORY / (link["path"] or name)
        assert target.exists(), link[0]
        if link["fragment"]:
            assert link["fragment"] in fragments_of(target), link[0]


def options_of_page() -> Iterator[re.Match[str]]:
    """Find the rows of the table of options."""
    return _OPTION.finditer((REPOSITORY / "docs" / "tuning.md").read_text(encoding="utf-8"))


def number(text: str) -> int:
    """Read ``8 MiB``."""
    amount, _, unit = text.partition(" ")
    return int(amount.replace(",", "")) * UNITS[unit]


def test_tuning_page_knows_every_option_and_its_default() -> None:
    """People tune by this table; one that is missing, or a default that was changed, leads them astray."""
    rows = list(options_of_page())

    assert [row["name"] for row in rows] == [field.name for field in dataclasses.fields(TransferOptions)]
    defaults = TransferOptions()
    for row in rows:
        default = getattr(defaults, row["name"])
        if isinstance(default, str):
            assert row["default"] == f'`"{default}"`'
        elif default is not None:
            assert number(row["default"]) == default
        assert row["place"] in fragments_of(REPOSITORY / "docs" / "tuning.md")


BOUNDED = [row for row in options_of_page() if row["bounds"][0].isdigit() and " to " in row["bounds"]]


@pytest.mark.parametrize("row", BOUNDED, ids=lambda row: row["name"])
def test_bounds_on_the_tuning_page_are_those_that_are_kept(row: re.Match[str]) -> None:
    """A value that the page allows must not be refused."""
    name, low, high = row["name"], *map(number, row["bounds"].split(" to "))

    options: Any = TransferOptions
    options(**{name: low})
    options(**{name: high})
    for beyond in (low - 1, high + 1):
        with pytest.raises(ValueError, match=name):
            options(**{name: beyond})
