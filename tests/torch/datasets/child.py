"""What the programs of these tests share: blobs whose content follows from their name, datasets from a description.

A program gets its job as JSON and prints JSON, one line a result. Everything that workers unpickle is defined in a
module and never in the script itself, so that it is the same under fork, spawn and forkserver.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import unquote, urlsplit

from azstoragetorch.datasets import Blob, BlobDataset, IterableBlobDataset
from azstoragetorch.listing import BlobListing

__all__ = [
    "AnyDataset",
    "checked",
    "content_of",
    "job_of",
    "made",
    "name_only",
    "names",
    "replaced_by_name",
    "say",
]

AnyDataset: TypeAlias = BlobDataset[Any] | IterableBlobDataset[Any]


def names(count: int, folder: str = "train") -> list[str]:
    """Return names of blobs in the order of a listing; among 14 or more of them is one of an empty blob."""
    return [f"{folder}/{number:05}{'-empty' if number == 13 else ''}.bin" for number in range(count)]


def content_of(name: str) -> bytes:
    """Return the bytes of the blob of this name: up to 6,000, none where the name says so."""
    digest = hashlib.sha256(name.encode()).digest()
    return b"" if "empty" in name else (digest * 188)[: int.from_bytes(digest[:2], "big") % 6000 + 1]


def checked(sample: Mapping[str, Any]) -> str:
    """Return the name of the blob that a default sample is of, after a look at its bytes."""
    assert set(sample) == {"url", "data"}, sorted(sample)
    name = unquote(urlsplit(sample["url"]).path).split("/", 3)[3]
    assert sample["data"] == content_of(name), f"{name} came with the bytes of something else"
    return name


def name_only(blob: Blob) -> str:
    """Transform that reads nothing."""
    return blob.blob_name


def replaced_by_name(blob: Blob, error: Exception) -> dict[str, Any]:
    """Stand-in for a sample that could not be read."""
    assert blob.blob_name in str(error), error
    return {"replaced": blob.blob_name, "error": type(error).__name__}


def made(container_url: str, spec: Mapping[str, Any]) -> AnyDataset:
    """Make a dataset from its description.

    :param spec: ``kind`` is ``"map"`` or ``"iterable"``; ``source`` is ``"container"``, ``"listing"`` or ``"urls"``
        (of ``names``); ``prefix`` selects; ``transform`` and ``on_error`` name functions of this module; whatever
        else it has are arguments of the dataset.
    """
    rest = dict(spec)
    kind, source = rest.pop("kind"), rest.pop("source", "container")
    prefix, listed = rest.pop("prefix", "train/"), rest.pop("names", None)
    for argument in ("transform", "on_error"):
        if rest.get(argument) in globals():
            rest[argument] = globals()[rest[argument]]
    faces: dict[str, Any] = {"map": BlobDataset, "iterable": IterableBlobDataset}
    face = faces[kind]
    dataset: AnyDataset
    if source == "container":
        if prefix == "nothing/":  # that there is nothing below it is warned about, as another test shows
            logging.getLogger("azstoragetorch.listing").setLevel(logging.ERROR)
        dataset = face.from_container_url(container_url, prefix=prefix, credential=False, **rest)
    elif source == "listing":
        listing = BlobListing.build(container_url, prefix=prefix, credential=False)
        dataset = face.from_listing(listing, credential=False, **rest)
    else:
        dataset = face.from_blob_urls(urls(container_url, listed), credential=False, **rest)
    return dataset


def urls(container_url: str, listed: Iterable[str]) -> Iterator[str]:
    """Yield URLs one by one, as users do who make them from a table."""
    return (f"{container_url}/{name}" for name in listed)


def job_of(path: str) -> Any:
    """Return the job that the test wrote down."""
    return json.loads(Path(path).read_text(encoding="utf-8"))


def say(result: object) -> None:
    """Print one result; in one write, since children share the pipe."""
    data = json.dumps(result).encode() + b"\n"
    while data:
        data = data[os.write(1, data) :]
