"""Draw the pictures and write the tables anew: ``python -m tests.pictures``."""

from __future__ import annotations

from pathlib import Path

from tests.pictures.diagrams import DIAGRAMS
from tests.pictures.figures import Figures
from tests.pictures.plots import PLOTS
from tests.pictures.svg import THEMES
from tests.pictures.tables import PAGES, ROOT, filled, tables

__all__ = ["IMAGES", "images"]

IMAGES = ROOT / "docs" / "images"


def images(figures: Figures) -> dict[str, str]:
    """Return every picture by the name of its file."""
    drawings = {name: plot(figures) for name, plot in PLOTS.items()}
    drawings |= {name: diagram() for name, diagram in DIAGRAMS.items()}
    return {f"{name}-{theme}.svg": drawing.render(theme) for name, drawing in drawings.items() for theme in THEMES}


def main() -> None:
    figures = Figures.read()
    IMAGES.mkdir(exist_ok=True)
    for name, content in images(figures).items():
        _write(IMAGES / name, content)
    content_of = tables(figures)
    for page in PAGES:
        _write(page, filled(page.read_text(encoding="utf-8"), content_of))


def _write(path: Path, content: str) -> None:
    if not path.is_file() or path.read_text(encoding="utf-8") != content:
        path.write_text(content, encoding="utf-8", newline="\n")
        print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
