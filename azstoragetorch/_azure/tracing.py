"""Spans for what is asked of the service, through azure-core's tracing, where somebody has turned that on.

    azstoragetorch.get_blob         one operation: all its attempts, the waits between them and the body
      GET                           one request, until its headers

The SDK would make such spans for its own calls, and is told not to (`UNTRACED`): its span of a call has whatever the
service sent in an error's body as its status, and its span of a request that is cancelled, by a deadline for one, never
ends. So both pipelines have theirs from here: operations where they are asked again, requests where they leave. Nothing
here sees a signature or a token: a request has them inside its span only, and is without them when that ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from typing import Any, TypeVar

from azure.core.pipeline import PipelineContext, PipelineRequest, PipelineResponse
from azure.core.pipeline.policies import DistributedTracingPolicy
from azure.core.pipeline.transport import AsyncHttpResponse, HttpRequest
from azure.core.settings import settings
from azure.core.tracing.decorator_async import distributed_trace_async

__all__ = ["UNTRACED", "TracingSwitch", "in_request_span", "in_span"]

_T = TypeVar("_T")

UNTRACED: Mapping[str, Any] = {"tracing_options": {"enabled": False}}
"""Keywords of every call of the SDK."""

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


async def in_span(tracing: TracingSwitch, name: str, operation: Callable[[], Awaitable[_T]]) -> _T:
    """Await ``operation()``, inside a span if tracing is on.

    :param operation: raises our own errors only: their text becomes the status of the span.
    """
    if not tracing.look():
        return await operation()
    traced = distributed_trace_async(name_of_span=name, tracing_attributes={"az.namespace": "Microsoft.Storage"})
    before = _inside.set(True)
    try:
        return await traced(operation)()
    finally:
        _inside.reset(before)


async def in_request_span(request: HttpRequest, send: Callable[[], Awaitable[AsyncHttpResponse]]) -> AsyncHttpResponse:
    """Await ``send()``, which sends ``request``, inside a span if the operation has one; it always ends.

    :param send: raises `FailedAttempt` for what the HTTP client says, whose words hold the signed URL: the text of what
        is raised goes into the span.
    """
    if not _inside.get():
        return await send()
    traced: PipelineRequest[HttpRequest] = PipelineRequest(request, PipelineContext(None))
    _spans.on_request(traced)
    try:
        response = await send()
    except BaseException:  # a cancellation, too: the policy's own runner looks at an Exception only
        _spans.on_exception(traced)
        raise
    _spans.on_response(traced, PipelineResponse(request, response, traced.context))
    return response


_inside: ContextVar[bool] = ContextVar("_inside", default=False)
"""Whether this is part of an operation with a span. To ask the switch again could give another answer."""

_spans: DistributedTracingPolicy[Any, Any] = DistributedTracingPolicy()
"""Keeps nothing of a request."""
