"""Keep what the package logs at DEBUG."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from tests.secrets.canaries import found_in

__all__ = ["Lines", "listening"]


class Lines(logging.Handler):
    """Every record of the package, from any thread."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def of(self, name: str) -> list[str]:
        """Return the messages of ``azstoragetorch.<name>``."""
        return [record.getMessage() for record in self.records if record.name == f"azstoragetorch.{name}"]


@contextmanager
def listening(level: int = logging.DEBUG) -> Iterator[Lines]:
    """Keep what is logged meanwhile.

    :param level: above this nothing may be logged, and no secret at all.
    """
    logger, handler = logging.getLogger("azstoragetorch"), Lines()
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        yield handler
    finally:
        logger.removeHandler(handler)
        logger.setLevel(logging.NOTSET)
    assert not found_in(record.getMessage() for record in handler.records)
    assert not [record for record in handler.records if record.levelno > level]
