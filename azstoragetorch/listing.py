"""What is in a container, listed once: look at it, choose from it, keep it in a file, and train on it.

    listing = BlobListing.build("https://<account>.blob.core.windows.net/<container>", prefix="train/")
    listing = listing.filter(suffix=(".jpg", ".png"))
    listing.save("train.azlist")  # or to a blob: "https://..."
    dataset = IterableBlobDataset.from_listing(BlobListing.load("train.azlist"))

A million blobs take about 80 MB, once per machine: processes share the memory. torch is not needed here.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import logging
import os
import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from fnmatch import translate
from functools import partial
from pathlib import Path
from typing import Any, SupportsIndex, TypeGuard, overload

from azstoragetorch._azure.container import AzureContainer
from azstoragetorch._azure.credentials import Credential, check_credential
from azstoragetorch._bridge import run
from azstoragetorch._data.bar import Counter
from azstoragetorch._data.manifest import Manifest, map_manifest, read_manifest, write_manifest
from azstoragetorch._face import checked_options
from azstoragetorch._transfer.listing import collect
from azstoragetorch._transfer.threads import in_thread
from azstoragetorch._values.options import TransferOptions
from azstoragetorch._values.stats import TransferStats
from azstoragetorch._values.table import BlobTable
from azstoragetorch._values.url import ContainerUrl
from azstoragetorch._values.version import BlobEntry
from azstoragetorch.io import BlobIO

__all__ = ["BlobEntry", "BlobListing"]

_logger = logging.getLogger(__name__)


class BlobListing(Sequence[BlobEntry]):
    """The blobs of a container at the time of the listing, sorted by name; immutable.

    Made by :meth:`build`, :meth:`abuild` and :meth:`load`. An index gives a :class:`BlobEntry`: ``name``, ``size``,
    ``etag``, ``last_modified``. A slice gives a listing. Placeholders of directories are not in it.

    It pickles, with the SAS of its container if that has one. Workers that are started with it share its memory.
    """

    __slots__ = ("_archived", "_container", "_digest", "_prefix", "_table")

    def __init__(
        self,
        container: ContainerUrl,
        table: BlobTable,
        *,
        prefix: str | None = None,
        archived: tuple[str, ...] = (),
        digest: str | None = None,
    ) -> None:
        self._container = container
        self._table = table
        self._prefix = prefix
        self._archived = archived
        self._digest = digest

    @classmethod
    def build(
        cls,
        container_url: str,
        *,
        prefix: str | None = None,
        credential: Credential = None,
        options: TransferOptions | None = None,
        progress: bool = False,
    ) -> BlobListing:
        """List a container.

        :param container_url: URL of the container, with a SAS or without.
        :param prefix: list only the blobs whose names start with it; not percent-encoded. ``None`` lists all.
        :param credential: as of :class:`~azstoragetorch.io.BlobIO`; it is used and not kept.
        :param options: how to transfer, ``None`` for the defaults; the time-outs apply to each page.
        :param progress: show a progress bar on stderr; needs ``pip install 'azstoragetorch[progress]'``.
        :raises TypeError: if an argument is of the wrong type.
        :raises ValueError: if the URL is not one of a container, or a token or key would be sent over plain http.
        :raises ImportError: if ``progress`` is asked for and tqdm is not installed.
        :raises ContainerNotFoundError: if there is no such container.
        :raises AZStorageTorchError: if it could not be listed.
        """
        return run(_Plan.of(container_url, prefix, credential, options, progress).listing)

    @classmethod
    async def abuild(
        cls,
        container_url: str,
        *,
        prefix: str | None = None,
        credential: Credential = None,
        options: TransferOptions | None = None,
        progress: bool = False,
    ) -> BlobListing:
        """List a container, on the running event loop: :meth:`build` for coroutines.

        All arguments are as in :meth:`build`.

        :raises: as :meth:`build`.
        """
        return await _Plan.of(container_url, prefix, credential, options, progress).listing()

    @classmethod
    def load(
        cls,
        source: str | os.PathLike[str],
        *,
        container_url: str | None = None,
        credential: Credential = None,
        options: TransferOptions | None = None,
    ) -> BlobListing:
        """Read a manifest that :meth:`save` wrote, from a local file or a blob.

        A local file is mapped and not read, so all processes of a machine share it. Replace it (as :meth:`save` does)
        and never write into it while it is in use. A manifest says which container the blobs are in, and a dataset
        sends its credential there: load none from where others may write, or give ``container_url``.

        :param source: a path, or the URL of a blob.
        :param container_url: the container, with the SAS that reading takes; ``None`` for that of the manifest.
        :param credential: for reading the manifest, as of :class:`~azstoragetorch.io.BlobIO`.
        :param options: for reading the manifest; ``None`` for the defaults.
        :raises ValueError: if it is no manifest, is cut or damaged, or is of another container than ``container_url``.
        :raises OSError: if a local file cannot be read.
        :raises AZStorageTorchError: if the blob cannot be read.
        """
        given = None if container_url is None else ContainerUrl.parse(container_url)
        if _is_url(source):
            with BlobIO(source, "rb", credential=credential, options=options) as file:
                size = file.seek(0, io.SEEK_END)
                file.seek(0)
                manifest = read_manifest(file, size, file.name)
        else:
            manifest = map_manifest(Path(source))
        container = ContainerUrl.parse(manifest.container)
        if given is not None and given.url != container.url:
            raise ValueError(f"the manifest lists {container}, but container_url is {given}; give the same one")
        prefix, archived = manifest.prefix, manifest.archived
        return cls(given or container, manifest.table, prefix=prefix, archived=archived, digest=manifest.digest)

    def save(
        self,
        target: str | os.PathLike[str],
        *,
        credential: Credential = None,
        options: TransferOptions | None = None,
    ) -> None:
        """Write a manifest that :meth:`load` reads: all but the SAS. What was there is replaced, at once or not at all.

        :param target: a path, or the URL of a blob.
        :param credential: for writing it to a blob, as of :class:`~azstoragetorch.io.BlobIO`.
        :param options: for writing it to a blob; ``None`` for the defaults.
        :raises OSError: if a local file cannot be written.
        :raises AZStorageTorchError: if the blob cannot be written.
        """
        manifest = Manifest(self.container_url, self._prefix, self._archived, self._table, self._content_digest())
        if _is_url(target):
            with BlobIO(target, "wb", credential=credential, options=options) as file:
                write_manifest(manifest, file)
            return
        path = Path(target).resolve()  # a link stays one
        unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        try:
            with unfinished.open("xb") as local:
                write_manifest(manifest, local)
                local.flush()
                os.fsync(local.fileno())
            unfinished.replace(path)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise

    def filter(
        self,
        *,
        suffix: str | tuple[str, ...] | None = None,
        glob: str | None = None,
        predicate: Callable[[BlobEntry], object] | None = None,
    ) -> BlobListing:
        """Return a listing of the blobs that meet all conditions that are not ``None``, in the same order.

        :param suffix: what the name ends with, or a tuple of such.
        :param glob: a pattern of the whole name as of :func:`fnmatch.fnmatchcase`: ``*`` also stands for ``/``.
        :param predicate: called with each :class:`BlobEntry` that met the others; slower than they are.
        :raises TypeError: if an argument is of the wrong type.
        """
        if not isinstance(suffix, str | tuple | None):
            raise TypeError(f"suffix must be a str or a tuple of them, not {type(suffix).__name__}")
        if not isinstance(glob, str | None):
            raise TypeError(f"glob must be a str, not {type(glob).__name__}")
        table = self._table
        matches = None if glob is None else re.compile(translate(glob)).match
        chosen: Iterable[int] = range(len(table))
        if suffix is not None or matches is not None:
            chosen = (
                i
                for i, name in enumerate(table.names())
                if (suffix is None or name.endswith(suffix)) and (matches is None or matches(name))
            )
        if predicate is not None:
            chosen = (i for i in chosen if predicate(table[i]))
        return self._with(table.select(chosen))

    @property
    def container_url(self) -> str:
        """URL of the container, without a SAS."""
        return self._container.url

    @property
    def prefix(self) -> str | None:
        """What all names start with, if it was asked for."""
        return self._prefix

    @property
    def size(self) -> int | None:
        """Bytes of all blobs together; ``None`` if that of any is unknown."""
        return self._table.size

    @property
    def archived(self) -> tuple[str, ...]:
        """Names of the blobs left out because they are in the archive tier, where they cannot be read."""
        return self._archived

    @property
    def fingerprint(self) -> str:
        """32 hexadecimal digits that change with the container and with any name, size, ETag or the order of blobs."""
        text = f"{self.container_url}\n{self._content_digest()}"
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    def __len__(self) -> int:
        """Return how many blobs there are."""
        return len(self._table)

    @overload
    def __getitem__(self, index: SupportsIndex) -> BlobEntry: ...

    @overload
    def __getitem__(self, index: slice) -> BlobListing: ...

    def __getitem__(self, index: Any) -> BlobEntry | BlobListing:
        """Return one blob, or for a slice a listing.

        :raises IndexError: if there is no such blob.
        """
        found = self._table[index]
        return self._with(found) if isinstance(found, BlobTable) else found

    def __iter__(self) -> Iterator[BlobEntry]:
        """Yield the blobs in the order of their names."""
        return iter(self._table)

    def __repr__(self) -> str:
        prefix = "" if self._prefix is None else f", prefix={self._prefix!r}"
        return f"{type(self).__name__}({self.container_url!r}{prefix}, {len(self)} blobs)"

    def _with(self, table: BlobTable) -> BlobListing:
        return type(self)(self._container, table, prefix=self._prefix, archived=self._archived)

    def _content_digest(self) -> str:
        if self._digest is None:
            self._digest = self._table.digest()
        return self._digest


@dataclasses.dataclass(frozen=True, slots=True)
class _Plan:
    """A listing to be made, its arguments checked."""

    url: ContainerUrl
    prefix: str | None
    credential: Credential
    options: TransferOptions
    counter: Counter

    @classmethod
    def of(
        cls, container_url: str, prefix: str | None, credential: Credential, options: TransferOptions | None, bar: bool
    ) -> _Plan:
        chosen = checked_options(options)
        if prefix is not None and not isinstance(prefix, str):
            raise TypeError(f"prefix must be a str or None, not {type(prefix).__name__}")
        url = ContainerUrl.parse(container_url)
        check_credential(url, credential)
        return cls(url, prefix or None, credential, chosen, Counter(f"listing {url.container}", shown=bar))

    async def listing(self) -> BlobListing:
        container = await AzureContainer.open(self.url, self.credential, self.options, TransferStats())
        deadline = self.options.deadline
        with self.counter:
            found = await collect(container, self.prefix, deadline=deadline, listed=self.counter.add)
        archived = tuple(found.archived)
        if archived:
            _logger.warning(
                "%d blobs of %s are in the archive tier and are left out, the first is %r; rehydrate them to read them",
                len(archived),
                self.url,
                archived[0],
            )
        if not found.chunks:
            below = f" whose name starts with {self.prefix!r}" if self.prefix else ""
            slash = "; names do not start with a slash" if (self.prefix or "").startswith("/") else ""
            _logger.warning("%s has no blob%s%s", self.url, below, slash)
        # Not on the loop: a million take 0.1 s.
        table = await in_thread(partial(BlobTable.of, found.chunks), doing=f"listing {self.url}", deadline=deadline)
        return BlobListing(self.url, table, prefix=self.prefix, archived=archived)


def _is_url(place: str | os.PathLike[str]) -> TypeGuard[str]:
    return isinstance(place, str) and place.lower().startswith(("https://", "http://"))
