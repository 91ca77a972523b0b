"""Shapes and words of a drawing, as SVG that is readable on a light or on a dark page.

A drawing is the same in both themes but for the style sheet in front of it: shapes name the role of their colour, not
the colour. Fonts are those of the reader's system, so a word is given more room than it needs in any of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal
from xml.sax.saxutils import escape, quoteattr

__all__ = ["THEMES", "Anchor", "Drawing", "Style", "Theme", "width_of"]

Theme = Literal["light", "dark"]
Anchor = Literal["start", "middle", "end"]
Style = Literal["word", "bold", "small", "code", "smallcode"]

SHOWN = 600
"""Pixels of every drawing on a wide page; on a narrow one it is scaled down to it."""

_COLOURS: dict[Theme, dict[str, str]] = {
    # Text has a contrast of at least 5 to 1 against the page (white, #131416), bars of 3 to 1.
    "light": {
        "ink": "#1f2328",
        "paper": "#ffffff",
        "soft": "#59636e",
        "line": "#818b98",
        "panel": "#f3f5f8",
        "edge": "#c8d0d9",
        "ours": "#0969da",
        "old": "#8c959f",
        "floor": "#b35900",
        "pale": "#d8e9fd",
        "warm": "#fbe6cf",
    },
    "dark": {
        "ink": "#e6edf3",
        "paper": "#0d1117",
        "soft": "#a5aeb8",
        "line": "#848d97",
        "panel": "#1e2329",
        "edge": "#444c56",
        "ours": "#539bf5",
        "old": "#768390",
        "floor": "#e09b4f",
        "pale": "#173455",
        "warm": "#46301a",
    },
}
THEMES: tuple[Theme, ...] = ("light", "dark")

_SANS = "system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue',Arial,sans-serif"
_MONO = "ui-monospace,SFMono-Regular,Menlo,Consolas,'Liberation Mono',monospace"
_SIZES: dict[Style, float] = {"word": 14, "bold": 14, "small": 12.5, "code": 13, "smallcode": 12}


def width_of(text: str, style: Style) -> float:
    """Return the units that a text may take, in the widest of the usual fonts."""
    return len(text) * _SIZES[style] * (0.61 if style.endswith("code") else 0.56)


@dataclass(slots=True)
class Drawing:
    """What is drawn, from the top; ``height`` is set when it is known.

    :ivar title: what the picture says, for those who cannot see it.
    """

    title: str
    width: float = SHOWN
    height: float = 0
    _shapes: list[str] = field(default_factory=list)

    def text(
        self, x: float, y: float, words: str, style: Style = "word", *, role: str = "ink", anchor: Anchor = "start"
    ) -> None:
        """Write on the line whose base is ``y``.

        :raises ValueError: if the words may be too long for the drawing.
        """
        room = {"start": self.width - x, "end": x, "middle": 2 * min(x, self.width - x)}[anchor]
        if width_of(words, style) > room:
            raise ValueError(f"{words!r} does not fit into {room:g} units")
        end = "" if anchor == "start" else f' text-anchor="{anchor}"'
        self._shapes.append(f'<text x="{x:g}" y="{y:g}" class="{style} {role}"{end}>{escape(words)}</text>')

    def box(
        self, x: float, y: float, width: float, height: float, role: str, *, edge: str = "", round_: float = 3
    ) -> None:
        """Fill a rectangle, with an edge if it has a role."""
        line = f" {edge}-line" if edge else ""
        place = f'x="{x:g}" y="{y:g}" width="{max(width, 0.5):.4g}" height="{height:g}" rx="{round_:g}"'
        self._shapes.append(f'<rect {place} class="{role}{line}"/>')

    def line(self, *points: tuple[float, float], role: str = "line", arrow: bool = False, dashed: bool = False) -> None:
        """Draw a line through points, with the head of an arrow at its end."""
        path = "M" + " L".join(f"{x:g} {y:g}" for x, y in points)
        dash = ' stroke-dasharray="4 4"' if dashed else ""
        head = f' marker-end="url(#{role})"' if arrow else ""
        self._shapes.append(f'<path d="{path}" class="{role}-line"{dash}{head}/>')

    def render(self, theme: Theme) -> str:
        """Return the SVG file for pages of a theme."""
        colours = _COLOURS[theme]
        fills = "".join(f".{role}{{fill:{colour}}}" for role, colour in colours.items())
        lines = "".join(f".{role}-line{{stroke:{colour}}}" for role, colour in colours.items())
        fonts = "".join(
            f".{style}{{font:{'600 ' if style == 'bold' else ''}{size}px {_MONO if 'code' in style else _SANS}}}"
            for style, size in _SIZES.items()
        )
        heads = "".join(
            f'<marker id="{role}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
            f'<path d="M0 0 L8 4 L0 8 z" class="{role}"/></marker>'
            for role in ("line", "ours", "floor")
        )
        title = f"<title>{escape(self.title)}</title>"
        size = f'width="{SHOWN}" height="{self.height * SHOWN / self.width:.0f}"'
        size += f' viewBox="0 0 {self.width:g} {self.height:g}"'
        shapes = "\n".join(self._shapes)
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label={quoteattr(self.title)}>{title}\n'
            f"<style>path{{fill:none;stroke-width:1.5}}rect{{stroke-width:1}}{fills}{lines}{fonts}</style>\n"
            f"<defs>{heads}</defs>\n{shapes}\n</svg>\n"
        )
