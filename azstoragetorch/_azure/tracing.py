"""Spans for what is asked of the service, through azure-core's tracing, where somebody has turned that on.

    azstoragetorch.get_blob         one operation: all its attempts, the waits between them and the body
      GET                           one request, until its headers

The SDK makes such spans for its own calls; these are for the requests beside it, and around the SDK's calls: a span of
ours takes the place of the SDK's for the whole call, whose status would hold whatever the service sent in an error's
body. Nothing here sees a signature or a token: requests get them in the transport and lose them there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from azure.core.pipeline import PipelineRequest, PipelineResponse
from azure.core.pipeline.policies import AsyncHTTPPolicy, DistributedTracingPolicy
from azure.core.pipeline.transport import AsyncHttpResponse, HttpRequest
from azure.core.settings import settings
from azure.core.tracing.decorator_async import distributed_trace_async

__all__ = ["RequestSpans", "TracingSwitch", "in_span"]

_T = TypeVar("_T")

LOOK_SECONDS = 1.0
"""How long an answer of azure-core's settings is good for: they read the environment, 4 us, and a GET of a small blob
costs 265 in all (docs/internals.md). Python 3.11 on two shared cores, azure-core 1.41."""


class TracingSwitch:
    """Whether azure-core's tracing is on; of one event loop."""

    def __init__(self) -> None:
        self._on = False
        self._until = float("-inf")

    def look(self) -> bool:
        """Return whether it is, or was within the last second."""
        now = asyncio.get_running_loop().time()
        if now >= self._until:
            self._on, self._until = settings.tracing_enabled(), now + LOOK_SECONDS
        return self._on


class RequestSpans(AsyncHTTPPolicy[HttpRequest, AsyncHttpResponse]):
    """A span for each request of a pipeline that has no other policy."""

    def __init__(self) -> None:
        super().__init__()
        self._tracing: DistributedTracingPolicy[Any, Any] = DistributedTracingPolicy()

    async def send(self, request: PipelineRequest[HttpRequest]) -> PipelineResponse[HttpRequest, AsyncHttpResponse]:
        """Send ``request`` inside its span."""
        self._tracing.on_request(request)
        try:
            response = await self.next.send(request)
        except BaseException:
            # Not only an Exception, as when a pipeline runs that policy itself: the span of a request that was
            # cancelled, by a deadline for one, would never end.
            self._tracing.on_exception(request)
            raise
        self._tracing.on_response(request, response)
        return response


async def in_span(name: str, operation: Callable[[], Awaitable[_T]]) -> _T:
    """Await ``operation()`` inside a span.

    :param operation: raises our own errors only: their text becomes the status of the span.
    """
    if not settings.tracing_enabled():  # asked there, too; but to make the wrapper costs more than the question
        return await operation()
    traced = distributed_trace_async(name_of_span=name, tracing_attributes={"az.namespace": "Microsoft.Storage"})
    return await traced(operation)()
