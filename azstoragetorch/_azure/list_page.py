"""Read the XML of one page of List Blobs straight into packed columns.

A page of 5,000 blobs is 3 MB and 130,000 elements, of which six a blob are wanted. No object is made of the others, and
where it can be told what comes next the parser does not even call for them: 50 ms instead of the 1,000 ms of the SDK's
objects (docs/internals.md).

    <EnumerationResults ...>
      <Blobs>
        <Blob>
          <Name>dir/a.bin</Name>                                 Encoded="true" where XML cannot hold a character
          <Properties> <Etag/> <Content-Length/> ... </Properties>   elements of the service only
          <Metadata> ... </Metadata>                             elements of anybody's choice, even another <Name>
        </Blob> ...
      </Blobs>
      <NextMarker>...</NextMarker>
    </EnumerationResults>

*Warning*: runs in a thread, because it takes tens of milliseconds. It calls back into Python all the time, so the loop
gets its turn meanwhile; one call of a parser written in C only would keep it waiting.
https://learn.microsoft.com/rest/api/storageservices/list-blobs#response-body
"""

from __future__ import annotations

import logging
from calendar import timegm
from collections.abc import Iterable
from email.utils import mktime_tz, parsedate_tz
from typing import Any
from urllib.parse import unquote
from xml.parsers.expat import ExpatError, ParserCreate

from azstoragetorch._azure.errors import unusable
from azstoragetorch._values.chunk import ListPage, TableChunk
from azstoragetorch._values.options import KiB
from azstoragetorch._values.url import wrong_name
from azstoragetorch.exceptions import redact

__all__ = ["parse_page"]

_logger = logging.getLogger("azstoragetorch.listing")

_WANTED = frozenset({"Last-Modified", "Etag", "Content-Length", "AccessTier", "ResourceType"})
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def parse_page(pieces: Iterable[bytes]) -> tuple[ListPage, str]:
    """Parse the body of an answer.

    :param pieces: the body, cut anywhere.
    :return: the page and the marker of the next, empty if there is none.
    :raises FailedAttempt: if it is anything else than a complete list of blobs.
    """
    parser = _PageParser()
    why = ""
    try:
        for piece in pieces:
            parser.feed(piece)
        return parser.close()
    except ExpatError as error:
        why = f"it is not XML ({error})"
    except (ValueError, OverflowError) as error:  # a size that is no number, a name that is no UTF-8
        why = f"it holds a value that cannot be understood ({type(error).__name__})"
    raise unusable(f"the list of blobs that the service sent cannot be read: {why}")


class _PageParser:
    """Handlers for the levels of the document; each start and end of a level installs those of the next.

    Text is collected from the last event that was called for on. Where starts are not called for, it may begin with the
    white space between two elements: only inside Properties, whose values have none of their own.
    """

    def __init__(self) -> None:
        self._blobs = TableChunk()
        self._archived: list[str] = []
        self._directories: list[str] = []
        self._names: list[str] = []
        self._marker = ""
        self._depth = 0
        self._days: dict[str, int] = {}
        self._text: list[str] = []
        self._name = ""
        self._encoded = False
        self._folder = False
        self._values: dict[str, str] = {}
        parser = self._parser = ParserCreate()
        parser.buffer_text = True
        parser.buffer_size = 64 * KiB  # a name of 1,024 characters, all of them escaped, in one piece
        parser.StartDoctypeDeclHandler = _refuse_doctype  # the service sends none; it could define entities
        parser.CharacterDataHandler = self._text.append
        self._outside()

    def feed(self, piece: bytes) -> None:
        self._parser.Parse(piece, False)

    def close(self) -> tuple[ListPage, str]:
        self._parser.Parse(b"", True)
        # The parser holds bound methods of this object: as a cycle, a page would live until the next collection.
        parser = self._parser
        parser.StartElementHandler = parser.EndElementHandler = parser.CharacterDataHandler = None
        self._blobs.seal()
        names = self._names
        ordered = all(map(str.__lt__, names, names[1:]))
        page = ListPage(self._blobs, self._archived, self._directories, ordered, bool(self._marker))
        return page, self._marker

    # Outside of blobs.

    def _outside(self) -> None:
        self._parser.StartElementHandler = self._outside_start
        self._parser.EndElementHandler = self._outside_end

    def _outside_start(self, name: str, _: dict[str, str]) -> None:
        self._text.clear()
        if self._depth == 0 and name != "EnumerationResults":
            raise unusable("the service's answer to a listing is no list of blobs")
        if name == "Blob" and self._depth == 2:
            self._name, self._encoded, self._folder, self._values = "", False, False, {}
            self._in_blob()
        else:
            self._depth += 1

    def _outside_end(self, name: str) -> None:
        self._depth -= 1
        if name == "NextMarker" and self._depth == 1:
            self._marker = "".join(self._text)

    # Between <Blob> and </Blob>.

    def _in_blob(self) -> None:
        self._parser.StartElementHandler = self._blob_start
        self._parser.EndElementHandler = self._blob_end

    def _blob_start(self, name: str, attributes: dict[str, str]) -> None:
        self._text.clear()
        if name == "Name":
            self._encoded = attributes.get("Encoded") == "true"
        elif name == "Properties":
            self._parser.StartElementHandler = None
            self._parser.EndElementHandler = self._property_end
        else:
            self._depth = 0
            self._parser.StartElementHandler = self._nested_start
            self._parser.EndElementHandler = self._nested_end

    def _blob_end(self, name: str) -> None:
        if name == "Name":
            self._name = "".join(self._text)
        else:
            self._finish()
            self._depth = 2
            self._outside()

    # Between <Properties> and </Properties>.

    def _property_end(self, name: str) -> None:
        text = self._text
        if name in _WANTED:
            self._values[name] = "".join(text).strip()
        elif name == "Properties":
            self._in_blob()
        text.clear()

    # Between <Metadata> and </Metadata>, and in whatever else a blob has.

    def _nested_start(self, name: str, _: dict[str, str]) -> None:
        self._text.clear()
        self._depth += 1

    def _nested_end(self, name: str) -> None:
        if self._depth == 0:
            self._in_blob()
            return
        self._depth -= 1
        if name.lower() == "hdi_isfolder" and "".join(self._text).strip().lower() == "true":
            self._folder = True

    def _finish(self) -> None:
        name = unquote(self._name, errors="strict") if self._encoded else self._name
        if not name:
            raise unusable("the service listed a blob without a name")
        self._names.append(name)
        why = wrong_name(name)
        if why is not None:
            _logger.warning("left a blob out of the listing that cannot be read: %s: %s", redact(repr(name)), why)
            return
        value = self._values.get
        if self._folder or value("ResourceType") == "directory":
            self._directories.append(name)
            return
        if value("AccessTier") == "Archive":
            self._archived.append(name)
            return
        size, etag, modified = value("Content-Length"), value("Etag"), value("Last-Modified")
        self._blobs.append(
            name,
            int(size) if size else None,
            # The service quotes an ETag in headers and not in listings.
            f'"{etag.strip(chr(34))}"' if etag else None,
            self._seconds(modified) if modified else None,
        )

    def _seconds(self, date: str) -> int | None:
        """Seconds since 1970 of ``Tue, 04 Mar 2025 12:34:56 GMT``, in a twentieth of the time of the general way."""
        try:
            day = self._days.get(date[:16])
            if day is None:
                day = timegm((int(date[12:16]), 1 + _MONTHS.index(date[8:11]), int(date[5:7]), 0, 0, 0))
                self._days[date[:16]] = day
            if len(date) == 29 and date[25:] == " GMT":
                return day + int(date[17:19]) * 3600 + int(date[20:22]) * 60 + int(date[23:25])
        except ValueError:
            pass
        parsed = parsedate_tz(date)
        return mktime_tz(parsed) if parsed is not None else None


def _refuse_doctype(*_: Any) -> None:
    raise unusable("the list of blobs that the service sent has a document type declaration")
