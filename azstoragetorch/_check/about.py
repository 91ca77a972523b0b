"""What is installed, and where a credential could come from; asks nobody and shows no value of a variable."""

from __future__ import annotations

import os
import platform
import re
import shutil
import urllib.request
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from azstoragetorch import __version__
from azstoragetorch._values.options import has_crc64

__all__ = ["about", "cores"]

PACKAGES = ("aiohttp", "anyio", "azure-core", "azure-identity", "azure-storage-blob")

# By the classes of azure.identity that DefaultAzureCredential tries, each with the variables it needs.
_SOURCES = (
    ("EnvironmentCredential", ("AZURE_CLIENT_ID", "AZURE_TENANT_ID", "AZURE_CLIENT_SECRET")),
    ("EnvironmentCredential", ("AZURE_CLIENT_ID", "AZURE_TENANT_ID", "AZURE_CLIENT_CERTIFICATE_PATH")),
    ("WorkloadIdentityCredential", ("AZURE_CLIENT_ID", "AZURE_TENANT_ID", "AZURE_FEDERATED_TOKEN_FILE")),
    ("ManagedIdentityCredential", ("IDENTITY_ENDPOINT",)),
    ("ManagedIdentityCredential", ("MSI_ENDPOINT",)),
)
_UNREAD = (
    "AZURE_STORAGE_ACCOUNT_KEY",
    "AZURE_STORAGE_CONNECTION_STRING",
    "AZURE_STORAGE_KEY",
    "AZURE_STORAGE_SAS_TOKEN",
)
"""Variables of other tools that people expect to count."""


def about() -> Iterator[tuple[str, str]]:
    """Yield lines: a label and what is so."""
    yield "package", f"azstoragetorch {__version__}"
    machine = f"{platform.system()} {platform.machine()}, {cores()} cores"
    yield "Python", f"{platform.python_implementation()} {platform.python_version()} on {machine}"
    torch = _version("torch") if find_spec("torch") is not None else None
    missing = "not installed: BlobIO, AsyncBlobIO and BlobListing work, the datasets need it"
    yield "torch", torch or missing
    yield "needs", ", ".join(f"{name} {_version(name) or 'MISSING'}" for name in PACKAGES)
    for extra, there, use in (
        ("crc64", has_crc64(), "checksum='crc64'"),
        ("progress", find_spec("tqdm") is not None, "progress=True"),
    ):
        how = "" if there else f", pip install 'azstoragetorch[{extra}]'"
        yield "extra", f"{extra} ({use}): {'active' if there else 'not installed'}{how}"
    for hint in _credentials():
        yield "login", hint
    for hint in _network():
        yield "network", hint


def cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _credentials() -> Iterator[str]:
    found = False
    for source, names in _SOURCES:
        if all(os.environ.get(name) for name in names):
            found = True
            yield f"{' and '.join(names)} {'is' if len(names) == 1 else 'are'} set: {source}"
    for tool, folder, source in (
        ("az", Path(os.environ.get("AZURE_CONFIG_DIR") or "~/.azure", "azureProfile.json"), "AzureCliCredential"),
        ("azd", Path("~/.azd/auth.json"), "AzureDeveloperCliCredential"),
    ):
        if shutil.which(tool) is not None:
            found = True
            # os.path's never raises: a container's user may have no home.
            logged_in = os.path.exists(os.path.expanduser(folder))
            yield f"{tool} is installed{' and was logged in once' if logged_in else ', not logged in'}: {source}"
    if os.environ.get("AZURE_TOKEN_CREDENTIALS"):
        found = True
        yield "AZURE_TOKEN_CREDENTIALS is set: DefaultAzureCredential tries only what it names"
    if not found:
        yield (
            "nothing was found that DefaultAzureCredential could use, but a managed identity, which only asking tells; "
            "a SAS behind the URL, or credential= in Python, need none of it"
        )
    for name in _UNREAD:
        if os.environ.get(name):
            yield f"{name} is set, and not read: put the SAS behind the URL, or pass AzureNamedKeyCredential"


def _network() -> Iterator[str]:
    for scheme, url in sorted(urllib.request.getproxies().items()):
        if scheme in ("http", "https", "all"):
            # What stands before the last @ may be a password, with any character in it.
            host = re.match(r"(?:\w+://)?([A-Za-z0-9.-]+)", url.rpartition("@")[2])
            yield f"{scheme} goes through a proxy{f', {host[1]}' if host else ''} (no_proxy names exceptions)"
    for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"):
        path = os.environ.get(name)
        if path:
            yield f"{name} is set{'' if Path(path).is_file() else ', but is no file'}: the authorities that are trusted"
            break
