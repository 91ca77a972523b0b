"""Pieces of work with nothing but what watches the others: counters, log lines, traces.

Each is done ``reads`` times over, because one costs less than a clock's tick. 0.2.0 has none of it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from tests.benchmarks.measure import Figures, Parameters, Piece, measured

__all__ = ["PIECES"]


def counters(parameters: Parameters, figures: Figures) -> None:
    """Count as a request does that succeeds: in its file and in the process."""
    from azstoragetorch._values.stats import TransferStats, begin_request, count_bytes, end_request

    stats = TransferStats()
    with measured(figures):
        for _ in range(parameters.reads):
            process = begin_request(stats)
            count_bytes(stats, 1)
            end_request(stats, process)
    if (stats.requests, stats.bytes, stats.in_flight) != (parameters.reads, parameters.reads, 0):
        raise RuntimeError(f"counted {stats}")


def silent_line(parameters: Parameters, figures: Figures) -> None:
    """Log a line that nobody listens to."""
    logger = logging.getLogger("azstoragetorch.io")
    with measured(figures):
        for _ in range(parameters.reads):
            logger.debug("opened %s, mode %s", parameters.url, "rb")


def floor_loop(parameters: Parameters, figures: Figures) -> None:
    """Do nothing, as often."""
    with measured(figures):
        for _ in range(parameters.reads):
            pass


def look_for_tracing(parameters: Parameters, figures: Figures) -> None:
    """Look whether tracing is on, as every operation and every request does."""
    from azstoragetorch._azure.tracing import TracingSwitch

    async def look() -> None:
        switch = TracingSwitch()
        with measured(figures):
            for _ in range(parameters.reads):
                switch.look()

    asyncio.run(look())


def untraced(parameters: Parameters, figures: Figures) -> None:
    """Perform operations that would have a span each if tracing were on."""
    from azstoragetorch._azure.tracing import TracingSwitch, in_span

    switch = TracingSwitch()
    _perform(parameters, figures, lambda: in_span(switch, "azstoragetorch.put_blob", _nothing))


def floor_await(parameters: Parameters, figures: Figures) -> None:
    """Perform the same operations."""
    _perform(parameters, figures, _nothing)


def small_files(parameters: Parameters, figures: Figures) -> None:
    """Read a small blob whole again and again: what the others are small against."""
    from azstoragetorch.aio import AsyncBlobIO

    async def read() -> None:
        async with AsyncBlobIO(parameters.url, "rb", credential=False) as file:
            await file.read()

    async def read_all() -> None:
        await read()  # opens the connection
        with measured(figures):
            for _ in range(parameters.reads):
                await read()

    asyncio.run(read_all())


def traced_files(parameters: Parameters, figures: Figures) -> None:
    """The same with tracing: two spans for each, which go nowhere."""
    from collections.abc import Sequence

    from azure.core.settings import settings
    from opentelemetry import trace
    from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

    class Nowhere(SpanExporter):
        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            return SpanExportResult.SUCCESS

    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(Nowhere()))
    trace.set_tracer_provider(provider)
    settings.tracing_enabled = True
    small_files(parameters, figures)


async def _nothing() -> None:
    pass


def _perform(parameters: Parameters, figures: Figures, operation: Callable[[], Awaitable[None]]) -> None:
    async def perform() -> None:
        with measured(figures):
            for _ in range(parameters.reads):
                await operation()

    asyncio.run(perform())


PIECES: dict[str, Piece] = {
    "counters": counters,
    "silent-line": silent_line,
    "look-for-tracing": look_for_tracing,
    "untraced": untraced,
    "small-files": small_files,
    "traced-files": traced_files,
    "floor-loop": floor_loop,
    "floor-await": floor_await,
}
