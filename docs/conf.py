"""How Sphinx builds these pages: ``tox run -e docs``, which writes them to ``.tox/docs/html``.

Pages are Markdown and read well where a repository is browsed, too: links between them are relative paths with the
file's name, and only what has to be computed (tables of contents, the API reference, included files) is a directive.
Nothing is fetched from the network, so there is no intersphinx.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from sphinx.application import Sphinx

sys.path.insert(0, str(Path(__file__).parents[1]))  # the checkout itself is documented, not an installed package

from azstoragetorch import __version__

project = "azstoragetorch"
author = "azstoragetorch contributors"
copyright = author
release = version = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_copybutton"]
# The fragments of links are checked against the headings down to this level.
myst_heading_anchors = 4
myst_enable_extensions = ["attrs_block", "attrs_inline", "colon_fence", "deflist"]

# Without intersphinx there is nothing to link the names of other packages to; our own have to be found.
nitpicky = True
nitpick_ignore_regex = [(r"py:.*", r"(?!azstoragetorch).*"), (r"py:.*", r"azstoragetorch\._data\.\w+\.T_co")]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
# Types of arguments that have a name of their own are shown by it, and lead to where it is explained.
autodoc_type_aliases = {
    "Buffer": "Buffer",
    **{name: f"azstoragetorch.{name}" for name in ("Checksum", "Credential", "Mode", "Verify")},
    **{name: f"azstoragetorch.datasets.{name}" for name in ("OnError", "Sharding", "Transform", "Uneven")},
}
python_use_unqualified_type_names = True
maximum_signature_line_length = 80

html_theme = "furo"
html_title = f"azstoragetorch {release}"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
pygments_dark_style = "github-dark"  # the default underlines the names of modules
html_copy_source = False
html_show_sphinx = False
# What a shell prints is not copied with the command.
copybutton_exclude = ".linenos, .gp, .go"

# Browsers of repositories show a <picture> in the theme of their reader. furo has a switch for its theme, which only
# its own classes follow, so the two variants become two images here.
_PICTURE = re.compile(r'<picture>\n<source .*>\n<img src="(\S+)-light\.svg" alt="(.*)">\n</picture>')
_BOTH = "".join(
    f"```{{image}} \\1-{theme}.svg\n:alt: \\2\n:class: only-{theme}\n```\n\n" for theme in ("light", "dark")
)


def _show_pictures(app: Sphinx, docname: str, source: list[str]) -> None:
    source[0] = _PICTURE.sub(_BOTH, source[0])
    if "<picture>" in source[0]:
        raise ValueError(f"a picture of {docname} is not written as docs/performance.md writes them")


# Made by a class method, or by a dataset: what their constructors take is not public.
_MADE_ELSEWHERE = ("Blob", "BlobDataset", "BlobListing", "IterableBlobDataset")


# How Sphinx writes the name of an alias that is part of another type, `Transform | None`.
_ALIAS = re.compile(r"TypeAliasForwardRef\('([\w.]+)'\)")


def _show_signature(
    app: Sphinx, what: str, name: str, documented: object, options: object, signature: str | None, returns: str | None
) -> tuple[str | None, str | None]:
    if what == "class" and name.rpartition(".")[2] in _MADE_ELSEWHERE:
        return "", ""
    return signature and _ALIAS.sub(r"\1", signature), returns


def _show_public_bases(app: Sphinx, name: str, kind: type, options: object, bases: list[type]) -> None:
    """Show, in place of a base class that has no page, its own base classes."""
    while private := next((base for base in bases if base.__name__ in ("FileFace", "_AzureShaped")), None):
        others = [base for base in bases if base is not private]
        above = {object, *(parent for base in others for parent in base.__mro__[1:])}
        place = bases.index(private)
        bases[place : place + 1] = [base for base in private.__bases__ if base not in above]


def setup(app: Sphinx) -> None:
    app.connect("autodoc-process-signature", _show_signature)
    app.connect("autodoc-process-bases", _show_public_bases)
    app.connect("source-read", _show_pictures)
