"""The samples of the guides in docs/, run, but for those of test_guides_training.py; and that no block is left out."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.torch.guides import ELSEWHERE, FILES_AND_OPERATION, PAGES, check, languages_of, over_samples_of
from tests.torch.samples import PLACEHOLDER, REPOSITORY, Place, Sample, samples_of

pytestmark = pytest.mark.timeout(180)

ALL = [path.relative_to(REPOSITORY).as_posix() for path in sorted((REPOSITORY / "docs").rglob("*.md"))]
# What Sphinx makes of other files, of docstrings and of lists of pages; nothing that a reader would run.
DIRECTIVES = {"{eval-rst}", "{include}", "{literalinclude}", "{toctree}"}

# What stands before the right column of the table of replacements: names that its cells use, as the page explains them.
_REPLACEMENTS = """
import gzip, io, shutil, sys

from azure.core.credentials import AzureNamedKeyCredential, AzureSasCredential
from azure.identity import ClientSecretCredential

from azstoragetorch import TransferOptions
from azstoragetorch.aio import AsyncBlobIO
from azstoragetorch.datasets import BlobDataset, IterableBlobDataset
from azstoragetorch.io import BlobIO
from azstoragetorch.listing import BlobListing

CONTAINER_URL = "https://<account>.blob.core.windows.net/<container>"
url = f"{CONTAINER_URL}/train/01.pt"
urls = [url, f"{CONTAINER_URL}/train/02.pt"]
key, sas = "a2V5", "sv=2024-01-01&sig=c2ln"
tenant, app, secret = "11111111-1111-1111-1111-111111111111", "id", "secret"
file, listing, target = BlobIO(url, "rb"), BlobListing.build(CONTAINER_URL), io.BytesIO()
"""


@over_samples_of(FILES_AND_OPERATION)
def test_sample_prints_what_the_page_says(sample: Sample, place: Place, tmp_path: Path) -> None:
    """People copy them; only the container's URL is replaced here, as they would."""
    check(sample, place, tmp_path)


@pytest.mark.parametrize("page", ALL)
def test_every_block_is_run_somewhere(page: str) -> None:
    """A block that nobody runs is right until something changes; one without a language would not be seen here."""
    languages = [language for language in languages_of(page) if language not in {"text", *DIRECTIVES}]

    if page in ELSEWHERE:
        assert set(languages) == {"bash"}
        assert Path(page).name in (REPOSITORY / ELSEWHERE[page]).read_text(encoding="utf-8")
    elif page == "docs/getting-started.md":  # its command is that of README.md: tests/unit/test_readme.py
        assert sorted(languages) == ["bash", *["python"] * len(samples_of(page))]
    else:
        assert languages == ["python"] * (len(samples_of(page)) if page in PAGES else 0)


@pytest.mark.parametrize("place", ["docs/migrating.md"], indirect=True)
def test_what_replaces_fsspec_runs(place: Place, tmp_path: Path) -> None:
    """The table is what people search for their line in, and then copy from."""
    text = (REPOSITORY / "docs/migrating.md").read_text(encoding="utf-8")
    table = text.partition("<!-- replacements -->\n")[2].partition("\n\n")[0]
    cells = [row.rstrip(" |").rpartition(" | ")[2] for row in table.splitlines()[2:]]
    assert len(cells) > 15
    lines = [cell.strip("`") for cell in cells]
    lines = [f'BlobIO(url, "rb", {line})' if re.match(r"\w+=", line) else line for line in lines]  # an argument

    code = "\n".join((_REPLACEMENTS, *lines, "print(target.tell() == len(BlobIO(url, 'rb').read()) > 0)"))

    assert place.run(Sample("", code, None, 0), tmp_path) == "True\n"


@pytest.mark.parametrize("place", ["docs/observability.md"], indirect=True)
def test_log_holds_the_lines_that_the_page_shows(place: Place, tmp_path: Path) -> None:
    """Who looks for a line in a log looks for its words."""
    (sample,) = (sample for sample in samples_of("docs/observability.md") if "transfers.log" in sample.code)
    text = (REPOSITORY / "docs/observability.md").read_text(encoding="utf-8")
    shown = re.findall(r"^\.\.\. (azstoragetorch\..+)$", text, re.MULTILINE)

    place.run(sample, tmp_path)

    log = (tmp_path / "transfers.log").read_text(encoding="utf-8").replace(place.container_url, PLACEHOLDER)
    lines = [line.partition(" azstoragetorch.")[2] for line in log.splitlines()]
    assert [_plain(line) for line in lines] == [_plain(line.removeprefix("azstoragetorch.")) for line in shown]


def _plain(line: str) -> str:
    """Return a line of a log without the figures and the place of one run."""
    line = re.sub(r"https://[^ ,:]+(:\d+)?[^ ,:]*", "URL", line)
    line = re.sub(r"127\.0\.0\.1|account\.blob\.core\.windows\.net", "HOST", line)
    return re.sub(r"\d+(\.\d+)?", "N", line)
