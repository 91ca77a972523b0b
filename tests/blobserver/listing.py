"""The XML documents of the service: lists of blobs, lists of blocks."""

from __future__ import annotations

import base64
import re
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from email.utils import formatdate
from urllib.parse import quote
from xml.sax.saxutils import escape, quoteattr

from tests.blobserver.catalog import Catalog
from tests.blobserver.content import BytesContent
from tests.blobserver.store import Block, Store, Version
from tests.blobserver.wire import Request, ServiceError

PAGE_LIMIT = 5000
START_FROM_VERSION = "2026-02-06"
# A carriage return would be read as a line feed.
_NOT_XML = re.compile("[^\t\n\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def blob_list_xml(store: Store, request: Request, container: str, *, start_from: bool = True) -> bytes:
    """Write one page of List Blobs. The marker holds the last name of the page before.

    :param start_from: whether ``startFrom`` counts, in a request of a version that has it.
    """
    query = request.query
    try:
        count = int(query.get("maxresults", str(PAGE_LIMIT)))
        after = base64.urlsafe_b64decode(query.get("marker", "")).decode()
    except ValueError:
        raise ServiceError(400, "InvalidQueryParameterValue", "maxresults or marker") from None
    if count < 1:
        raise ServiceError(400, "OutOfRangeQueryParameterValue", "maxresults")
    prefix = query.get("prefix", "")
    honoured = start_from and request.headers.get("x-ms-version", "") >= START_FROM_VERSION
    start = query.get("startFrom", "") if honoured else ""
    with_metadata = "metadata" in query.get("include", "").split(",")
    synthetic = store.catalog(container)
    if synthetic is not None:
        rows, last = synthetic.page(prefix, after, start, min(count, PAGE_LIMIT))
    else:
        blobs, more = store.page(container, prefix, after, min(count, PAGE_LIMIT), start)
        rows = "".join(_row(name, version, with_metadata) for name, version in blobs).encode()
        last = blobs[-1][0] if more else ""
    parts = ['<?xml version="1.0" encoding="utf-8"?>']
    parts.append(f'<EnumerationResults ServiceEndpoint="" ContainerName={quoteattr(container)}>')
    parts.append(f"{_text('Prefix', prefix)}<MaxResults>{count}</MaxResults><Blobs>")
    marker = base64.urlsafe_b64encode(last.encode()).decode()
    end = f"</Blobs><NextMarker>{marker}</NextMarker></EnumerationResults>"
    return b"".join(("".join(parts).encode(), rows, end.encode()))


def catalog(count: int, prefix: str) -> Catalog:
    """Make a synthetic listing whose rows are those of `blob_list_xml`."""
    now = time.time()

    def row(name: str, etag: str) -> str:
        return _row(name, Version(BytesContent(b"x"), etag, "", now, now, {}), True)

    return Catalog(count, prefix, row)


def _row(name: str, version: Version, with_metadata: bool) -> str:
    properties = version.properties
    modified = formatdate(version.modified, usegmt=True)
    created = formatdate(version.created, usegmt=True)
    kind = escape(properties.get("Content-Type", "application/octet-stream"))
    resource = properties.get("x-ms-resource-type")
    metadata = ""
    if with_metadata:
        pairs = [(key[10:], value) for key, value in properties.items() if key.startswith("x-ms-meta-")]
        metadata = f"<Metadata>{''.join(f'<{key}>{escape(value)}</{key}>' for key, value in pairs)}</Metadata>"
    return (
        f"<Blob>{_text('Name', name)}<Properties><Creation-Time>{created}</Creation-Time>"
        f"<Last-Modified>{modified}</Last-Modified><Etag>{version.etag.strip(chr(34))}</Etag>"
        f"{f'<ResourceType>{resource}</ResourceType>' if resource else ''}"
        f"<Content-Length>{version.size}</Content-Length><Content-Type>{kind}</Content-Type>"
        f"<Content-Encoding /><Content-Language /><Content-CRC64 /><Content-MD5 /><Cache-Control />"
        f"<Content-Disposition /><BlobType>BlockBlob</BlobType>"
        f"<AccessTier>{properties.get('x-ms-access-tier', 'Hot')}</AccessTier><LeaseStatus>unlocked</LeaseStatus>"
        f"<LeaseState>available</LeaseState><ServerEncrypted>true</ServerEncrypted></Properties>{metadata}</Blob>"
    )


def _text(tag: str, text: str) -> str:
    # Characters that XML cannot hold are sent percent-encoded, with an attribute that says so.
    if _NOT_XML.search(text):
        return f'<{tag} Encoded="true">{quote(text)}</{tag}>'
    return f"<{tag}>{escape(text)}</{tag}>"


def block_list_xml(committed: Sequence[Block], staged: Sequence[Block]) -> bytes:
    """Write the answer of Get Block List."""

    def entries(blocks: Sequence[Block]) -> str:
        return "".join(
            f"<Block><Name>{escape(block.id)}</Name><Size>{block.content.size}</Size></Block>" for block in blocks
        )

    return (
        '<?xml version="1.0" encoding="utf-8"?><BlockList>'
        f"<CommittedBlocks>{entries(committed)}</CommittedBlocks>"
        f"<UncommittedBlocks>{entries(staged)}</UncommittedBlocks></BlockList>"
    ).encode()


def parse_block_list(body: bytes) -> list[tuple[str, str]]:
    """Read the body of Put Block List as pairs of list kind and block id.

    :raises ServiceError: 400 for anything else than that document.
    """
    try:
        root = ElementTree.fromstring(body)
    except ElementTree.ParseError:
        raise ServiceError(400, "InvalidXmlDocument", "the block list is not XML") from None
    entries = [(child.tag, child.text or "") for child in root]
    if root.tag != "BlockList" or any(kind not in ("Latest", "Committed", "Uncommitted") for kind, _ in entries):
        raise ServiceError(400, "InvalidXmlDocument", "the block list has other elements than it may have")
    return entries
