"""docs/troubleshooting.md shows the messages that people meet, as they are."""

from __future__ import annotations

import re

import pytest

from tests.blobserver import BlobServer
from tests.conftest import TlsBlobServer
from tests.torch.samples import REPOSITORY
from tests.torch.symptoms import SYMPTOMS, World, message_of

pytestmark = pytest.mark.timeout(120)

PAGE = (REPOSITORY / "docs/troubleshooting.md").read_text("utf-8")
SHOWN = dict(re.findall(r"^<!-- message: ([a-z0-9-]+) -->\n```text\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))


def words(text: str) -> str:
    """Return ``text`` without its line ends, and without what differs from run to run."""
    text = " ".join(text.split())
    text = re.sub(r"(; the deadline of \S+ s passed)? \(gave up after \d+ attempts? in \S+ s\)", " (gave up)", text)
    text = re.sub(r"'127\.0\.0\.1', \d+", "somewhere", text)
    return re.sub(r"\d+ days ago", "some days ago", text)


@pytest.fixture
def world(server: BlobServer, tls_server: TlsBlobServer, monkeypatch: pytest.MonkeyPatch) -> World:
    for each in (server, tls_server):
        each.put("model.pth", b"weights")
    return World(server, tls_server, monkeypatch)


@pytest.mark.parametrize("name", SYMPTOMS)
def test_page_shows_the_message(name: str, world: World) -> None:
    """People search for what they see; and whoever changes a message looks at what it tells them to do."""
    assert words(message_of(SYMPTOMS[name], world)) == words(SHOWN[name])


def test_every_message_of_the_page_is_compared() -> None:
    """Otherwise it would be one that nobody has ever met."""
    assert PAGE.count("<!-- message: ") == len(SHOWN)
    assert set(SHOWN) == set(SYMPTOMS)
