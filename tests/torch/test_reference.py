"""The API reference has every public name, and of each what its docstring says.

`tests/unit/test_docstrings.py` sees to what the docstrings say.
"""

from __future__ import annotations

import dataclasses
import html
import inspect
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import pytest

from azstoragetorch import TransferOptions
from tests.public import MODULES, members, names

pytestmark = pytest.mark.timeout(180)  # the first test waits for the pages, 5 s of CPU time

DOCS = Path(__file__).parents[2] / "docs"
PUBLIC = dict(names())
CLASSES = {name: kind for name, kind in PUBLIC.items() if inspect.isclass(kind)}


def words(alias: object) -> list[str]:
    """Return the words that the alias of a type allows."""
    inner = get_args(alias)
    return [each for each in inner if isinstance(each, str)] + [word for each in inner for word in words(each)]


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The pages of `docs/api` as HTML, by module, made the way that all pages are."""
    built = tmp_path_factory.mktemp("reference")
    # No other page is read, which leaves links to them without an end; the build of all pages follows those.
    only = ["-D", "root_doc=api/index", "-D", "exclude_patterns=*.md,_static", "-D", "suppress_warnings=myst,toc"]
    command = [sys.executable, "-m", "sphinx", "-q", "-E", *only, "-d", f"{built}/doctrees", str(DOCS), f"{built}/html"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return {path.stem: path.read_text("utf-8") for path in (built / "html" / "api").glob("*.html")}


def page_of(pages: dict[str, str], name: str) -> str:
    """Return the page of the module that a full name begins with."""
    return pages[name.rpartition(".")[0].removeprefix("azstoragetorch.")]


def plain(page: str) -> str:
    """Return the text of a page."""
    return html.unescape(re.sub(r"<[^>]+>", "", page))


def test_every_public_name_has_an_entry(pages: dict[str, str]) -> None:
    """What cannot be looked up is not there, for a user."""
    missing = [name for name in PUBLIC if f'id="{name}"' not in page_of(pages, name)]

    assert missing == []


def test_every_member_has_an_entry(pages: dict[str, str]) -> None:
    """Those that come from a base class that nobody sees, such as ``committed``, too."""
    homes = {kind: name for name, kind in CLASSES.items()}
    found = {
        # Where a public class inherits from another one, the entry is there.
        f"{next((homes[base] for base in kind.__mro__ if base in homes and member in vars(base)), name)}.{member}"
        for name, kind in CLASSES.items()
        for member, _ in members(kind)
    }

    assert {"azstoragetorch.io.BlobIO.committed", "azstoragetorch.aio.AsyncBlobIO.stats"} <= found
    assert [name for name in sorted(found) if f'id="{name}"' not in page_of(pages, name.rpartition(".")[0])] == []


def test_every_entry_is_of_a_public_name(pages: dict[str, str]) -> None:
    """An entry of what is gone, or of what may change tomorrow, misleads."""
    known = {*MODULES, *PUBLIC, *(f"{name}.{member}" for name, kind in CLASSES.items() for member, _ in members(kind))}
    entries = {entry for page in pages.values() for entry in re.findall(r'<dt [^>]*id="(azstoragetorch[^"]*)"', page)}

    assert {entry for entry in entries if not entry.endswith("__")} <= known


@pytest.mark.parametrize("name", [name for name, kind in CLASSES.items() if dataclasses.is_dataclass(kind)])
def test_every_field_is_explained(name: str, pages: dict[str, str]) -> None:
    """An option is found by its name, and a counter, too."""
    kind: Any = CLASSES[name]
    own = [field.name for field in dataclasses.fields(kind) if field.name in kind.__annotations__]

    assert [field for field in own if f"<strong>{field}</strong> \u2013" not in page_of(pages, name)] == []


def test_options_are_shown_with_their_defaults(pages: dict[str, str]) -> None:
    """In units that people read: 8 MiB, and not only 8388608."""
    text = plain(pages["azstoragetorch"])

    for field in dataclasses.fields(TransferOptions):
        assert re.search(rf"^{field.name} \u2013 [^\u2013]*\bDefault\s.*?:", text, re.MULTILINE | re.DOTALL), field.name


@pytest.mark.parametrize("name", [name for name, value in PUBLIC.items() if words(value)])
def test_choice_is_shown_with_all_its_words(name: str, pages: dict[str, str]) -> None:
    """These entries are written by hand, because an alias has no docstring."""
    shown = re.search(rf'<dt [^>]*id="{re.escape(name)}".*?</dt>', page_of(pages, name), re.DOTALL)
    assert shown is not None

    assert re.findall(r"'(\w+)'", plain(shown[0])) == words(PUBLIC[name])


def test_no_page_names_a_private_module(pages: dict[str, str]) -> None:
    """A signature that mentions one sends people to where they should not build."""
    named = {page: re.findall(r"azstoragetorch\._[a-z]\w*", plain(text)) for page, text in pages.items()}

    assert {page: found for page, found in named.items() if found} == {}


def test_argument_leads_to_its_type(pages: dict[str, str]) -> None:
    """``Transform`` is part of ``Transform | None``, and no name of what Sphinx makes of it."""
    assert 'href="#azstoragetorch.datasets.Transform"' in pages["datasets"]
    assert [page for page, text in pages.items() if "ForwardRef" in text] == []
