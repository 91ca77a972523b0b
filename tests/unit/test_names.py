"""Where ranges of names are cut: always between the two, and where the names are."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from azstoragetorch._values.names import Alphabet

NAMES = st.text(min_size=1, max_size=50)


@given(st.sets(NAMES, min_size=3, max_size=6), NAMES, st.booleans(), st.floats(0, 1e9))
def test_cut_lies_between(some: set[str], prefix: str, bounded: bool, pages: float) -> None:
    """A bound outside of its range would make two ranges list the same names."""
    first, last, *_, stop = sorted(prefix + name for name in some)
    alphabet = Alphabet(prefix)
    alphabet.learn(first, last, *([stop] if len(some) % 2 else []))

    cut = alphabet.cut(first, last, last, stop if bounded else None, pages)

    assert cut is None or (last < cut and cut.startswith(prefix) and (not bounded or cut < stop))
    assert alphabet.pages_left(first, last, last, stop if bounded else None) >= 0


def test_even_names_are_cut_in_the_middle() -> None:
    """By characters that names have: no name lies between two control characters."""
    alphabet = Alphabet("t/")
    alphabet.learn("t/00000.jpg", "t/12345.jpg", "t/67890.jpg")
    first, last = "t/00000.jpg", "t/00999.jpg"

    left = alphabet.pages_left(first, last, last, "t/10000.jpg")

    assert 9 <= left < 90, "there are characters that no digit is"
    cut = alphabet.cut(first, last, last, "t/10000.jpg", left / 2)
    assert cut is not None
    assert "t/02" < cut < "t/0t"


def test_nothing_is_cut_where_no_character_is_known() -> None:
    """Else a listing would ask for names that cannot be."""
    alphabet = Alphabet()
    alphabet.learn("a", "aa")

    assert alphabet.cut("a", "aa", "aa", "aaa", 1) is None
