"""Bars that show the figures of the benchmark suite: less is better in all of them.

Every bar carries its figure, and every panel begins at zero, so there is no axis. Labels stand above their bars, which
leaves the whole width to the bars on a narrow screen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from textwrap import wrap

from tests.benchmarks.runs import Run
from tests.pictures.figures import OLD, Figures, amount, times
from tests.pictures.svg import Drawing, width_of

__all__ = ["PLOTS", "Bar", "Group", "Panel", "drawn"]

OURS = "this version"
WIDTH = 480
"""Narrower than other drawings, so that letters have 10 pixels on a telephone of 420."""
NAMES = 96
"""Units from the left edge to the bars; the names of the bars stand there."""
VALUES = 84
"""Units that are kept behind the longest bar for its figure."""
BAR, STEP = 17, 21


@dataclass(frozen=True, slots=True)
class Bar:
    """:ivar role: of its colour: ``"old"``, ``"ours"`` or ``"floor"``."""

    name: str
    value: float
    role: str


@dataclass(frozen=True, slots=True)
class Group:
    """What is compared: one piece of work, or one way to do it.

    :ivar ratio: how many times less this version needs, if there is something to compare with.
    """

    label: str
    bars: Sequence[Bar]
    ratio: float | None = None


@dataclass(frozen=True, slots=True)
class Panel:
    """Groups with one unit and one scale."""

    title: str
    unit: str
    groups: Sequence[Group]


def drawn(title: str, conditions: str, panels: Sequence[Panel]) -> Drawing:
    """Draw panels below each other.

    :param conditions: what was measured, below the title.
    """
    picture = Drawing(title, width=WIDTH)
    picture.text(0, 16, title, "bold")
    y = 16.0
    for line in wrap(conditions, int(WIDTH / width_of("x", "small"))):
        y += 18
        picture.text(0, y, line, "small", role="soft")
    for panel in panels:
        y = _panel(picture, panel, y + (30 if panel.title else 12))
    picture.height = y + 2
    return picture


def _panel(picture: Drawing, panel: Panel, y: float) -> float:
    if panel.title:
        picture.text(0, y, panel.title, "bold", role="soft")
    scale = (picture.width - NAMES - VALUES) / max(bar.value for group in panel.groups for bar in group.bars)
    for group in panel.groups:
        y += 26
        picture.text(0, y, group.label)
        if group.ratio is not None:
            ratio = f"{times(group.ratio)}x less" if group.ratio >= 1 else f"{times(group.ratio)}x"
            picture.text(picture.width, y, ratio, "bold", role="ours", anchor="end")
        y += 8
        top = y
        for bar in group.bars:
            picture.text(NAMES - 8, y + 13, bar.name, "small", role="soft", anchor="end")
            picture.box(NAMES, y, bar.value * scale, BAR, bar.role, round_=2)
            figure = f"{amount(bar.value)} {panel.unit}"
            assert width_of(figure, "small") <= VALUES - 6, figure
            picture.text(NAMES + bar.value * scale + 6, y + 13, figure, "small")
            y += STEP
        picture.line((NAMES - 0.75, top - 2), (NAMES - 0.75, y - 2), role="edge")
    return y


def _compared(
    figures: Figures, label: str, case: str, what: Callable[[Run], float], floor: str = "", *, unit: float = 1
) -> Group:
    """Return the bars of a case: both versions, and the floor if it has a name."""
    old, ours = figures.need(case, OLD, what), figures.need(case, "ours", what)
    bars = [Bar(OLD, old / unit, "old"), Bar(OURS, ours / unit, "ours")]
    if floor:
        bars.append(Bar(floor, figures.need(case, "floor", what) / unit, "floor"))
    return Group(label, bars, old / ours)


def _wall(run: Run) -> float:
    return run.wall


def _cpu(run: Run) -> float:
    return run.cpu


def _peak(run: Run) -> float:
    return run.peak


def far(figures: Figures) -> Drawing:
    """Draw what latency makes of the work of a training job; the plot of README.md."""
    groups = [
        _compared(figures, "torch.load of 512 MB in 300 tensors", "load https", _wall),
        _compared(figures, "torch.save of the same", "save https", _wall),
        _compared(figures, "iterate 1,000 blobs of 100 KiB", "iterate far https", _wall),
        _compared(figures, "DataLoader, shuffled, 2 workers, the same blobs", "batches far https", _wall),
    ]
    conditions = (
        "Less is better. https, 20 ms a request, 60 MB/s a connection; client and server share two cores. A dataset is "
        "timed from listing the container to its last sample."
    )
    return drawn("Seconds of a training job that wait for storage", conditions, [Panel("", "s", groups)])


def cpu(figures: Figures) -> Drawing:
    """Draw what a byte and a sample cost the processor where nothing has to be waited for."""
    gigabytes = figures.sizes.blob / 1e9
    each = figures.sizes.containers["samples"].count / 1e6
    files = [
        _compared(figures, "readinto of 512 MiB", "readinto", _cpu, "TLS socket", unit=gigabytes),
        _compared(figures, "read of the same", "read", _cpu, "TLS socket", unit=gigabytes),
        _compared(figures, "write of 512 MiB", "write", _cpu, "TLS socket", unit=gigabytes),
    ]
    samples = [
        _compared(figures, "iterate, https", "iterate https", _cpu, "TLS socket", unit=each),
        _compared(figures, "iterate, http", "iterate http", _cpu, "socket", unit=each),
    ]
    conditions = "Less is better. No latency; a bare socket moves the same bytes without the library."
    panels = [Panel("Files over https, a gigabyte", "s", files), Panel("Samples of 100 KiB, each", "us", samples)]
    return drawn("Processor time of the client", conditions, panels)


def container(figures: Figures) -> Drawing:
    """Draw what it takes to make a dataset of a large container."""
    time = _compared(figures, "time until it is ready", "list 20,000", _wall)
    memory = _compared(figures, "peak memory", "list 20,000", _peak, unit=1e6)
    panels = [Panel("", "s", [time]), Panel("", "MB", [memory])]
    return drawn(
        "A map-style dataset of 20,000 blobs",
        "Less is better. http, no latency; the time is that of listing the container.",
        panels,
    )


def python(figures: Figures) -> Drawing:
    """Draw how well fetching ahead gets on with a transform that keeps the interpreter busy."""
    alone = "alone"
    groups = [
        _compared(figures, "2 ms a sample", "burn", _wall, alone),
        _compared(figures, "0.2 ms a sample", "burn 0.2 ms", _wall, alone),
        _compared(figures, "10 ms a sample, 300 samples", "burn 10 ms", _wall, alone),
        _compared(figures, "0.2 ms a sample, samples of 4 KiB", "burn tiny", _wall, alone),
        _compared(figures, "2 ms a sample, 64 samples of 4 MiB", "burn heavy", _wall, alone),
        _compared(figures, "2 ms a sample, in 2 DataLoader workers", "burn workers", _wall),
    ]
    conditions = (
        "Less is better. https, no latency; 1,000 samples of 100 KiB unless it says otherwise. alone: the transform "
        "computes, and no sample is read."
    )
    return drawn("Iterating with a transform in pure Python", conditions, [Panel("", "s", groups)])


def checksums(figures: Figures) -> Drawing:
    """Draw what checksums cost."""
    gigabytes = figures.sizes.blob / 1e9
    ways = (
        ("readinto", ("unverified", "verified by CRC64", "verified by MD5")),
        ("write", ("without checksum", "with CRC64", "with MD5")),
    )

    def panel(title: str, what: Callable[[Run], float]) -> Panel:
        groups = []
        for piece, names in ways:
            values = [figures.need(f"{piece} {name}", "ours", what) / gigabytes for name in names]
            bars = [
                Bar(name, value, role)
                for name, value, role in zip(("none", "CRC64", "MD5"), values, ("old", "ours", "floor"), strict=True)
            ]
            groups.append(Group(f"{piece} of 512 MiB", bars))
        return Panel(title, "s", groups)

    conditions = "Less is better. This version, http, no latency; client and server share two cores."
    panels = [panel("Processor time of the client, a gigabyte", _cpu), panel("Time, a gigabyte", _wall)]
    return drawn("Checksums", conditions, panels)


PLOTS: dict[str, Callable[[Figures], Drawing]] = {
    "far": far,
    "cpu": cpu,
    "container": container,
    "python": python,
    "checksums": checksums,
}
