"""The check of types finds what it is there for."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from tests.pyright.__main__ import check


@pytest.mark.timeout(180)  # it may have to install pyright first
def test_name_without_a_type_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A check that passes whatever it is shown would be trusted for years."""
    wheel = tmp_path / "untyped.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("azstoragetorch/py.typed", "")
        archive.writestr("azstoragetorch/__init__.py", "def stats(since):\n    return since\n")

    assert not check(wheel, tmp_path)

    said = capsys.readouterr().out
    assert "azstoragetorch.stats: " in said
    assert "0.0% of the public names are typed: 0 of 1" in said
    assert "usage.py:" in said
    assert "is unknown import symbol" in said
