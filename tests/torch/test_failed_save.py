"""torch.save through a file whose writes fail: the reason is seen, and the previous checkpoint stands."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any, NoReturn

import numpy
import pytest
import torch

from azstoragetorch import TransferOptions
from azstoragetorch.exceptions import BlobAccessError, BlobServiceError, FatalBlobIOWriteError
from azstoragetorch.io import BlobIO
from tests.blobserver import BlobServer, Status, on
from tests.files.leaks import no_leaks

SMALL = TransferOptions(block_size=10_000, in_flight=2)
STATE = {f"layer{number}": torch.arange(1000.0) for number in range(40)}
ZIP = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])


@pytest.fixture(autouse=True)
def leaks(server: BlobServer) -> Iterator[None]:
    with no_leaks(server):
        yield


@pytest.fixture
def good(server: BlobServer) -> bytes:
    """The last checkpoint that was saved."""
    memory = io.BytesIO()
    torch.save({"good": torch.ones(3)}, memory)
    server.put("model.pth", memory.getvalue())
    return memory.getvalue()


def checkpoint(server: BlobServer, mode: Any = "wb") -> BlobIO:
    return BlobIO(server.url("model.pth"), mode, credential=False, options=SMALL)


def save(file: BlobIO, zipped: bool) -> None:
    torch.save(STATE, file, _use_new_zipfile_serialization=zipped)


class Unpicklable:
    """Fails in the middle of a save, the way an open file in a state dict does."""

    def __reduce__(self) -> NoReturn:
        raise TypeError("cannot pickle this")


@ZIP
@pytest.mark.parametrize("nth", [1, 5])
def test_failed_write_shows_its_reason(server: BlobServer, good: bytes, zipped: bool, nth: int) -> None:
    """torch reports "unexpected pos" or goes on; what the user needs is what the service refused, and why."""
    server.fault(on("PUT", "block"), Status(403, "AuthorizationPermissionMismatch"), times=None, nth=nth)

    with pytest.raises(FatalBlobIOWriteError, match="no credential was sent") as caught:  # noqa: SIM117
        with checkpoint(server) as file:
            save(file, zipped)

    assert isinstance(caught.value.__cause__, BlobAccessError)
    assert server.get("model.pth") == good
    assert not server.requests("PUT", comp="blocklist")
    assert not server.requests("PUT", comp="")


@ZIP
def test_failed_write_without_with_shows_its_reason_at_close(server: BlobServer, good: bytes, zipped: bool) -> None:
    """Where nobody is around to translate, close still tells."""
    server.fault(on("PUT", "block"), Status(403, "AuthorizationFailure"), times=None)
    file = checkpoint(server)
    with pytest.raises((FatalBlobIOWriteError, RuntimeError)):
        save(file, zipped)
    with pytest.raises(FatalBlobIOWriteError):
        file.close()

    assert server.get("model.pth") == good


@ZIP
def test_failed_commit_is_raised_by_the_with_statement(server: BlobServer, good: bytes, zipped: bool) -> None:
    """torch.save itself succeeded; the program must not believe that the checkpoint is saved."""
    server.fault(on("PUT", "blocklist"), Status(403, "AuthorizationFailure"))
    with pytest.raises(BlobServiceError), checkpoint(server) as file:
        save(file, zipped)
    assert server.get("model.pth") == good


@ZIP
def test_failing_pickle_publishes_nothing(server: BlobServer, good: bytes, zipped: bool) -> None:
    """The zip writer ends its archive even then, and a closed file would hold a checkpoint without an end."""
    with pytest.raises(TypeError, match="cannot pickle this"), checkpoint(server) as file:
        torch.save({**STATE, "bad": Unpicklable()}, file, _use_new_zipfile_serialization=zipped)

    assert server.get("model.pth") == good
    assert not server.requests("PUT", comp="blocklist")
    assert not server.requests("PUT", comp="")


@ZIP
def test_save_of_a_name_that_is_taken(server: BlobServer, good: bytes, zipped: bool) -> None:
    """Mode x says so as open() does, whatever torch makes of the error on its way."""
    with pytest.raises(FileExistsError), checkpoint(server, "xb") as file:
        save(file, zipped)
    assert server.get("model.pth") == good


@ZIP
def test_busy_service_costs_nothing_but_time(server: BlobServer, zipped: bool) -> None:
    """The other side: what can be saved is saved, and loads."""
    server.fault(on("PUT", "block"), Status(503, "ServerBusy"), times=3)
    with checkpoint(server) as file:
        save(file, zipped)
    loaded = torch.load(io.BytesIO(server.get("model.pth")), weights_only=True)
    assert all(torch.equal(loaded[name], tensor) for name, tensor in STATE.items())


def test_tensor_may_change_after_save(server: BlobServer) -> None:
    """The optimizer's next step, in place, must not reach into an upload that is still under way."""
    tensor = torch.zeros(20_000)
    with checkpoint(server) as file:
        torch.save(tensor, file)
        tensor.fill_(1.0)
    assert torch.equal(torch.load(io.BytesIO(server.get("model.pth"))), torch.zeros(20_000))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (numpy.arange(5000, dtype="<i4").reshape(50, 100), numpy.arange(5000, dtype="<i4").tobytes()),
        (torch.arange(5000, dtype=torch.int32).numpy(), numpy.arange(5000, dtype="<i4").tobytes()),
        (numpy.zeros((0, 3)), b""),
        (numpy.zeros((3, 0, 2), dtype="i4"), b""),
        (numpy.array(7, dtype="<i8"), b"\7\0\0\0\0\0\0\0"),
    ],
    ids=["two dimensions", "tensor", "no rows", "zero inside", "no dimension"],
)
def test_arrays_are_written_as_their_bytes(server: BlobServer, data: Any, expected: bytes) -> None:
    """Counted in bytes, whatever their items and shape."""
    with checkpoint(server) as file:
        assert file.write(data) == len(expected)
        assert file.tell() == len(expected)
    assert server.get("model.pth") == expected


@pytest.mark.parametrize("data", [numpy.zeros((4, 4)).T[1:, ::2], numpy.asfortranarray(numpy.ones((3, 4)))])
def test_arrays_with_gaps_are_refused(server: BlobServer, data: Any) -> None:
    """Their memory is not their content in order; a silent copy of a large one would surprise as much."""
    with checkpoint(server) as file:
        with pytest.raises(BufferError):
            file.write(data)
        file.write(b"x")
    assert server.get("model.pth") == b"x"
