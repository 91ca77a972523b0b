"""The pictures of the documentation, and the figures that its tables and README.md quote.

    python -m tests.pictures

writes ``docs/images/*.svg`` anew, each in a light and a dark variant, and the tables between the markers of
``README.md`` and of pages of ``docs/``. Plots and tables come from ``docs/performance.json``, the file that
``python -m tests.benchmarks --json docs/performance.json`` writes, so that no figure is copied by hand. What is written
depends on nothing else: a test writes it again and compares every byte.

``svg``       shapes and words, and the two themes
``figures``   the medians of the file
``plots``     bars
``diagrams``  layers and paths of data, drawn by hand with ``lanes``
``tables``    rows of Markdown, and the pages they belong to; those of options are made in ``tuning``
"""
