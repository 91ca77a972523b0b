"""Containers, blobs, versions, snapshots and uncommitted blocks, by the rules of the service.

Operations: put a blob, stage a block, commit a list of blocks, read a version, delete, list by name.
Plan: one lock, held for dictionary work only; content is immutable once stored and is sent outside the lock.
Warning: nothing here knows about HTTP except the codes of the errors it raises.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from tests.blobserver.catalog import Catalog
from tests.blobserver.content import Content, JoinedContent
from tests.blobserver.wire import ServiceError

BLOCK_COUNT_LIMIT = 50_000  # committed blocks of one blob
STAGED_COUNT_LIMIT = 100_000  # uncommitted blocks of one blob


@dataclass(frozen=True, slots=True)
class Block:
    """One block: its id as sent (base64) and its bytes."""

    id: str
    content: Content


@dataclass(frozen=True, slots=True)
class Version:
    """One state of a blob. Times are seconds since 1970; ``properties`` are headers sent with every read."""

    content: Content
    etag: str
    version_id: str
    created: float
    modified: float
    properties: dict[str, str]
    blocks: tuple[Block, ...] = ()

    @property
    def size(self) -> int:
        return self.content.size


@dataclass(frozen=True, slots=True)
class Conditions:
    """``If-Match`` and ``If-None-Match`` of a request."""

    if_match: str | None = None
    if_none_match: str | None = None

    def check_write(self, current: Version | None) -> None:
        if self.if_none_match == "*" and current is not None:
            raise ServiceError(409, "BlobAlreadyExists", "The specified blob already exists.")
        if self.if_match is not None and (current is None or self.if_match not in ("*", current.etag)):
            raise ServiceError(412, "ConditionNotMet", "The condition specified using HTTP header(s) is not met.")
        if current is not None and self.if_none_match == current.etag:
            raise ServiceError(412, "ConditionNotMet", "The condition specified using HTTP header(s) is not met.")

    def check_read(self, version: Version) -> None:
        if self.if_match is not None and self.if_match not in ("*", version.etag):
            raise ServiceError(412, "ConditionNotMet", "The condition specified using HTTP header(s) is not met.")
        if self.if_none_match in ("*", version.etag):
            raise ServiceError(304, "ConditionNotMet")


@dataclass(slots=True)
class _Blob:
    current: Version | None = None
    versions: dict[str, Version] = field(default_factory=dict)
    snapshots: dict[str, Version] = field(default_factory=dict)
    staged: dict[str, Block] = field(default_factory=dict)


class _Container:
    def __init__(self, etag: str) -> None:
        self.etag = etag
        self.modified = time.time()
        self.blobs: dict[str, _Blob] = {}
        self.names: list[str] | None = None  # of what can be listed, sorted; None after a change
        self.catalog: Catalog | None = None  # what is listed instead


class Store:
    """All blobs of one account.

    :param keep_versions: replaced and deleted content stays readable by ``versionid``.
    """

    def __init__(self, *, keep_versions: bool = True) -> None:
        self.keep_versions = keep_versions
        self._lock = threading.RLock()
        self._containers: dict[str, _Container] = {}
        self._ticks = int(time.time() * 1e7)  # of 100 ns, as in version ids; only ever counts up

    def create_container(self, name: str) -> str:
        with self._lock:
            if name in self._containers:
                raise ServiceError(409, "ContainerAlreadyExists", "The specified container already exists.")
            self._containers[name] = _Container(self._etag())
            return self._containers[name].etag

    def container(self, name: str) -> tuple[str, float]:
        """Return the ETag and the modification time of a container."""
        with self._lock:
            container = self._container(name)
            return container.etag, container.modified

    def put(
        self,
        container: str,
        name: str,
        content: Content,
        properties: dict[str, str] | None = None,
        conditions: Conditions = Conditions(),
        blocks: Sequence[Block] = (),
    ) -> Version:
        """Replace a blob by new content; its uncommitted blocks are gone."""
        with self._lock:
            owner = self._container(container)
            blob = owner.blobs.get(name) or _Blob()
            conditions.check_write(blob.current)
            now = time.time()
            created = blob.current.created if blob.current else now
            version = Version(content, self._etag(), self._time_id(), created, now, properties or {}, tuple(blocks))
            if blob.current is None:
                owner.names = None
            blob.current = version
            blob.staged = {}
            if self.keep_versions:
                blob.versions[version.version_id] = version
            owner.blobs[name] = blob
            return version

    def stage(self, container: str, name: str, block: Block) -> None:
        """Keep an uncommitted block of a blob that may not exist yet."""
        with self._lock:
            blob = self._container(container).blobs.setdefault(name, _Blob())
            # All ids of the uncommitted list have one length, so comparing with any of them is enough. The padding
            # is left out: what counts is the length before base64, in the strictest reading of the rule.
            if blob.staged and len(next(iter(blob.staged)).rstrip("=")) != len(block.id.rstrip("=")):
                raise ServiceError(400, "InvalidBlobOrBlock", "The specified blob or block content is invalid.")
            if len(blob.staged) >= STAGED_COUNT_LIMIT:
                raise ServiceError(409, "BlockCountExceedsLimit", "The uncommitted block count is too large.")
            blob.staged[block.id] = block

    def commit(
        self,
        container: str,
        name: str,
        entries: Sequence[tuple[str, str]],
        properties: dict[str, str],
        conditions: Conditions,
    ) -> Version:
        """Make a blob of staged and committed blocks.

        :param entries: pairs of the list to look in (``Latest``, ``Committed`` or ``Uncommitted``) and the id.
        """
        if len(entries) > BLOCK_COUNT_LIMIT:
            raise ServiceError(400, "BlockListTooLong", "The block list may not contain more than 50,000 blocks.")
        with self._lock:
            blob = self._container(container).blobs.get(name) or _Blob()
            conditions.check_write(blob.current)
            committed = {block.id: block for block in blob.current.blocks} if blob.current else {}
            blocks = []
            for kind, block_id in entries:
                block = None
                if kind in ("Latest", "Uncommitted"):
                    block = blob.staged.get(block_id)
                if block is None and kind in ("Latest", "Committed"):
                    block = committed.get(block_id)
                if block is None:
                    raise ServiceError(400, "InvalidBlockList", "The specified block list is invalid.")
                blocks.append(block)
            content = JoinedContent([block.content for block in blocks])
            return self.put(container, name, content, properties, Conditions(), blocks)

    def read(self, container: str, name: str, *, snapshot: str | None = None, version_id: str | None = None) -> Version:
        """Look a blob up, or the snapshot or version of it that is named."""
        with self._lock:
            blob = self._container(container).blobs.get(name) or _Blob()
            version = blob.current
            if snapshot is not None:
                version = blob.snapshots.get(snapshot)
            elif version_id is not None and not (version and version.version_id == version_id):
                version = blob.versions.get(version_id)
            if version is None:
                raise ServiceError(404, "BlobNotFound", "The specified blob does not exist.")
            return version

    def snapshot(self, container: str, name: str) -> tuple[str, Version]:
        with self._lock:
            version = self.read(container, name)
            snapshot = self._time_id()
            self._container(container).blobs[name].snapshots[snapshot] = version
            return snapshot, version

    def block_lists(self, container: str, name: str) -> tuple[Version | None, list[Block]]:
        """Return the committed state and the uncommitted blocks, in the order they were staged."""
        with self._lock:
            blob = self._container(container).blobs.get(name)
            if blob is None or (blob.current is None and not blob.staged):
                raise ServiceError(404, "BlobNotFound", "The specified blob does not exist.")
            return blob.current, list(blob.staged.values())

    def delete(self, container: str, name: str, conditions: Conditions = Conditions()) -> None:
        """Delete the current state; versions and snapshots stay readable."""
        with self._lock:
            owner = self._container(container)
            conditions.check_read(self.read(container, name))
            owner.blobs[name].current = None
            owner.blobs[name].staged = {}
            owner.names = None

    def set_catalog(self, container: str, catalog: Catalog | None) -> None:
        """List these blobs, which cannot be read, instead of those of the container."""
        with self._lock:
            self._container(container).catalog = catalog

    def catalog(self, container: str) -> Catalog | None:
        """Return what is listed instead of the blobs of the container, if anything."""
        with self._lock:
            return self._container(container).catalog

    def page(
        self, container: str, prefix: str, after: str, count: int, start_from: str = ""
    ) -> tuple[list[tuple[str, Version]], bool]:
        """List up to ``count`` blobs whose name starts with ``prefix``, follows ``after`` and is not before
        ``start_from``; tell if more follow.
        """
        with self._lock:
            owner = self._container(container)
            if owner.names is None:
                owner.names = sorted(name for name, blob in owner.blobs.items() if blob.current)
            first = max(
                bisect_left(owner.names, max(prefix, start_from)), bisect_right(owner.names, after) if after else 0
            )
            found: list[tuple[str, Version]] = []
            for index in range(first, len(owner.names)):
                name = owner.names[index]
                if not name.startswith(prefix):
                    break
                if len(found) == count:
                    return found, True
                version = owner.blobs[name].current
                assert version is not None
                found.append((name, version))
            return found, False

    def _container(self, name: str) -> _Container:
        try:
            return self._containers[name]
        except KeyError:
            raise ServiceError(404, "ContainerNotFound", "The specified container does not exist.") from None

    def _etag(self) -> str:
        self._ticks += 1
        return f'"0x8D{self._ticks:013X}"'

    def _time_id(self) -> str:
        self._ticks += 1
        moment = datetime.fromtimestamp(self._ticks // 10**7, UTC)
        return f"{moment:%Y-%m-%dT%H:%M:%S}.{self._ticks % 10**7:07d}Z"
