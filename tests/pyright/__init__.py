"""Whether type checkers and editors know every public name: pyright looks at the installed wheel.

    python -m tests.pyright

`usage.py` is what it, and mypy, are shown as the code of a user.
"""
