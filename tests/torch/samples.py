"""The Python samples of a page of documentation, run as its readers run them, in a container like the one it describes.

A sample is a block of Python with the placeholder for a container's URL in it. A block of text directly behind it is
what it prints. ``<!-- torchrun N -->`` before it runs it on N ranks, whose lines come in any order.
"""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch

from tests.azurite.identity import IdentityEndpoint
from tests.azurite.launcher import Azurite

__all__ = ["PLACEHOLDER", "REPOSITORY", "Place", "Sample", "fill", "samples_of", "torchrun", "with_credential"]

REPOSITORY = Path(__file__).parents[2]
PLACEHOLDER = "https://<account>.blob.core.windows.net/<container>"

_BLOCK = re.compile(
    r"(?:^<!-- torchrun (?P<ranks>\d+) -->\n)?^```python\n(?P<code>.*?)^```$(?:\n\n```text\n(?P<output>.*?)^```$)?",
    re.MULTILINE | re.DOTALL,
)
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
# Remarks of others: of torch, that two workers are more than the cores of a small machine, and of torch on torchdata.
_IGNORED = ["This DataLoader will create", "'set_vital' is deprecated"]
_FLAGS = ["-W", "error", *(flag for text in _IGNORED for flag in ("-W", f"ignore:{text}:UserWarning"))]


@dataclass(frozen=True, slots=True)
class Sample:
    """One sample of a page."""

    heading: str
    code: str
    output: str | None
    """What it has to print; ``None`` if the page does not say."""
    ranks: int
    """Processes that ``torchrun`` starts; 0 without it."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where samples run: a container, and a machine that has a credential for it."""

    container_url: str
    environment: dict[str, str] = field(repr=False)

    def run(self, sample: Sample, folder: Path) -> str:
        """Run a sample, which must be silent on stderr; return what it printed, with the placeholder put back."""
        script = folder / "sample.py"
        script.write_text(sample.code.replace(PLACEHOLDER, self.container_url), encoding="utf-8")
        command, environment = [sys.executable, *_FLAGS, str(script)], dict(self.environment)
        if sample.ranks:
            # Flags do not reach the ranks, the environment does.
            environment["PYTHONWARNINGS"] = ",".join(flag for flag in _FLAGS if flag != "-W")
            arguments, variables = torchrun(sample.ranks, script)
            command, environment = [sys.executable, *_FLAGS, *arguments], environment | variables
        result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
        assert (result.returncode, result.stderr) == (0, ""), result.stderr
        return result.stdout.replace(self.container_url, PLACEHOLDER)


def torchrun(ranks: int, script: Path) -> tuple[list[str], dict[str, str]]:
    """Return the arguments of Python, and the variables, that start ``script`` as torchrun does, on the loopback."""
    place = ["--rdzv-backend=c10d", "--rdzv-endpoint=127.0.0.1:0", "--local-addr=127.0.0.1"]
    # torchrun itself would start python -u, which writes a line in pieces; those of several ranks would mix.
    program = ["--no-python", sys.executable, str(script)]
    arguments = ["-m", "torch.distributed.run", *place, f"--nproc-per-node={ranks}", *program]
    # Without the number of threads torchrun remarks on it.
    return arguments, {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}


def samples_of(page: str) -> list[Sample]:
    """Return the samples of a page of this repository, in order."""
    text = (REPOSITORY / page).read_text(encoding="utf-8")
    headings = [(match.start(), match[1]) for match in _HEADING.finditer(text)]
    found = [
        Sample(
            [heading for start, heading in headings if start < match.start()][-1],
            match["code"],
            match["output"],
            int(match["ranks"] or 0),
        )
        for match in _BLOCK.finditer(text)
    ]
    # A block that this does not recognise would be one that nobody runs.
    assert text.count("\n```python\n") == len(found)
    assert [sample.heading for sample in found if PLACEHOLDER not in sample.code] == []
    return found


@contextmanager
def with_credential(azurite: Azurite) -> Iterator[Place]:
    """Give a fresh container, in which the samples find what `fill` puts there, and the credential of a machine."""
    name = azurite.create_container()
    fill(azurite, name)
    with IdentityEndpoint() as identity:
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), **identity.environment}
        environment["SSL_CERT_FILE"] = str(azurite.ca_file)
        # Where samples that show other credentials look for them; DefaultAzureCredential does not.
        environment["AZURE_STORAGE_SAS_TOKEN"] = azurite.container_url(name).partition("?")[2]
        environment |= {"AZURE_STORAGE_ACCOUNT": azurite.account_name, "AZURE_STORAGE_KEY": azurite.account_key}
        yield Place(azurite.container_url(name, sas=False), environment)


def fill(azurite: Azurite, name: str) -> None:
    """Put the blobs into a container that docs/datasets.md speaks of."""
    with azurite.service_client() as client, client.get_container_client(name) as container:
        for label in range(100):
            container.upload_blob(f"train/{label:02}.pt", _content(label))
        for label in range(10):
            content = _content(label)
            container.upload_blob(f"raw/{label}.pt", content[: len(content) // 2] if label == 3 else content)


def _content(label: int) -> bytes:
    file = io.BytesIO()
    torch.save({"image": torch.full((3, 8, 8), label / 100), "label": label}, file)
    return file.getvalue()
