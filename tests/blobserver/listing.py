"""The XML documents of the service: lists of blobs, lists of blocks."""

from __future__ import annotations

import base64
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from email.utils import formatdate
from urllib.parse import quote
from xml.sax.saxutils import escape, quoteattr

from tests.blobserver.store import Block, Store
from tests.blobserver.wire import Request, ServiceError

PAGE_LIMIT = 5000
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def blob_list_xml(store: Store, request: Request, container: str) -> bytes:
    """Write one page of List Blobs. The marker holds the last name of the page before."""
    query = request.query
    try:
        count = int(query.get("maxresults", str(PAGE_LIMIT)))
        after = base64.urlsafe_b64decode(query.get("marker", "")).decode()
    except ValueError:
        raise ServiceError(400, "InvalidQueryParameterValue", "maxresults or marker") from None
    if count < 1:
        raise ServiceError(400, "OutOfRangeQueryParameterValue", "maxresults")
    prefix = query.get("prefix", "")
    blobs, more = store.page(container, prefix, after, min(count, PAGE_LIMIT))
    parts = ['<?xml version="1.0" encoding="utf-8"?>']
    parts.append(f'<EnumerationResults ServiceEndpoint="" ContainerName={quoteattr(container)}>')
    parts.append(f"<Prefix>{escape(prefix)}</Prefix><MaxResults>{count}</MaxResults><Blobs>")
    with_metadata = "metadata" in query.get("include", "").split(",")
    for name, version in blobs:
        modified = formatdate(version.modified, usegmt=True)
        created = formatdate(version.created, usegmt=True)
        kind = escape(version.properties.get("Content-Type", "application/octet-stream"))
        parts.append(
            f"<Blob>{_name(name)}<Properties><Creation-Time>{created}</Creation-Time>"
            f"<Last-Modified>{modified}</Last-Modified><Etag>{version.etag.strip(chr(34))}</Etag>"
            f"<Content-Length>{version.size}</Content-Length><Content-Type>{kind}</Content-Type>"
            f"<BlobType>BlockBlob</BlobType><AccessTier>Hot</AccessTier><LeaseStatus>unlocked</LeaseStatus>"
            f"<LeaseState>available</LeaseState><ServerEncrypted>true</ServerEncrypted></Properties>"
        )
        if with_metadata:
            pairs = [(key[10:], value) for key, value in version.properties.items() if key.startswith("x-ms-meta-")]
            parts.append(f"<Metadata>{''.join(f'<{key}>{escape(value)}</{key}>' for key, value in pairs)}</Metadata>")
        parts.append("</Blob>")
    marker = base64.urlsafe_b64encode(blobs[-1][0].encode()).decode() if more else ""
    parts.append(f"</Blobs><NextMarker>{marker}</NextMarker></EnumerationResults>")
    return "".join(parts).encode()


def _name(name: str) -> str:
    # Characters that XML cannot hold are sent percent-encoded, with an attribute that says so.
    if _NOT_XML.search(name):
        return f'<Name Encoded="true">{quote(name)}</Name>'
    return f"<Name>{escape(name)}</Name>"


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
