"""The address of a blob or of a container, taken apart once and never guessed at again.

    https://acct.blob.core.windows.net/container/dir/name.bin?snapshot=...&sv=...&sig=...
    scheme  host                       container name         snapshot     SAS
    http://127.0.0.1:10000/devstoreaccount1/container/dir/name.bin
    scheme host            account_path     container name

Where the account is: in the path if the host is an IP address or ``localhost``, or if the first segment is
``devstoreaccount1`` or ``devstoreaccount1-secondary`` (an emulator under any name); else in the host, be it an
account host of any cloud, a DNS-zone or private-link name, or a custom domain.

The root container: one path segment behind a host with the label ``blob`` (``acct.blob.core.windows.net/name``)
is a blob in ``$root``, as the service reads it. Behind any other host it is taken for a container without a blob.

A SAS is a secret. Its pairs stay as they were written, because a signature does not survive to be decoded and
encoded again; they are part of equality and hash, and in no ``str``, ``repr`` or error message.
https://learn.microsoft.com/rest/api/storageservices/naming-and-referencing-containers--blobs--and-metadata
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import NamedTuple
from urllib.parse import quote, unquote

from azstoragetorch.exceptions import redact

__all__ = ["BlobUrl", "ContainerUrl", "wrong_name"]

MAX_NAME_LENGTH = 1024  # characters, by the service's naming rules

MAX_HOST_LENGTH, MAX_LABEL_LENGTH = 253, 63
"""Characters: https://www.rfc-editor.org/rfc/rfc1035#section-2.3.4. No resolver can be asked for a longer name."""

_DEFAULT_PORTS = {"https": "443", "http": "80"}
_OTHER_SCHEMES = frozenset({"abfs", "abfss", "adl", "az", "file", "gs", "s3", "wasb", "wasbs"})
_HOST = re.compile(
    r"(?P<name>[a-z0-9_][a-z0-9_-]*(?:\.[a-z0-9_][a-z0-9_-]*)*\.?|\[[0-9a-f:.]+\])(?::(?P<port>[0-9]{1,5}))?"
)
_EMULATOR_ACCOUNT = re.compile(r"devstoreaccount1(?:-secondary)?")
_ACCOUNT = re.compile(r"[a-z0-9][a-z0-9-]*")
# Looser than the service, which also forbids double and trailing hyphens: enough to find typing errors.
_CONTAINER = re.compile(r"\$[a-z]+|[a-z0-9][a-z0-9-]{2,62}")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
# Every field of a SAS is s and a few letters, or one of rscc, rscd, rsce, rscl, rsct. A pattern and not a list,
# because each version of the service adds some; it keeps out comp=, restype= and timeout=, which change the request.
_SAS_KEY = re.compile(r"s[a-z]{1,6}|rsc[a-z]")
_SHOWN_KEY = re.compile(r"[A-Za-z][A-Za-z-]{0,15}")
_SURROGATE = re.compile("[\ud800-\udfff]")
_SAS_IN_NAME = re.compile(r"[?&]sig=", re.IGNORECASE)


class _Parts(NamedTuple):
    """A URL cut at its delimiters; ``path`` is what follows the account, raw and without its first slash."""

    scheme: str
    host: str
    account_path: str
    path: str
    snapshot: str | None
    version_id: str | None
    sas: str | None

    def refused(self, why: str) -> ValueError:
        return ValueError(f"{redact(f'{self.scheme}://{self.host}{self.account_path}/{self.path}')}: {why}")


@dataclass(frozen=True, slots=True, repr=False)
class _Location:
    """What the URLs of blobs and containers share."""

    scheme: str
    host: str
    account_path: str
    container: str
    sas: str | None = field(default=None, kw_only=True)
    """The pairs of the SAS as they were written, without ``?``."""

    @property
    def endpoint(self) -> str:
        """The account: ``https://acct.blob.core.windows.net`` or ``http://127.0.0.1:10000/devstoreaccount1``."""
        return f"{self.scheme}://{self.host}{self.account_path}"

    @property
    def is_loopback(self) -> bool:
        """Whether requests stay on this machine. A name other than ``localhost`` may resolve to anything: false."""
        address = _ip_address(_host_name(self.host))
        return _host_name(self.host) == "localhost" if address is None else address.is_loopback

    @property
    def is_secure(self) -> bool:
        """Whether a token or a key may be sent here: over https, or without leaving this machine."""
        return self.scheme == "https" or self.is_loopback

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r}{', sas=REDACTED' if self.sas else ''})"


@dataclass(frozen=True, slots=True, repr=False)
class BlobUrl(_Location):
    """One blob, or one snapshot or version of it. What the service cannot have raises `ValueError`."""

    name: str
    """Decoded: ``dir/a b.bin`` and not ``dir/a%20b.bin``."""
    snapshot: str | None = None
    version_id: str | None = None

    def __post_init__(self) -> None:
        why = _wrong_container(self.container) or wrong_name(self.name)
        if why is None and self.snapshot is not None and self.version_id is not None:
            why = "a blob URL can have snapshot or versionid, not both"
        if why is not None:
            raise ValueError(redact(f"{self.endpoint}/{self.container}/ and blob name {self.name[:80]!r}: {why}"))

    @classmethod
    def parse(cls, url: str) -> BlobUrl:
        """Take ``url`` apart.

        :raises TypeError: if ``url`` is not a ``str``.
        :raises ValueError: if it is not the URL of a blob, or holds what a request could not carry unchanged (user
            information, a fragment, ``.`` or ``..`` segments, query pairs that are no SAS). No message shows a SAS.
        """
        parts = _split(url)
        container, slash, name = parts.path.partition("/")
        if not container:
            raise parts.refused("the URL names no container; expected https://<account host>/<container>/<blob>")
        if not slash and "blob" in _host_name(parts.host).split(".")[1:]:
            container, name = "$root", container
        if not name:
            raise parts.refused(
                "this is a container URL; add a blob name, before the ? of a SAS (/$root/<name> for the root container)"
                "; a dataset of all its blobs is made by from_container_url"
            )
        decoded = _decoded(container, parts), _decoded(name, parts)
        return cls(*parts[:3], *decoded, parts.snapshot, parts.version_id, sas=parts.sas)

    @property
    def url(self) -> str:
        """The blob, percent-encoded, without any query: what is shown to people."""
        return f"{self.endpoint}/{self.container}/{quote(self.name, safe='/~')}"

    @property
    def request_url(self) -> str:
        """`url` with the snapshot or version, without the SAS."""
        if self.snapshot is not None:
            return f"{self.url}?snapshot={quote(self.snapshot, safe='')}"
        if self.version_id is not None:
            return f"{self.url}?versionid={quote(self.version_id, safe='')}"
        return self.url

    def require_writable(self) -> None:
        """:raises ValueError: if this is a snapshot or a version; both are read-only."""
        if self.snapshot is not None or self.version_id is not None:
            kind = "snapshot" if self.snapshot is not None else "version"
            raise ValueError(f"{self}: a {kind} of a blob cannot be written; leave it out to write the blob itself")

    def __str__(self) -> str:
        return self.request_url


@dataclass(frozen=True, slots=True, repr=False)
class ContainerUrl(_Location):
    """One container. A name the service cannot have raises `ValueError`."""

    def __post_init__(self) -> None:
        why = _wrong_container(self.container)
        if why is not None:
            raise ValueError(redact(f"{self.endpoint}/{self.container}: {why}"))

    @classmethod
    def parse(cls, url: str) -> ContainerUrl:
        """Take ``url`` apart; one slash at the end is accepted.

        :raises TypeError: if ``url`` is not a ``str``.
        :raises ValueError: as `BlobUrl.parse`, and for the URL of a blob, a snapshot or a version.
        """
        parts = _split(url)
        container, _, name = parts.path.partition("/")
        if not container:
            raise parts.refused("the URL names no container; expected https://<account host>/<container>")
        if name:
            why = "this looks like a blob URL; give the URL of its container, and choose by prefix"
            raise parts.refused(f"{why}; a dataset of single blobs is made by from_blob_urls")
        if parts.snapshot is not None or parts.version_id is not None:
            raise parts.refused("snapshot and versionid belong to a blob; remove them from the container URL")
        return cls(*parts[:3], _decoded(container, parts), sas=parts.sas)

    @property
    def url(self) -> str:
        """The container without any query: what is shown to people."""
        return f"{self.endpoint}/{self.container}"

    def blob(self, name: str) -> BlobUrl:
        """Return the address of the blob ``name`` (decoded) in this container, with the same SAS."""
        return BlobUrl(self.scheme, self.host, self.account_path, self.container, name, sas=self.sas)

    def __str__(self) -> str:
        return self.url


def _split(url: str) -> _Parts:
    """Cut ``url`` at its delimiters. Nothing of it is shown before its host is known to hold no password."""
    if not isinstance(url, str):
        raise TypeError(f"a URL must be a str, not {type(url).__name__}")
    if _CONTROL.search(url) or url != url.strip():
        raise ValueError("the URL has a control character, or whitespace at an end; percent-encode it (%0A, %20)")
    scheme, separator, rest = url.partition("://")
    if not separator or (scheme := scheme.lower()) not in _DEFAULT_PORTS:
        other = f", not {scheme}://" if scheme in _OTHER_SCHEMES else ""  # anything else may be a secret
        example = "https://<account>.blob.core.windows.net/<container>"
        raise ValueError(f"the URL must start with https:// (or http://){other}; expected {example}, or a blob in it")
    if "@" in rest.partition("/")[0]:  # up to the slash and not to "?" or "#", which a password may hold
        raise ValueError("the URL has user information (user:password@); remove it and pass credential= instead")
    rest, hash_sign, _ = rest.partition("#")
    rest, _, query = rest.partition("?")
    authority, _, path = rest.partition("/")
    host = _checked_host(scheme, authority)
    parts = _Parts(scheme, host, "", path, None, None, None)
    if hash_sign:
        raise parts.refused("the URL has a fragment; write %23 for a # in a blob name")
    if _BAD_ESCAPE.search(path):
        raise parts.refused("a % is not followed by two hexadecimal digits; write %25 for a % in a blob name")
    labels = _host_name(host).split(".")
    if "dfs" in labels[1:]:
        raise parts.refused(f"this is a Data Lake endpoint; use the blob endpoint {host.replace('.dfs.', '.blob.', 1)}")
    account, _, below = parts.path.partition("/")
    if _EMULATOR_ACCOUNT.fullmatch(account) or labels == ["localhost"] or _ip_address(_host_name(host)):
        if not _ACCOUNT.fullmatch(account):
            raise parts.refused("behind this host the path must start with an account: /<account>/<container>/<blob>")
        parts = parts._replace(account_path=f"/{account}", path=below)
    return _with_query(parts, query)


def _with_query(parts: _Parts, query: str) -> _Parts:
    if _BAD_ESCAPE.search(query) or not query.isascii() or re.search(r"\s", query):
        raise parts.refused("the query holds whitespace, other characters than ASCII, or a % without two digits")
    found: dict[str, str] = {}
    for pair in filter(None, query.split("&")):
        key = pair.partition("=")[0].lower()
        if key in found:
            raise parts.refused("the query has a key twice; remove one of the two")
        found[key] = pair
    chosen = {key: unquote(found.pop(key).partition("=")[2]) for key in ("snapshot", "versionid") if key in found}
    if any(not value or _CONTROL.search(value) for value in chosen.values()):
        raise parts.refused("snapshot= or versionid= has no usable value")
    for key in found:
        # A key may be a secret that was pasted without its name, so only what looks like a word is shown.
        shown = repr(key) if _SHOWN_KEY.fullmatch(key) else "a key that is not shown here"
        if "sig" not in found:
            why = "only a SAS, snapshot and versionid belong there, and a shell cuts a URL at & unless it is in quotes"
            raise parts.refused(f"the query has {shown}, but no sig=; {why}")
        if not _SAS_KEY.fullmatch(key):
            raise parts.refused(f"the query has {shown}, which is no part of a SAS; remove it")
    if "sig" in found and not found["sig"].partition("=")[2]:
        raise parts.refused("the SAS has an empty sig=")
    snapshot, version_id = chosen.get("snapshot"), chosen.get("versionid")
    return parts._replace(snapshot=snapshot, version_id=version_id, sas="&".join(found.values()) or None)


def _checked_host(scheme: str, authority: str) -> str:
    match = _HOST.fullmatch(authority.lower())
    if match is None or (match["name"][0] == "[" and _ip_address(match["name"]) is None):
        filled = "; put the name of yours in place of <...>" if "<" in authority else ""
        raise ValueError(f"the URL has no valid host; expected letters, digits, - and . with an optional :port{filled}")
    name = match["name"].rstrip(".")
    if len(name) > MAX_HOST_LENGTH or any(len(label) > MAX_LABEL_LENGTH for label in name.split(".")):
        raise ValueError(
            f"the host of the URL is too long; a host name has at most {MAX_HOST_LENGTH} characters, and at most "
            f"{MAX_LABEL_LENGTH} between two dots"
        )
    if match["port"] is None or match["port"] == _DEFAULT_PORTS[scheme]:
        return match["name"]
    if not 0 < int(match["port"]) < 65536:
        raise ValueError("the port of the URL is not between 1 and 65535")
    return f"{match['name']}:{int(match['port'])}"


def _host_name(host: str) -> str:
    """``host`` without its port; an IPv6 address keeps its brackets."""
    return host if host.endswith("]") else host.rpartition(":")[0] or host


def _ip_address(name: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(name.strip("[]"))
    except ValueError:
        return None


def _decoded(text: str, parts: _Parts) -> str:
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        pass  # raised outside: the error holds bytes of the URL
    raise parts.refused("the percent escapes are no UTF-8")


def _wrong_container(container: str) -> str | None:
    if _CONTAINER.fullmatch(container):
        return None
    return "a container name has 3 to 63 lower-case letters, digits and hyphens (or is $root, $web, $logs)"


def wrong_name(name: str) -> str | None:
    """Say why no request can be for the blob ``name``, ``None`` if one can."""
    if not 0 < len(name) <= MAX_NAME_LENGTH:
        return f"a blob name has 1 to {MAX_NAME_LENGTH} characters, not {len(name)}"
    if any(segment in (".", "..") for segment in name.split("/")):
        return "a blob name cannot have . or .. as a segment; HTTP clients resolve them to another blob"
    if _SAS_IN_NAME.search(name):
        return "the SAS is percent-encoded into the blob name; put it behind a plain ?"
    if _SURROGATE.search(name):
        return "the blob name has a lone surrogate, which UTF-8 cannot encode"
    return None
