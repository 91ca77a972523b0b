"""The operations of the Blob service: from a request that was read completely to its answer.

https://learn.microsoft.com/rest/api/storageservices/blob-service-rest-api
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from datetime import UTC, datetime
from email.utils import formatdate

from tests.blobserver.content import Content, DiscardedContent
from tests.blobserver.listing import blob_list_xml, block_list_xml, parse_block_list
from tests.blobserver.store import Block, Conditions, Store, Version
from tests.blobserver.wire import Request, Response, ServiceError, body_response

ACCOUNT = "devstoreaccount1"
TENANT = "72f988bf-86f1-41af-91ab-2d7cd011db47"
BLOCK_SIZE_LIMIT = 4000 * 1024 * 1024
RANGE_CHECKSUM_LIMIT = 4 * 1024 * 1024
_CHALLENGE = (
    f"Bearer authorization_uri=https://login.microsoftonline.com/{TENANT}/oauth2/authorize "
    "resource_id=https://storage.azure.com"
)
_STORED_HEADERS = {
    "x-ms-blob-content-type": "Content-Type",
    "x-ms-blob-content-encoding": "Content-Encoding",
    "x-ms-blob-content-language": "Content-Language",
    "x-ms-blob-content-disposition": "Content-Disposition",
    "x-ms-blob-cache-control": "Cache-Control",
    "x-ms-blob-content-md5": "Content-MD5",
    "x-ms-access-tier": "x-ms-access-tier",
}


class Service:
    """Answers requests from a store.

    ``require_sas`` are the query pairs that every request must carry, ``require_token`` is the bearer token.
    ``start_from`` says whether a listing begins where ``startFrom`` asks, in versions that have it.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.require_sas: dict[str, str] | None = None
        self.require_token: str | None = None
        self.start_from = True

    def authorize(self, request: Request) -> None:
        """Refuse a request whose credential is missing, expired or wrong.

        :raises ServiceError: 401 with a challenge where a token is wanted, else 403.
        """
        denied = "Server failed to authenticate the request."
        query = request.query
        expiry = query.get("se")
        if "sig" in query and expiry is not None:
            try:
                moment = datetime.fromisoformat(expiry)
            except ValueError:
                raise ServiceError(403, "AuthenticationFailed", denied) from None
            if moment.tzinfo is None:
                moment = moment.replace(tzinfo=UTC)
            if moment <= datetime.now(UTC):
                raise ServiceError(403, "AuthenticationFailed", f"{denied} Signature not valid in the time frame.")
        sas = self.require_sas
        if sas is not None and any(query.get(name) != value for name, value in sas.items()):
            raise ServiceError(403, "AuthenticationFailed", denied)
        token = self.require_token
        if token is not None:
            sent = request.headers.get("authorization")
            if sent is None:
                raise ServiceError(401, "NoAuthenticationInformation", denied, {"WWW-Authenticate": _CHALLENGE})
            if sent != f"Bearer {token}":
                raise ServiceError(401, "InvalidAuthenticationInfo", denied, {"WWW-Authenticate": _CHALLENGE})

    def answer(self, request: Request) -> Response:
        """Perform the operation.

        :raises ServiceError: when the service would answer with an error.
        """
        _check_headers(request)
        _check_md5(request)
        _check_crc64(request)
        account, _, rest = request.path[1:].partition("/")
        if account != ACCOUNT or not rest:
            raise ServiceError(400, "InvalidUri", f"the path does not start with /{ACCOUNT}/ and a container")
        container, slash, name = rest.partition("/")
        if request.query.get("restype") == "container":
            if name:
                raise ServiceError(400, "InvalidUri", "a container operation on a blob")
            return self._container_operation(request, container)
        if not slash:
            container, name = "$root", rest
        if not name or "restype" in request.query:
            raise ServiceError(400, "InvalidUri", "no blob is named")
        return self._blob_operation(request, container, name)

    def _container_operation(self, request: Request, container: str) -> Response:
        match request.method, request.comp:
            case "PUT", "":
                if not re.fullmatch(r"\$root|[a-z0-9](?:-?[a-z0-9]){2,62}", container):
                    raise ServiceError(400, "InvalidResourceName", "not a name for a container")
                return Response(201, {"ETag": self.store.create_container(container), "Last-Modified": _date()})
            case (("GET" | "HEAD"), ""):
                etag, modified = self.store.container(container)
                return Response(200, {"ETag": etag, "Last-Modified": _date(modified)})
            case "GET", "list":
                return self._list(request, container)
        raise ServiceError(400, "UnsupportedQueryParameter", f"no operation {request.method} comp={request.comp}")

    def _blob_operation(self, request: Request, container: str, name: str) -> Response:
        match request.method, request.comp:
            case (("GET" | "HEAD"), ""):
                return self._get(request, container, name)
            case "PUT", "":
                return self._put(request, container, name)
            case "PUT", "block":
                return self._put_block(request, container, name)
            case "PUT", "blocklist":
                entries = parse_block_list(b"".join(request.body.slices(0, request.body.size)))
                version = self.store.commit(container, name, entries, _properties(request), _conditions(request))
                return self._written(version)
            case "GET", "blocklist":
                return self._get_block_list(request, container, name)
            case "PUT", "snapshot":
                snapshot, version = self.store.snapshot(container, name)
                headers = {"ETag": version.etag, "Last-Modified": _date(version.modified), "x-ms-snapshot": snapshot}
                return Response(201, headers)
            case "DELETE", "":
                self.store.delete(container, name, _conditions(request))
                return Response(202, {"x-ms-delete-type-permanent": "false"})
        raise ServiceError(400, "UnsupportedQueryParameter", f"no operation {request.method} comp={request.comp}")

    def _get(self, request: Request, container: str, name: str) -> Response:
        query = request.query
        snapshot, version_id = query.get("snapshot"), query.get("versionid")
        if snapshot is not None and version_id is not None:
            raise ServiceError(400, "MutuallyExclusiveQueryParameters")
        version = self.store.read(container, name, snapshot=snapshot, version_id=version_id)
        _conditions(request).check_read(version)
        headers = {
            "Content-Type": "application/octet-stream",
            **version.properties,
            "ETag": version.etag,
            "Last-Modified": _date(version.modified),
            "Accept-Ranges": "bytes",
            "x-ms-creation-time": _date(version.created),
            "x-ms-blob-type": "BlockBlob",
            "x-ms-lease-status": "unlocked",
            "x-ms-lease-state": "available",
            "x-ms-server-encrypted": "true",
            "x-ms-version-id": version.version_id,
        }
        size = version.size
        if request.method == "HEAD":
            return Response(200, headers, version.content, length=size)
        if version.properties.get("x-ms-access-tier") == "Archive":
            raise ServiceError(409, "BlobArchived", "This operation is not permitted on an archived blob.")
        try:
            next(version.content.slices(0, min(1, size)), None)
        except LookupError as error:
            raise ServiceError(409, "BlobContentDiscarded", str(error)) from None
        bounds = request.range()
        if bounds is None:
            return Response(200, headers, version.content, 0, size, size)
        start, stop = bounds[0], min(size, bounds[1] or size)
        if start >= size:
            message = "The range specified is invalid for the current size of the resource."
            raise ServiceError(416, "InvalidRange", message, {"Content-Range": f"bytes */{size}"})
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
        whole_md5 = headers.pop("Content-MD5", None)
        if whole_md5 is not None:
            headers["x-ms-blob-content-md5"] = whole_md5
        md5 = request.headers.get("x-ms-range-get-content-md5", "").lower() == "true"
        crc64 = request.headers.get("x-ms-range-get-content-crc64", "").lower() == "true"
        if md5 and crc64:
            raise ServiceError(400, "InvalidHeaderValue", "one checksum of a range, not two")
        if (md5 or crc64) and stop - start > RANGE_CHECKSUM_LIMIT:
            raise ServiceError(400, "OutOfRangeInput", "the checksum of a range is limited to 4 MiB")
        if md5:
            headers["Content-MD5"] = _md5(version.content, start, stop)
        if crc64 and (checksum := _crc64(version.content, start, stop)) is not None:
            headers["x-ms-content-crc64"] = checksum
        return Response(206, headers, version.content, start, stop, stop - start)

    def _put(self, request: Request, container: str, name: str) -> Response:
        if request.headers.get("x-ms-blob-type") != "BlockBlob":
            raise ServiceError(400, "InvalidHeaderValue", "x-ms-blob-type is not BlockBlob")
        properties, conditions = _properties(request), _conditions(request)
        if not isinstance(request.body, DiscardedContent):
            # Kept of every Put Blob, whether it was sent or not; of a Put Block List only x-ms-blob-content-md5 is.
            md5 = request.headers.get("content-md5") or _md5(request.body, 0, request.body.size)
            properties.setdefault("Content-MD5", md5)
        return self._written(self.store.put(container, name, request.body, properties, conditions))

    def _put_block(self, request: Request, container: str, name: str) -> Response:
        block_id = request.query.get("blockid", "")
        try:
            decoded = base64.b64decode(block_id, validate=True)
        except (binascii.Error, ValueError):
            decoded = b""
        if not 1 <= len(decoded) <= 64:
            raise ServiceError(400, "InvalidQueryParameterValue", "blockid is not base64 of 1 to 64 bytes")
        if not 1 <= request.length <= BLOCK_SIZE_LIMIT:
            raise ServiceError(400 if not request.length else 413, "RequestBodyTooLarge", "1 byte to 4,000 MiB a block")
        self.store.stage(container, name, Block(block_id, request.body))
        return Response(201, {"x-ms-request-server-encrypted": "true", **_md5_echo(request)})

    def _written(self, version: Version) -> Response:
        headers = {
            "ETag": version.etag,
            "Last-Modified": _date(version.modified),
            "x-ms-request-server-encrypted": "true",
            "x-ms-version-id": version.version_id,
        }
        return Response(201, headers)

    def _get_block_list(self, request: Request, container: str, name: str) -> Response:
        version, staged = self.store.block_lists(container, name)
        kind = request.query.get("blocklisttype", "committed")
        if kind not in ("all", "committed", "uncommitted"):
            raise ServiceError(400, "InvalidQueryParameterValue", "blocklisttype")
        body = block_list_xml(
            version.blocks if version and kind != "uncommitted" else (), staged if kind != "committed" else ()
        )
        headers = {}
        if version is not None:
            headers = {
                "ETag": version.etag,
                "Last-Modified": _date(version.modified),
                "x-ms-blob-content-length": str(version.size),
            }
        return body_response(200, body, "application/xml", headers)

    def _list(self, request: Request, container: str) -> Response:
        if "delimiter" in request.query:
            raise ServiceError(400, "UnsupportedQueryParameter", "this server lists flat only")
        body = blob_list_xml(self.store, request, container, start_from=self.start_from)
        return body_response(200, body, "application/xml")


def _date(moment: float | None = None) -> str:
    return formatdate(moment, usegmt=True)


def _md5(content: Content, start: int, stop: int) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    for piece in content.slices(start, stop):
        digest.update(piece)
    return base64.b64encode(digest.digest()).decode()


def _crc64(content: Content, start: int, stop: int) -> str | None:
    """Compute as the service does; ``None`` where the package that can is not installed: a service that cannot."""
    try:
        from azure.storage.extensions.checksums import crc64
    except ImportError:
        return None
    value = 0
    for piece in content.slices(start, stop):
        value = crc64.compute(bytes(piece), value)
    return base64.b64encode(value.to_bytes(8, "little")).decode()


def _check_headers(request: Request) -> None:
    if not re.fullmatch(r"20\d\d-\d\d-\d\d", request.headers.get("x-ms-version", "")):
        raise ServiceError(400, "MissingRequiredHeader", "x-ms-version is missing or not a date")
    for name in ("if-modified-since", "if-unmodified-since", "if-range"):
        if name in request.headers:
            raise ServiceError(400, "UnsupportedHeader", f"this server does not know {name}")


def _check_md5(request: Request) -> None:
    """Verify a body against its Content-MD5. Discarded bodies were verified while they arrived."""
    expected = request.headers.get("content-md5")
    if expected is None or isinstance(request.body, DiscardedContent):
        return
    if expected != _md5(request.body, 0, request.body.size):
        raise md5_mismatch()


def _check_crc64(request: Request) -> None:
    """Verify a body against its x-ms-content-crc64, if it was kept."""
    expected = request.headers.get("x-ms-content-crc64")
    if expected is None or isinstance(request.body, DiscardedContent):
        return
    if _crc64(request.body, 0, request.body.size) not in (expected, None):
        raise ServiceError(400, "Crc64Mismatch", "The CRC64 value specified in the request did not match the content.")


def md5_mismatch() -> ServiceError:
    """Build the answer to a body that does not have the Content-MD5 it was sent with."""
    return ServiceError(400, "Md5Mismatch", "The MD5 value specified in the request did not match the content.")


def _md5_echo(request: Request) -> dict[str, str]:
    return {"Content-MD5": request.headers["content-md5"]} if "content-md5" in request.headers else {}


def _conditions(request: Request) -> Conditions:
    return Conditions(request.headers.get("if-match"), request.headers.get("if-none-match"))


def _properties(request: Request) -> dict[str, str]:
    headers = request.headers
    properties = {shown: headers[sent] for sent, shown in _STORED_HEADERS.items() if sent in headers}
    properties.update((name, value) for name, value in headers.items() if name.startswith("x-ms-meta-"))
    return properties
