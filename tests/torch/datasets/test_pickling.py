"""What cannot go to a worker process is named before the pickler trips over it."""

from __future__ import annotations

import multiprocessing
import pickle
from functools import partial
from typing import Any, Literal

import pytest
from torch.utils.data import DataLoader

from azstoragetorch.datasets import Blob, BlobDataset, IterableBlobDataset
from tests.blobserver import BlobServer

KINDS = pytest.mark.parametrize("kind", [BlobDataset, IterableBlobDataset])
URL = "https://account.blob.core.windows.net/container/a"

pytestmark = pytest.mark.timeout(60)


def local() -> Any:
    def inside(blob: Blob, *_: Any) -> int:
        return blob.size or 0

    return inside


def start(method: Literal["spawn", "forkserver"], dataset: Any) -> None:
    processes: Any = multiprocessing.get_context(method)
    processes.Process(target=len, args=(dataset,)).start()


@KINDS
@pytest.mark.parametrize("argument", ["transform", "on_error"])
@pytest.mark.parametrize(
    "wrap", [lambda function: function, lambda function: partial(function, key=1)], ids=["", "partial"]
)
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_function_that_cannot_be_imported_is_named(
    kind: Any, argument: str, wrap: Any, method: Literal["spawn", "forkserver"]
) -> None:
    """Python's own message names neither the dataset nor the argument, nor another way."""
    dataset = kind.from_blob_urls([URL], credential=False, **{argument: wrap(local())})
    with pytest.raises(TypeError, match=rf"the dataset's {argument}, local\.<locals>\.inside of .*'fork'"):
        start(method, dataset)


@KINDS
def test_lambda_works_in_forked_workers(kind: Any, server: BlobServer) -> None:
    """Nothing is pickled for them."""
    server.put("a", b"content")
    dataset = kind.from_blob_urls([server.url("a")], credential=False, transform=lambda blob: blob.read())
    assert list(DataLoader(dataset, batch_size=None, num_workers=1, multiprocessing_context="fork")) == [b"content"]


@KINDS
def test_other_picklers_are_left_alone(kind: Any) -> None:
    """Some copy functions by value; it is for them to say what they cannot do."""
    with pytest.raises((AttributeError, pickle.PicklingError), match="local object"):
        pickle.dumps(kind.from_blob_urls([URL], credential=False, transform=local()))
