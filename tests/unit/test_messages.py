"""The first messages that people meet say what to do; docs/troubleshooting.md shows them, and these are the corners."""

from __future__ import annotations

import inspect
import socket
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from azstoragetorch._azure.advice import address_words, advice_for_token, stranger, tls_words
from azstoragetorch.aio import AsyncBlobIO
from azstoragetorch.io import BlobIO
from azstoragetorch.listing import BlobListing

REPOSITORY = Path(__file__).parents[2]
URL = "https://acct.blob.core.windows.net/data/a"
FACES = pytest.mark.parametrize("face", [BlobIO, AsyncBlobIO])


@FACES
def test_forgotten_mode_names_the_modes(face: Any) -> None:
    """``open`` has a default, so people forget it; what they called is named, and not a base class of ours."""
    for options in ({}, {"credential": False}):
        with pytest.raises(TypeError, match=f"^{face.__name__} needs a mode after the URL: 'rb' reads, 'wb' creates"):
            face(URL, **options)
    with pytest.raises(TypeError, match=f"^{face.__name__} needs a mode"):
        face(blob_url=URL)


@FACES
def test_signature_is_that_of_the_documentation(face: Any) -> None:
    """Editors show it, and the mode has no default in it."""
    parameters = inspect.signature(face).parameters
    assert list(parameters) == ["blob_url", "mode", "credential", "options"]
    assert parameters["mode"].default is inspect.Parameter.empty
    assert face(blob_url=URL, mode="rb", credential=False).name == URL


@FACES
def test_swapped_arguments_are_told(face: Any) -> None:
    """The SAS of the URL is not shown for it."""
    with pytest.raises(ValueError, match="the URL comes first and the mode second") as caught:
        face("rb", f"{URL}?sv=1&sig=canary")
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("scheme", ["abfss", "s3", "wasbs", "file"])
def test_scheme_of_another_tool_is_named(scheme: str) -> None:
    """What is pasted is often from fsspec; what this understands stands beside it."""
    with pytest.raises(ValueError, match=rf"not {scheme}://; expected https://<account>\.blob\.core\.windows\.net/"):
        BlobListing.build(f"{scheme}://data@acct/a")


def test_unknown_scheme_is_not_shown() -> None:
    """It may be the beginning of a secret."""
    with pytest.raises(ValueError, match="must start with https") as caught:
        BlobListing.build("canary://data")
    assert "canary" not in str(caught.value)


def test_placeholder_of_the_documentation_is_recognised() -> None:
    """A sample that was copied and not filled in."""
    with pytest.raises(ValueError, match=r"put the name of yours in place of <\.\.\.>"):
        BlobIO("https://<account>.blob.core.windows.net/<container>/a", "rb")


def test_wrong_kind_of_url_names_the_right_call() -> None:
    """A dataset takes both kinds, by two names."""
    with pytest.raises(ValueError, match="made by from_container_url"):
        BlobIO(URL.removesuffix("a"), "rb")
    with pytest.raises(ValueError, match="made by from_blob_urls"):
        BlobListing.build(URL)


def test_answer_of_somebody_else_is_told_by_its_headers() -> None:
    """The service has a request id in every answer."""
    assert stranger({"x-ms-request-id": "1", "Content-Type": "text/html"}) == ""
    assert "text/html" not in stranger({"Content-Type": "application/json"})
    assert "a page for a browser" in stranger({"Content-Type": "text/html; charset=utf-8"})


def test_missing_address_has_a_reason() -> None:
    """Three that are mended in three places."""
    assert "account name" in address_words(socket.gaierror(socket.EAI_NONAME, "unknown"))
    assert "for now" in address_words(socket.gaierror(socket.EAI_AGAIN, "later"))
    refused = ConnectionRefusedError(111, "Connection refused")
    assert (
        address_words(refused)
        == "no connection (ConnectionRefusedError: Connection refused); is the host right and up?"
    )
    assert "to the proxy p:1 (" in address_words(refused, "the proxy p:1")


def test_handshake_has_a_reason() -> None:
    """OpenSSL's word for it, without the rest of its text, which names lines of its source."""
    broken = ssl.SSLError(1, "[SSL: TLSV1_ALERT_ACCESS_DENIED] x (_ssl.c:1)")
    broken.reason = "TLSV1_ALERT_ACCESS_DENIED"
    assert "(TLSV1_ALERT_ACCESS_DENIED); does a proxy or firewall" in tls_words(broken)
    assert "failed (ConnectionResetError)" in tls_words(ConnectionResetError())


def test_refused_token_is_not_taken_for_a_sas() -> None:
    """The service has one name for both, and a role is not given in a SAS."""
    for code in ("AuthorizationFailure", "AuthorizationPermissionMismatch"):
        words = advice_for_token(code)
        assert words is not None
        assert "Storage Blob Data Reader" in words
        assert "SAS" not in words
    assert advice_for_token("NeverHeardOf") is None


def test_datasets_without_torch_say_what_to_install() -> None:
    """And it is a ModuleNotFoundError of torch, for those who catch that."""
    script = """
import sys
sys.modules["torch"] = None
try:
    import azstoragetorch.datasets
except ModuleNotFoundError as error:
    print(error.name, error)
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, timeout=50)
    assert done.stdout.startswith(
        "torch azstoragetorch.datasets needs torch, which is not installed: pip install torch"
    )
