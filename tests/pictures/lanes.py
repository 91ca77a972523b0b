"""Boxes in lanes, and arrows from lane to lane: who does what, from top to bottom."""

from __future__ import annotations

from collections.abc import Sequence

from tests.pictures.svg import Drawing

__all__ = ["LANES", "LINE", "MIDDLES", "cells", "cross", "heads", "labelled", "note"]

LANES = ((0.0, 184.0), (208.0, 392.0), (416.0, 600.0))
"""Left and right edges of the three lanes."""
MIDDLES = tuple((left + right) / 2 for left, right in LANES)
LINE = 17
"""From one line of a box to the next."""


def heads(picture: Drawing, top: float, bottom: float, titles: Sequence[str]) -> None:
    """Name the lanes and shade them."""
    for (left, right), title in zip(LANES, titles, strict=True):
        picture.box(left, top, right - left, bottom - top, "panel", round_=6)
        picture.text((left + right) / 2, top + 21, title, "bold", role="soft", anchor="middle")


def labelled(
    picture: Drawing,
    place: tuple[float, float],
    y: float,
    title: str,
    lines: Sequence[str] = (),
    *,
    role: str = "pale",
    edge: str = "ours",
) -> float:
    """Draw a box with a name and lines below it; return where it ends.

    :param place: its left and right edge.
    """
    left, right = place
    height = 27 + LINE * len(lines)
    picture.box(left, y, right - left, height, role, edge=edge)
    picture.text((left + right) / 2, y + 18, title, "code", anchor="middle")
    note(picture, (left + right) / 2, y + 18, lines)
    return y + height


def note(picture: Drawing, x: float, y: float, lines: Sequence[str]) -> None:
    """Write lines below ``y``."""
    for number, line in enumerate(lines, 1):
        picture.text(x, y + LINE * number, line, "small", role="soft", anchor="middle")


def cross(picture: Drawing, start: int, stop: int, y: float, *, role: str = "line", dashed: bool = False) -> None:
    """Draw an arrow from one lane's box to another's."""
    forward = start < stop
    x = LANES[start][1 if forward else 0] + (-8 if forward else 8)
    end = LANES[stop][0 if forward else 1] + (8 if forward else -8)
    picture.line((x, y), (end, y), role=role, arrow=True, dashed=dashed)


def cells(picture: Drawing, left: float, y: float, width: float, roles: Sequence[str], height: float = 20) -> None:
    """Draw a row of cells: blocks of a blob, or samples in their order."""
    step = width / len(roles)
    for number, role in enumerate(roles):
        picture.box(left + number * step + 1, y, step - 2, height, role, edge="edge", round_=2)
