"""A blob that cannot be read: who learns of it, and what becomes of the others."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
from torch.utils.data import DataLoader

from azstoragetorch import TransferOptions
from azstoragetorch.datasets import Blob, BlobDataset, IterableBlobDataset
from azstoragetorch.exceptions import BlobAccessError, BlobModifiedError, BlobNotFoundError
from tests.blobserver import BlobServer, CutBody, Status, on
from tests.torch.datasets.child import checked, content_of, names, replaced_by_name
from tests.torch.datasets.program import flat, put, results

pytestmark = pytest.mark.timeout(90)

LISTED = names(12)
BAD = LISTED[5]
Face = Any
FACES = pytest.mark.parametrize("face", [BlobDataset, IterableBlobDataset])


@pytest.fixture(autouse=True)
def blobs(server: BlobServer) -> None:
    put(server, *LISTED)


def made(face: Face, server: BlobServer, **arguments: Any) -> Any:
    return face.from_container_url(server.container_url, prefix="train/", credential=False, **arguments)


@FACES
@pytest.mark.parametrize("prefetch", [0, 32])
def test_missing_blob_is_raised_with_its_name(face: Face, prefetch: int, server: BlobServer) -> None:
    """Deleted since it was listed; the samples before it are delivered, however far ahead the error was found."""
    dataset = made(face, server, prefetch=prefetch)
    server.delete(BAD)
    seen: list[str] = []

    with pytest.raises(BlobNotFoundError, match=r"00005\.bin") as caught:
        seen.extend(checked(sample) for sample in dataset)

    assert seen == LISTED[:5]
    assert isinstance(caught.value, FileNotFoundError)
    # The dataset is as good as before.
    server.put(BAD, b"")
    assert checked(next(iter(dataset))) == LISTED[0]


@FACES
@pytest.mark.parametrize("prefetch", [0, 32])
def test_replaced_blob_is_raised_unless_allowed(face: Face, prefetch: int, server: BlobServer) -> None:
    """Half of an epoch on one version of the data and half on another is nothing that anybody measured."""
    dataset = made(face, server, prefetch=prefetch)
    lenient = made(face, server, prefetch=prefetch, allow_modified=True)
    server.put(BAD, b"longer than it was when it was listed" * 1000)

    with pytest.raises(BlobModifiedError, match=r"00005\.bin"):
        list(dataset)
    assert list(lenient)[5]["data"] == b"longer than it was when it was listed" * 1000
    server.put(BAD, b"")
    assert list(lenient)[5]["data"] == b""


def test_map_dataset_raises_for_the_batch_that_has_the_blob(server: BlobServer) -> None:
    """And for no other batch."""
    dataset = made(BlobDataset, server)
    server.delete(BAD)
    with pytest.raises(BlobNotFoundError, match=r"00005\.bin"):
        dataset[5]
    with pytest.raises(BlobNotFoundError, match=r"00005\.bin"):
        dataset.__getitems__([1, 5, 2])
    assert [checked(sample) for sample in dataset.__getitems__([7, 1, 7])] == [LISTED[7], LISTED[1], LISTED[7]]
    assert checked(dataset[6]) == LISTED[6]


# Persistent, so that they end with the program: after an error torch waits 5 s for others, whatever the dataset.
WORKERS = [
    {"workers": 2, "method": "fork", "persistent": True},
    {"workers": 1, "method": "spawn", "persistent": True},
]


def test_error_of_a_worker_reaches_the_main_process_as_itself(server: BlobServer, tmp_path: Path) -> None:
    """A retry around the training loop asks for its type, and whoever reads the log for the name of the blob."""
    server.fault(on("GET", "", blob=BAD), Status(403, "AuthorizationPermissionMismatch"), times=None)

    found = results(
        server,
        tmp_path,
        *(
            {"dataset": {"kind": kind}, "loader": loader, "steps": [["read"], ["read"]]}
            for kind in ("map", "iterable")
            for loader in WORKERS
        ),
    )

    for steps in found:
        for step in steps:
            name, bases, message = step["error"]
            assert name == "BlobAccessError"
            assert {"AZStorageTorchError", "HttpResponseError", "PermissionError"} <= set(bases)
            assert "00005.bin" in message
            assert "Caught BlobAccessError in DataLoader worker process" in message
            assert "sig=" not in message


def failing(blob: Blob) -> Any:
    """Transform that fails for one blob, for reasons of its own."""
    if blob.blob_name == BAD:
        raise ZeroDivisionError("of the transform")
    return blob.blob_name


class Unusual(Exception):
    """Takes two arguments, so neither pickle nor a DataLoader can make it anew."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(one, two)


def failing_unusually(blob: Blob) -> Any:
    raise Unusual("one", "two")


@FACES
@pytest.mark.parametrize("prefetch", [0, 32])
def test_error_of_a_transform_says_which_blob(face: Face, prefetch: int, server: BlobServer) -> None:
    """Its type and message stay; the corrupt image has to be found among millions."""
    dataset = made(face, server, transform=failing, prefetch=prefetch)
    with pytest.raises(ZeroDivisionError, match="of the transform") as caught:
        list(dataset)
    assert any(BAD in note for note in getattr(caught.value, "__notes__", []))

    with pytest.raises(Unusual):
        list(made(face, server, transform=failing_unusually, prefetch=prefetch))


@FACES
@pytest.mark.parametrize("prefetch", [0, 32])
def test_replacement_takes_the_place_of_the_sample(face: Face, prefetch: int, server: BlobServer) -> None:
    """For what could not be read and for what could not be decoded, in order."""
    dataset = made(face, server, on_error=replaced_by_name, prefetch=prefetch)
    server.delete(BAD)

    samples = list(dataset)

    assert samples[5] == {"replaced": BAD, "error": "BlobNotFoundError"}
    assert [checked(sample) for sample in samples[:5] + samples[6:]] == LISTED[:5] + LISTED[6:]
    server.put(BAD, b"what the transform cannot read")
    seen: list[Any] = []
    with_transform = made(face, server, transform=failing, on_error=lambda blob, error: seen.append((blob, error)))
    assert list(with_transform)[5] is None
    ((blob, error),) = seen
    assert (blob.blob_name, type(error)) == (BAD, ZeroDivisionError)


def test_error_of_the_replacement_is_raised(server: BlobServer) -> None:
    """It is the last word: there is nothing to put in place of the place holder."""

    def again(blob: Blob, error: Exception) -> Any:
        raise LookupError("no replacement") from error

    server.fault(on("GET", "", blob=BAD), Status(403, "AuthorizationFailure"), times=None)
    with pytest.raises(LookupError) as caught:
        list(made(IterableBlobDataset, server, on_error=again))
    assert isinstance(caught.value.__cause__, BlobAccessError)


@pytest.mark.parametrize("loader", [{}, {"workers": 2}])
def test_skipped_blobs_are_left_out_and_counted(loader: dict[str, Any], server: BlobServer, tmp_path: Path) -> None:
    """A few broken blobs must not end a run of a week, and must not go unnoticed either."""
    for name in (LISTED[0], BAD, LISTED[11]):
        server.fault(on("GET", "", blob=name), Status(403, "AuthorizationFailure"), times=None)
    log = tmp_path / "log"

    ((order, again, stats),) = results(
        server,
        tmp_path,
        {
            "dataset": {"kind": "iterable", "on_error": "skip"},
            "loader": {**loader, "log": str(log)},
            "steps": [["read"], ["read"], ["stats"]],
        },
    )

    left = [name for name in LISTED if name not in (LISTED[0], BAD, LISTED[11])]
    assert sorted(flat(order)) == sorted(flat(again)) == left
    warnings = [line for line in log.read_text().splitlines() if line.startswith("WARNING azstoragetorch.datasets ")]
    assert len([line for line in warnings if BAD in line]) == 2
    if not loader:
        assert "skipped=6" in stats


def test_skipped_blobs_are_consumed_as_far_as_resuming_goes(server: BlobServer) -> None:
    """A state in the middle goes on behind them, and asks for none of them again."""
    for name in LISTED[2:6]:
        server.fault(on("GET", "", blob=name), Status(403, "AuthorizationFailure"), times=None)
    dataset = made(IterableBlobDataset, server, on_error="skip")
    samples = iter(dataset)
    begun = [checked(next(samples)) for _ in range(3)]
    state = dataset.state_dict()
    samples.close()
    server.clear()

    resumed = made(IterableBlobDataset, server, on_error="skip")
    resumed.load_state_dict(state)

    assert begun + [checked(sample) for sample in resumed] == LISTED[:2] + LISTED[6:]


@pytest.mark.parametrize(
    ("face", "arguments", "message"),
    [
        (BlobDataset, {"on_error": "skip"}, "IterableBlobDataset"),
        (IterableBlobDataset, {"on_error": "skip", "uneven": "drop"}, "uneven='drop'"),
        (IterableBlobDataset, {"on_error": "skip", "uneven": "pad"}, "uneven='pad'"),
        (IterableBlobDataset, {"on_error": "ignore"}, "on_error"),
        (BlobDataset, {"on_error": None}, "on_error"),
    ],
)
def test_on_error_that_breaks_a_promise_is_refused(
    face: Face, arguments: dict[str, Any], message: str, server: BlobServer
) -> None:
    """Indices that are no samples, equal counts that are not equal."""
    with pytest.raises((ValueError, TypeError), match=message):
        made(face, server, **arguments)


def test_interrupt_is_no_error_of_a_sample(server: BlobServer) -> None:
    """``on_error`` is for what is wrong with a blob; it must not keep a program from ending."""

    def interrupted(blob: Blob) -> Any:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(made(IterableBlobDataset, server, transform=interrupted, on_error="skip"))


async def test_errors_are_the_same_in_async_for(server: BlobServer) -> None:
    """One core, two faces."""
    server.delete(BAD)
    server.put(BAD, content_of(BAD))
    strict, skipping = made(IterableBlobDataset, server), made(IterableBlobDataset, server, on_error="skip")
    server.delete(BAD)
    seen = []

    with pytest.raises(BlobNotFoundError, match=r"00005\.bin"):
        async for sample in strict:
            seen.append(checked(sample))  # noqa: PERF401  # what came before the error counts

    assert seen == LISTED[:5]
    assert [checked(sample) async for sample in skipping] == [name for name in LISTED if name != BAD]
    with pytest.raises(BlobNotFoundError, match=r"00005\.bin"):
        await BlobDataset.from_blob_urls([server.url(LISTED[0]), server.url(BAD)], credential=False).aget_many([0, 1])


@FACES
def test_transient_faults_are_nobodys_business(face: Face, server: BlobServer) -> None:
    """What a retry can mend is no error of a sample, whatever ``on_error`` says."""
    dataset = made(face, server, on_error=replaced_by_name, options=TransferOptions(idle_timeout=5))
    server.fault(on("GET", "", blob=LISTED[2]), Status(503, "ServerBusy"))
    server.fault(on("GET", "", blob=LISTED[3]), CutBody(after=100))

    assert [checked(sample) for sample in dataset] == LISTED


@FACES
def test_pickled_dataset_holds_no_secret_of_a_credential(face: Face, server: BlobServer) -> None:
    """Errors hold none either, but a dataset goes to every worker; what it must carry is the SAS of its URL alone."""
    dataset = made(face, server)
    again = pickle.loads(pickle.dumps(dataset))
    assert [checked(sample) for sample in again] == LISTED
    loader: Any = DataLoader(again, batch_size=5, collate_fn=list)
    assert [checked(sample) for batch in loader for sample in batch] == LISTED
