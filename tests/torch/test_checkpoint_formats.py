"""Formats of the packages around PyTorch, through blobs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy
import pytest
import safetensors.torch
import torch

from azstoragetorch import TransferOptions
from azstoragetorch.aio import AsyncBlobIO
from azstoragetorch.io import BlobIO
from tests.blobserver import BlobServer

pytestmark = pytest.mark.timeout(60)

SMALL = TransferOptions(range_size=64 * 1024, block_size=100_000, memory_budget=1 << 20)

ARRAYS: dict[str, Callable[[], Any]] = {
    "large": lambda: numpy.arange(300_000, dtype=numpy.float64).reshape(300, 1000),
    "fortran": lambda: numpy.asfortranarray(numpy.arange(600_000).reshape(600, 1000)),
    "scalar": lambda: numpy.array(3.5),
    "empty": lambda: numpy.empty((0, 7), dtype=numpy.int16),
    "text": lambda: numpy.array(["one", "two"]),
    "records": lambda: numpy.zeros(1000, dtype=[("id", "<i8"), ("score", "<f4")]),
}


@pytest.mark.parametrize("make", [pytest.param(make, id=name) for name, make in ARRAYS.items()])
def test_numpy_array(server: BlobServer, make: Callable[[], Any]) -> None:
    """`numpy.save` writes through `write`, `numpy.load` reads through `read`; neither finds a descriptor."""
    array = make()
    with BlobIO(server.url("array.npy"), "wb", credential=False, options=SMALL) as file:
        numpy.save(file, array)
    with BlobIO(server.url("array.npy"), "rb", credential=False, options=SMALL) as file:
        loaded = numpy.load(file)

    assert loaded.dtype == array.dtype
    assert numpy.array_equal(loaded, array)
    assert loaded.flags.f_contiguous == array.flags.f_contiguous


def test_numpy_archive(server: BlobServer) -> None:
    """A zip of arrays, each read when it is asked for."""
    arrays = {name: make() for name, make in ARRAYS.items()}
    with BlobIO(server.url("arrays.npz"), "wb", credential=False, options=SMALL) as file:
        numpy.savez(file, **arrays)
    with BlobIO(server.url("arrays.npz"), "rb", credential=False, options=SMALL) as file, numpy.load(file) as loaded:
        for name, array in arrays.items():
            assert numpy.array_equal(loaded[name], array), name


def test_several_numpy_arrays_in_one_file(server: BlobServer) -> None:
    """One after the other; a reader must stop where an array ends."""
    with BlobIO(server.url("arrays"), "wb", credential=False, options=SMALL) as file:
        for number in range(5):
            numpy.save(file, numpy.full(10_000, number))
    with BlobIO(server.url("arrays"), "rb", credential=False, options=SMALL) as file:
        assert [int(numpy.load(file)[0]) for _ in range(5)] == [0, 1, 2, 3, 4]


def test_bytes_fill_a_numpy_array_in_place(server: BlobServer) -> None:
    """Raw samples, without a copy in between."""
    array = numpy.arange(500_000, dtype=numpy.int32)
    with BlobIO(server.url("raw"), "wb", credential=False) as file:
        assert file.write(array) == 2_000_000
    target = numpy.empty((500, 1000), dtype=numpy.int32)
    with BlobIO(server.url("raw"), "rb", credential=False, options=SMALL) as file:
        assert file.readinto(target) == 2_000_000
    assert numpy.array_equal(target.ravel(), array)


def tensors() -> dict[str, torch.Tensor]:
    return {"weight": torch.arange(100_000.0).reshape(100, 1000), "bias": torch.ones(7, dtype=torch.bfloat16)}


def test_safetensors(server: BlobServer) -> None:
    """It takes and gives whole `bytes`."""
    with BlobIO(server.url("model.safetensors"), "wb", credential=False, options=SMALL) as file:
        file.write(safetensors.torch.save(tensors()))
    with BlobIO(server.url("model.safetensors"), "rb", credential=False, options=SMALL) as file:
        loaded = safetensors.torch.load(file.read())

    assert loaded.keys() == tensors().keys()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in tensors().items())


async def test_async_safetensors(server: BlobServer) -> None:
    """The same in an async program."""
    async with AsyncBlobIO(server.url("model.safetensors"), "wb", credential=False) as file:
        await file.write(safetensors.torch.save(tensors()))
    async with AsyncBlobIO(server.url("model.safetensors"), "rb", credential=False) as file:
        loaded = safetensors.torch.load(await file.read())

    assert all(torch.equal(loaded[name], tensor) for name, tensor in tensors().items())
