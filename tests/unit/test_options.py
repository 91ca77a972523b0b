"""What `TransferOptions` accepts, and how it refuses the rest."""

from __future__ import annotations

import dataclasses
import pickle
from pathlib import Path
from typing import Any

import pytest

import azstoragetorch
from azstoragetorch import TransferOptions

MiB = 1024 * 1024

BOUNDS = [
    ("range_size", 64 * 1024, 1024 * MiB),
    ("block_size", 1, 4000 * MiB),
    ("in_flight", 1, 256),
    ("readahead", 0, 1024),
    ("memory_budget", MiB, 1 << 50),
    ("min_rate", 0, 1 << 50),
]


def test_defaults_are_those_that_are_documented() -> None:
    """Memory per machine is planned with them."""
    options = TransferOptions()

    assert (options.range_size, options.block_size, options.in_flight) == (8 * MiB, 4 * MiB, 32)
    assert (options.readahead, options.memory_budget) == (16, 192 * MiB)
    assert (options.connect_timeout, options.idle_timeout, options.deadline) == (10, 30, 120)
    assert (options.checksum, options.verify, options.ca_file) == ("auto", "none", None)


def test_options_cannot_be_changed() -> None:
    """They are shared by files that are already open."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        TransferOptions().range_size = 1  # type: ignore[misc]


def test_options_are_named() -> None:
    """A new one must not move the meaning of the others."""
    with pytest.raises(TypeError):
        TransferOptions(8 * MiB)  # type: ignore[call-arg]


def test_options_pickle_and_compare_by_value(tmp_path: Path) -> None:
    """They travel to spawned DataLoader workers."""
    authorities = tmp_path / "ca.pem"
    authorities.touch()
    options = TransferOptions(range_size=MiB, checksum="md5", deadline=1.5, ca_file=authorities)

    assert pickle.loads(pickle.dumps(options)) == options
    assert options != TransferOptions()


def test_options_are_exported_lazily() -> None:
    """It is the name the documentation uses."""
    assert azstoragetorch.TransferOptions is TransferOptions


@pytest.mark.parametrize(("name", "low", "high"), BOUNDS)
def test_bounds_are_part_of_what_is_allowed(name: str, low: int, high: int) -> None:
    """The limits of the service, such as 4,000 MiB a block, are usable to the last byte."""
    for value in (low, high):
        assert getattr(TransferOptions(**{name: value}), name) == value  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "low", "high"), BOUNDS)
def test_value_out_of_bounds_is_refused_by_name(name: str, low: int, high: int) -> None:
    """The message is all that a user of a launcher script sees."""
    for value in (low - 1, high + 1):
        with pytest.raises(ValueError, match=f"{name} must be between {low} and {high}, got {value}"):
            TransferOptions(**{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", [name for name, _, _ in BOUNDS])
@pytest.mark.parametrize("value", [8e6, "8", None, True])
def test_sizes_and_counts_are_ints(name: str, value: Any) -> None:
    """8e6 bytes would fail much later, inside a request."""
    with pytest.raises(TypeError, match=f"{name} must be an int, not {type(value).__name__}"):
        TransferOptions(**{name: value})


@pytest.mark.parametrize("name", ["connect_timeout", "idle_timeout", "deadline"])
def test_times_are_positive_seconds_up_to_a_day(name: str) -> None:
    """0 is not "no limit", and what is meant in milliseconds is most likely too large."""
    assert getattr(TransferOptions(**{name: 0.25}), name) == 0.25  # type: ignore[arg-type]
    assert getattr(TransferOptions(**{name: 86_400}), name) == 86_400  # type: ignore[arg-type]
    for value in (0, -1, 86_401, float("inf"), float("nan")):
        with pytest.raises(ValueError, match=f"{name} must be more than 0"):
            TransferOptions(**{name: value})  # type: ignore[arg-type]
    for wrong in ("10", None, True):
        with pytest.raises(TypeError, match=f"{name} must be a number"):
            TransferOptions(**{name: wrong})  # type: ignore[arg-type]


def test_unknown_checksum_is_refused() -> None:
    """A typo must not turn the protection off."""
    with pytest.raises(ValueError, match="checksum must be one of"):
        TransferOptions(checksum="MD5")  # type: ignore[arg-type]


def test_unknown_verify_is_refused() -> None:
    """``True`` or a name of a checksum must not pass for it, nor turn it off."""
    for value in ("md5", True, None):
        with pytest.raises(ValueError, match="verify must be one of"):
            TransferOptions(verify=value)  # type: ignore[arg-type]


def test_verified_ranges_are_at_most_what_the_service_computes_checksums_of() -> None:
    """It answers 400 to more than 4 MiB; smaller ones stay as they are asked for."""
    assert TransferOptions().largest_range == 8 * MiB
    assert TransferOptions(verify="range").largest_range == 4 * MiB
    assert TransferOptions(verify="range", range_size=MiB).largest_range == MiB


def test_missing_certificate_file_is_refused_by_name(tmp_path: Path) -> None:
    """At construction, not as a TLS error in the middle of a job."""
    with pytest.raises(ValueError, match=r"ca_file .*missing\.pem' is not a file"):
        TransferOptions(ca_file=tmp_path / "missing.pem")
