"""Pictures and quoted figures are those of the file that they come from."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.benchmarks.dataset_cases import DATASET_CASES
from tests.benchmarks.file_cases import FILE_CASES
from tests.benchmarks.kinds import Sizes
from tests.benchmarks.tuning_cases import TUNING_CASES
from tests.benchmarks.watching_cases import WATCHING_CASES
from tests.pictures.__main__ import IMAGES, images
from tests.pictures.figures import FILE, OLD, Figures, amount, times
from tests.pictures.plots import Bar, Group, Panel, drawn
from tests.pictures.svg import THEMES, Drawing
from tests.pictures.tables import PAGES, ROOT, figures_of, filled, tables
from tests.pictures.tuning import rows_of_options

PICTURE = re.compile(
    r'^<picture>\n<source media="\(prefers-color-scheme: dark\)" srcset="(?P<dark>\S+)">\n'
    r'<img src="(?P<light>\S+)" alt="(?P<alt>.+)">\n</picture>$',
    re.MULTILINE,
)


@pytest.fixture(scope="module")
def figures() -> Figures:
    return Figures.read()


def test_figures_are_of_a_whole_run_in_turns(figures: Figures) -> None:
    """A figure of another day, or of one lucky run, must not stand beside the others."""
    assert figures.turns() >= 3
    assert figures.sizes == Sizes()
    for case in (*FILE_CASES, *DATASET_CASES, *WATCHING_CASES):
        rivals = {run.rival for run in figures.runs if run.case == case.name}
        assert rivals == {"ours"} | ({"floor"} if case.floor else set()) | (set() if case.alone else {OLD})


def test_the_file_names_no_machine() -> None:
    """It is read by everyone."""
    text = FILE.read_text(encoding="utf-8")

    assert set(json.loads(text)) == {"date", "machine", "sizes", "goals", "runs"}
    assert re.search(r"/(home|root|tmp|work|Users)\b", text) is None
    assert re.fullmatch(r"\d+\.\d+", json.loads(text)["machine"]["kernel"])


def test_pictures_are_what_the_figures_draw(figures: Figures) -> None:
    """A plot of older figures would contradict the table below it: ``python -m tests.pictures`` draws them anew."""
    drawn_now = images(figures)

    assert {path.name for path in IMAGES.iterdir()} == set(drawn_now)
    assert [name for name, content in drawn_now.items() if (IMAGES / name).read_text() != content] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_quoted_figures_are_those_of_the_file(page: Path, figures: Figures) -> None:
    """No claim without a figure, and no figure that was not measured: ``python -m tests.pictures`` writes them."""
    text = page.read_text(encoding="utf-8")

    assert figures_of(text)
    assert text.count("<!-- figures: ") == text.count("<!-- end of figures -->")
    assert filled(text, tables(figures)) == text


def test_every_table_and_picture_is_shown(figures: Figures) -> None:
    """What nobody sees need not be kept."""
    pages = {page: page.read_text(encoding="utf-8") for page in (ROOT / "README.md", *ROOT.glob("docs/**/*.md"))}
    shown = set()
    for page, text in pages.items():
        matches = list(PICTURE.finditer(text))
        assert len(matches) == text.count("<picture>"), page
        for match in matches:
            light, dark = ((page.parent / match[theme]).resolve() for theme in ("light", "dark"))
            assert light.name.replace("-light.", "-dark.") == dark.name
            shown |= {light, dark}

    assert shown == {IMAGES / name for name in images(figures)}
    assert {name for page in PAGES for name in figures_of(pages[page])} == set(tables(figures))


def test_prose_quotes_only_ratios_of_tables(figures: Figures) -> None:
    """A ratio in a sentence is the first thing to be forgotten when figures change."""
    for page in PAGES:
        prose = re.sub(r"<!-- figures: .+?<!-- end of figures -->", "", page.read_text(), flags=re.DOTALL)
        assert re.findall(r"\d(?:x| times) (?:as fast|faster|less|more)", prose) == []


def test_figures_in_prose_have_a_date() -> None:
    """What no program writes anew must not pass for a figure of the run that the tables are of."""
    for page in PAGES:
        hidden = r"<!-- figures: .+?<!-- end of figures -->|^```.+?^```$"
        prose = re.sub(hidden, "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
        # A sentence that ends with a colon speaks for the table behind it.
        parts = [
            part
            for part in re.split(r"(?<!:)\n\n|\n(?=- )", prose)
            if re.search(r"\d (?:us|s/GB|s/GiB)\b|\d\.\d+ m?s\b", part)
        ]
        assert [part for part in parts if not re.search(r"\b20\d\d-\d\d-\d\d\b", part)] == []


def test_options_have_rows_where_they_were_measured(figures: Figures) -> None:
    """The default has to stand among its neighbours, or nobody can tell what they cost."""
    runs = tuple(replace(figures.runs[0], case=case.name, rival="ours") for case in TUNING_CASES)

    tables = rows_of_options(replace(figures, runs=runs))

    rows = [row for table in tables.values() for row in table]
    assert len(rows) == len(TUNING_CASES)
    assert {(row[0], row[1].split("`")[1]) for row in rows} == {
        (row[0], row[1].split("`")[1]) for row in rows if row[1].startswith("**")
    }
    assert "**`range_size` 8 MiB**" in {row[1] for row in rows}
    assert rows_of_options(replace(figures, runs=())) == {name: [] for name in tables}


def test_themes_differ_only_in_colours() -> None:
    """One of them is seldom looked at."""
    picture = drawn("t", "c", [Panel("p", "s", [Group("g", [Bar("a", 2.0, "old"), Bar("b", 1.0, "ours")], 2.0)])])
    light, dark = (picture.render(theme) for theme in THEMES)

    def without_style(text: str) -> str:
        return re.sub(r"<style>.*?</style>", "", text)

    assert light != dark
    assert without_style(light) == without_style(dark)
    assert ElementTree.fromstring(light).get("aria-label") == "t"


def test_bars_are_as_long_as_their_figures() -> None:
    """A bar that does not begin at zero, or has a scale of its own, is a lie."""
    groups = [Group("g", [Bar("a", 8.0, "old"), Bar("b", 2.0, "ours")]), Group("h", [Bar("a", 4.0, "old")])]
    root = ElementTree.fromstring(drawn("t", "c", [Panel("", "s", groups)]).render("light"))

    widths = [float(rect.get("width", "")) for rect in root.iter("{http://www.w3.org/2000/svg}rect")]

    assert widths == pytest.approx([widths[0], widths[0] / 4, widths[0] / 2], rel=1e-3)
    assert all(line in "".join(root.itertext()) for line in ("8.00 s", "2.00 s", "4.00 s"))


def test_words_that_do_not_fit_are_refused() -> None:
    """Cut words would be found by the readers."""
    with pytest.raises(ValueError, match="does not fit"):
        Drawing("t").text(500, 10, "a line that is far too long for what is left")


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.213, "0.21"), (1.018, "1.02"), (9.96, "10.0"), (23.44, "23.4"), (707.2, "707"), (1277.1, "1,280")],
)
def test_figures_have_three_digits(value: float, text: str) -> None:
    """More would claim what no run on a shared machine can know."""
    assert amount(value) == text


@pytest.mark.parametrize(("ratio", "text"), [(2.499, "2.4"), (9.99, "9.9"), (24.99, "24"), (1.0, "1.0")])
def test_ratios_are_rounded_down(ratio: float, text: str) -> None:
    """2.49 is a goal of 2.5 that was missed."""
    assert times(ratio) == text
