"""What people install: sdist and wheel, built, installed into an empty environment and looked at.

    python -m tests.packaging

`build` is for other tests, too: it builds either, and lays a wheel out for programs that only read it.
"""
