"""What both file faces share: putting the layers together, telling about a file, and letting a lost one go."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from dataclasses import replace
from typing import NoReturn, ParamSpec, Self

from azstoragetorch._azure.blob import AzureBlob
from azstoragetorch._azure.credentials import Credential, check_credential
from azstoragetorch._bridge import generation
from azstoragetorch._transfer.content import Download, Upload
from azstoragetorch._transfer.cursor import ReadCursor, WriteCursor
from azstoragetorch._transfer.file import BlobFile, Mode, drive
from azstoragetorch._values.options import TransferOptions
from azstoragetorch._values.stats import TransferStats
from azstoragetorch._values.url import BlobUrl
from azstoragetorch.exceptions import BlobFileForkedError, redact

__all__ = ["FileFace", "Mode", "abandon", "blob_file", "checked_options"]

_P = ParamSpec("_P")

_MODES = "'rb' reads, 'wb' creates or replaces, 'xb' creates only; text goes through io.TextIOWrapper"


def blob_file(blob_url: str, mode: Mode, credential: Credential, options: TransferOptions | None) -> BlobFile:
    """Check the arguments of a file and put it together; does no I/O.

    :raises TypeError: if an argument is of the wrong type.
    :raises ValueError: if the URL is not one of a blob, the mode is none of ``rb``, ``wb``, ``xb``, a snapshot or
        version is opened for writing, or a token or key would be sent over plain http to another machine.
    """
    if mode not in ("rb", "wb", "xb"):
        shown = redact(repr(mode))  # a URL may be in its place
        swapped = "; the URL comes first and the mode second" if "://" in shown else ""
        raise ValueError(f"mode must be 'rb', 'wb' or 'xb', not {shown}{swapped}: {_MODES}")
    url = BlobUrl.parse(blob_url)
    if mode != "rb":
        url.require_writable()
    check_credential(url, credential)
    chosen = checked_options(options)
    stats = TransferStats()

    async def connect() -> AzureBlob:
        return await AzureBlob.open(url, credential, chosen, stats)

    if mode == "rb":
        return BlobFile(str(url), mode, ReadCursor(Download(connect, chosen)), stats)
    upload = Upload(connect, chosen, create_only=mode == "xb")
    return BlobFile(str(url), mode, WriteCursor(upload), stats)


def checked_options(options: TransferOptions | None) -> TransferOptions:
    """Return ``options``, or the defaults.

    :raises TypeError: if they are of another type.
    """
    if options is None:
        return TransferOptions()
    if not isinstance(options, TransferOptions):
        raise TypeError(f"options must be TransferOptions or None, not {type(options).__name__}")
    return options


def _asking_for_mode(init: Callable[_P, None]) -> Callable[_P, None]:
    """Say which modes there are where one is forgotten, as ``open`` lets people; the signature stays as it is."""

    @functools.wraps(init)
    def asked(*arguments: _P.args, **options: _P.kwargs) -> None:
        if len(arguments) + ("blob_url" in options) == 2 and "mode" not in options:  # the face itself and the URL
            raise TypeError(f"{type(arguments[0]).__name__} needs a mode after the URL: {_MODES}")
        init(*arguments, **options)

    return asked


class FileFace:
    """What a user can ask of a file without a request."""

    @_asking_for_mode
    def __init__(
        self,
        blob_url: str,
        mode: Mode,
        *,
        credential: Credential = None,
        options: TransferOptions | None = None,
    ) -> None:
        self._take(blob_file(blob_url, mode, credential, options))

    @classmethod
    def _around(cls, file: BlobFile) -> Self:
        """Return the face of a file that was put together elsewhere: a dataset's blob opens its own."""
        face = cls.__new__(cls)
        face._take(file)
        return face

    def _take(self, file: BlobFile) -> None:
        """Become the face of ``file``."""
        self._file = file
        self._generation = generation()

    @property
    def _forked(self) -> bool:
        # A held file has no transfers and no lock that another thread of the parent could have held: a fork copies it.
        return self._generation != generation() and not self._file.held

    def _refuse_after_fork(self) -> None:
        if self._forked:
            self._file.check_open()
            raise BlobFileForkedError(
                f"{self.name} was opened before this process was forked, and its transfers belong to the parent; "
                f"open it again in the child"
            )

    def __reduce__(self) -> NoReturn:
        kind = type(self).__name__
        raise TypeError(f"cannot pickle an open {kind}; pass its URL and open it where it is used")

    def __repr__(self) -> str:
        kind = type(self).__name__
        return f"<{kind} name={self.name!r} mode={self.mode!r}{' closed' if self.closed else ''}>"

    @property
    def name(self) -> str:
        """URL of the blob without its SAS."""
        return self._file.name

    @property
    def mode(self) -> str:
        """``"rb"``, ``"wb"`` or ``"xb"``."""
        return self._file.mode

    @property
    def closed(self) -> bool:
        """Whether the file was closed or aborted."""
        return self._file.closed

    @property
    def committed(self) -> bool:
        """Whether what was written is known to be the content of the blob.

        ``False`` also after a ``close`` that was interrupted, by Ctrl-C or a cancellation, while the commit was on its
        way: the blob holds its previous or the new content then, whole.
        """
        return self._file.committed

    def readable(self) -> bool:
        """Whether the file was opened for reading.

        :raises ValueError: if it is closed.
        """
        return not self._file.writable

    def writable(self) -> bool:
        """Whether the file was opened for writing.

        :raises ValueError: if it is closed.
        """
        return self._file.writable

    def seekable(self) -> bool:
        """Whether the position can be moved: in readers only.

        :raises ValueError: if the file is closed.
        """
        return not self._file.writable

    def stats(self) -> TransferStats:
        """Return the file's counters as they are now; also after it was closed.

        A file that a dataset's blob opened shares the counters of the dataset.
        """
        return replace(self._file.stats)


_abandoned: set[asyncio.Task[None]] = set()


def abandon(file: BlobFile) -> None:
    """Release what a collected file held; on its loop."""
    task = asyncio.get_running_loop().create_task(drive(file.abort()))
    _abandoned.add(task)
    task.add_done_callback(_abandoned.discard)
