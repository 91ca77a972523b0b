"""Fixtures over Azurite. An emulator that does not start fails the tests that need it; it never skips them."""

from __future__ import annotations

__all__ = ["azurite", "azurite_https", "container_url"]

from collections.abc import Iterator

import pytest
import trustme

from tests.azurite.launcher import Azurite, Certificate


@pytest.fixture(scope="session")
def azurite() -> Iterator[Azurite]:
    """One emulator over plain http for the whole run; tests stay apart by their containers."""
    with Azurite() as running:
        yield running


@pytest.fixture
def container_url(azurite: Azurite) -> str:
    """URL of a fresh, empty container, with a SAS that allows everything in it."""
    return azurite.container_url(azurite.create_container())


@pytest.fixture(scope="session")
def azurite_https(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azurite]:
    """One emulator over https, the only one that accepts bearer tokens; `Azurite.ca_file` is what to trust."""
    folder = tmp_path_factory.mktemp("certificate")
    files = Certificate(folder / "cert.pem", folder / "key.pem", folder / "ca.pem")
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1", "localhost")
    issued.cert_chain_pems[0].write_to_path(files.cert_file)
    issued.private_key_pem.write_to_path(files.key_file)
    authority.cert_pem.write_to_path(files.ca_file)
    with Azurite(certificate=files) as running:
        yield running
