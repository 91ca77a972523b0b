"""`torch.save` and `torch.load` through blobs."""

from __future__ import annotations

import asyncio
import io
from typing import Any

import pytest
import torch

from azstoragetorch import TransferOptions
from azstoragetorch.aio import AsyncBlobIO
from azstoragetorch.exceptions import BlobModifiedError, FatalBlobIOWriteError
from azstoragetorch.io import BlobIO
from tests.blobserver import BlobServer, Call, Status, on, synthetic_bytes

pytestmark = pytest.mark.timeout(120)

MiB = 1024 * 1024
SMALL = TransferOptions(range_size=64 * 1024, block_size=100_000, memory_budget=2 * MiB)

State = dict[str, Any]


def state() -> State:
    """A state dict with every usual kind of content, about 10 MiB."""
    generator = torch.Generator().manual_seed(7)
    return {
        "weight": torch.randn(1000, 1000, generator=generator),
        "half": torch.randn(333, generator=generator).to(torch.bfloat16),
        "indices": torch.arange(1_000_000, dtype=torch.int32),
        "mask": torch.zeros(77, dtype=torch.bool),
        "transposed": torch.randn(70, 30, generator=generator).t(),
        "scalar": torch.tensor(3.5),
        "empty": torch.empty(0, 5),
        "step": 1234,
        "nested": {"betas": (0.9, 0.999), "lr": [1e-3], "name": "Adam"},
    }


def same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and one.shape == other.shape and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return bool(one == other)


def save(url: str, value: Any, *, zipped: bool = True, options: TransferOptions | None = None) -> None:
    with BlobIO(url, "wb", credential=False, options=options) as file:
        torch.save(value, file, _use_new_zipfile_serialization=zipped)


def load(url: str, *, options: TransferOptions | None = None, **arguments: Any) -> Any:
    with BlobIO(url, "rb", credential=False, options=options) as file:
        return torch.load(file, **arguments)


@pytest.mark.parametrize("options", [None, SMALL], ids=["defaults", "small ranges and blocks"])
@pytest.mark.parametrize("weights_only", [True, False])
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_checkpoint_comes_back_as_it_was(
    server: BlobServer, zipped: bool, weights_only: bool, options: TransferOptions | None
) -> None:
    """The main job."""
    url = server.url("model.pth")
    save(url, state(), zipped=zipped, options=options)

    assert same(load(url, weights_only=weights_only, map_location="cpu", options=options), state())


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_checkpoint_on_the_emulator_comes_back_as_it_was(container_url: str, zipped: bool) -> None:
    """Through a service that was not written for us."""
    base, _, sas = container_url.partition("?")
    url = f"{base}/folder/model.pth?{sas}"
    with BlobIO(url, "wb") as file:
        torch.save(state(), file, _use_new_zipfile_serialization=zipped)
    with BlobIO(url, "rb") as file:
        assert same(torch.load(file), state())
    with pytest.raises(FileExistsError), BlobIO(url, "xb") as file:
        torch.save(state(), file)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_blob_has_the_bytes_of_a_local_file(server: BlobServer, zipped: bool) -> None:
    """What is uploaded can be downloaded by any tool and loaded from disk, and the other way round."""
    url = server.url("model.pth")
    save(url, state(), zipped=zipped)

    assert same(torch.load(io.BytesIO(server.get("model.pth"))), state())
    local = io.BytesIO()
    torch.save(state(), local, _use_new_zipfile_serialization=zipped)
    server.put("local.pth", local.getvalue())
    assert same(load(server.url("local.pth")), state())


def test_meta_load_reads_little_of_a_large_checkpoint(server: BlobServer) -> None:
    """`map_location="meta"` asks for names and shapes only, and pays for little more."""
    value = {f"layer{number}": torch.zeros(2 * MiB) for number in range(24)}
    url = server.url("model.pth")
    save(url, value)
    server.log.clear()

    loaded = load(url, map_location="meta")

    assert {name: (each.device.type, each.shape) for name, each in loaded.items()} == {
        name: ("meta", each.shape) for name, each in value.items()
    }
    server.wait_idle()
    assert sum(record.bytes_sent for record in server.requests("GET")) < server.version("model.pth").size // 4


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_shared_storages_stay_shared(server: BlobServer, zipped: bool) -> None:
    """Tied weights that come apart train apart."""
    weight = torch.arange(1000.0)
    save(server.url("model.pth"), {"one": weight, "tied": weight, "view": weight[10:20]}, zipped=zipped)

    loaded = load(server.url("model.pth"))
    loaded["one"][12] = -1

    assert loaded["tied"][12] == -1
    assert loaded["view"][2] == -1
    assert server.version("model.pth").size < 10_000


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_twenty_thousand_tiny_tensors(server: BlobServer, zipped: bool) -> None:
    """Optimizer states look like this: small reads must not become requests."""
    count = 20_000
    url = server.url("model.pth")
    save(url, [torch.tensor([number, number + 1]) for number in range(count)], zipped=zipped)
    server.log.clear()

    loaded = load(url)

    assert torch.equal(torch.stack(loaded)[:, 0], torch.arange(count))
    assert len(server.requests()) < 20


def test_several_objects_in_one_legacy_file(server: BlobServer) -> None:
    """The legacy format can be appended to itself; the reader stops where each one ends."""
    with BlobIO(server.url("many"), "wb", credential=False) as file:
        for number in range(3):
            torch.save(torch.full((10,), number), file, _use_new_zipfile_serialization=False)
    with BlobIO(server.url("many"), "rb", credential=False) as file:
        assert [int(torch.load(file)[0]) for _ in range(3)] == [0, 1, 2]


def test_mmap_is_refused_by_torch_itself(server: BlobServer) -> None:
    """A blob has no descriptor to map; torch says so, and nothing hangs or is downloaded."""
    save(server.url("model.pth"), state())
    with pytest.raises((RuntimeError, ValueError), match="mmap"):
        load(server.url("model.pth"), mmap=True)


def test_failing_save_keeps_the_previous_checkpoint(server: BlobServer) -> None:
    """An object that does not pickle comes to light in the middle of the file."""
    url = server.url("model.pth")
    save(url, state())
    before = server.version("model.pth").etag

    with pytest.raises((AttributeError, TypeError)):
        save(url, {"weight": torch.zeros(MiB), "function": lambda: None}, options=SMALL)

    assert server.version("model.pth").etag == before
    assert same(load(url), state())


def test_failing_upload_is_raised_by_save(server: BlobServer) -> None:
    """torch hides what `write` raises behind "unexpected pos"; the user has to see the reason."""
    url = server.url("model.pth")
    save(url, state())
    server.fault(on("PUT", "block"), Status(403, "AuthorizationPermissionMismatch"), times=None)

    with pytest.raises(FatalBlobIOWriteError, match="403"):
        save(url, {"weight": torch.ones(MiB)}, options=SMALL)

    assert same(load(url), state())


def test_checkpoint_replaced_during_load_is_an_error(server: BlobServer) -> None:
    """Never half of one and half of the next."""
    url = server.url("model.pth")
    save(url, state())
    old = server.get("model.pth")
    server.fault(on("GET", covers=len(old) // 2), Call(lambda: server.put("model.pth", bytes(len(old)))))

    with pytest.raises(BlobModifiedError):
        load(url, options=SMALL)


async def test_checkpoints_load_in_an_async_program(server: BlobServer) -> None:
    """All shards at once, on the program's own loop."""
    for number in range(4):
        buffer = io.BytesIO()
        torch.save({"rank": number, "weight": torch.full((1000, 100), float(number))}, buffer)
        async with AsyncBlobIO(server.url(f"shard{number}"), "wb", credential=False) as file:
            await file.write(buffer.getbuffer())

    async def loaded(number: int) -> Any:
        async with AsyncBlobIO(server.url(f"shard{number}"), "rb", credential=False) as file:
            return torch.load(io.BytesIO(await file.read()))

    shards = await asyncio.gather(*(loaded(number) for number in range(4)))

    assert [shard["rank"] for shard in shards] == [0, 1, 2, 3]
    assert all(torch.all(shard["weight"] == shard["rank"]) for shard in shards)


async def test_async_read_fills_a_tensor_in_place(server: BlobServer) -> None:
    """No copy between the socket's chunks and the tensor."""
    server.put_synthetic("raw", 20 * MiB)
    target = torch.empty(20 * MiB, dtype=torch.uint8)
    async with AsyncBlobIO(server.url("raw"), "rb", credential=False) as file:
        assert await file.readinto(target.numpy()) == 20 * MiB

    assert target.numpy().tobytes() == synthetic_bytes(0, 20 * MiB)
