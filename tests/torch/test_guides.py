"""The samples of the guides in docs/, run; what a page says a sample prints is what it prints."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.azurite.launcher import Azurite
from tests.torch.samples import PLACEHOLDER, REPOSITORY, Place, Sample, samples_of, with_credential

pytestmark = pytest.mark.timeout(180)

PAGES = [
    "docs/async.md",
    "docs/datasets.md",
    "docs/distributed.md",
    "docs/getting-started.md",
    "docs/index.md",
    "docs/migrating.md",
    "docs/models.md",
    "docs/observability.md",
    "docs/reliability.md",
    "docs/tuning.md",
    "docs/workers.md",
]
"""Every page with samples in Python; a page has a container of its own."""

ELSEWHERE = {"docs/check.md": "tests/check/test_page.py", "docs/examples.md": "tests/torch/test_examples.py"}
"""Pages of commands, and the tests that run them."""

SAMPLES = [(page, sample) for page in PAGES for sample in samples_of(page)]

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


@pytest.fixture(scope="module")
def place(request: pytest.FixtureRequest, azurite_https: Azurite) -> Iterator[Place]:
    with with_credential(azurite_https) as place:
        yield place


@pytest.mark.parametrize(
    ("place", "sample"),
    [
        pytest.param(page, sample, id=f"{Path(page).stem}-{number}-{sample.heading}")
        for number, (page, sample) in enumerate(SAMPLES)
    ],
    indirect=["place"],
)
def test_sample_prints_what_the_page_says(sample: Sample, place: Place, tmp_path: Path) -> None:
    """People copy them; only the container's URL is replaced here, as they would."""
    printed = place.run(sample, tmp_path)

    if sample.ranks:
        printed = "".join(sorted(printed.splitlines(keepends=True)))
    assert printed == (sample.output or "")


def test_every_page_with_samples_is_run() -> None:
    """A block that nobody runs is right until something changes."""
    pages = (path.relative_to(REPOSITORY).as_posix() for path in sorted((REPOSITORY / "docs").rglob("*.md")))
    with_code = {
        page for page in pages if re.search(r"^ *```(?!text)\w", (REPOSITORY / page).read_text(), re.MULTILINE)
    }

    assert with_code == {*PAGES, *ELSEWHERE}
    for page, test in ELSEWHERE.items():
        assert Path(page).name in (REPOSITORY / test).read_text()


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
    (sample,) = (sample for page, sample in SAMPLES if "transfers.log" in sample.code)
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
