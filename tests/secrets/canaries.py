"""Secrets that a test can recognise wherever they come out, and the places where they could."""

from __future__ import annotations

__all__ = ["KEY", "SIGNATURE", "TOKEN", "found_in", "texts_of"]

import base64
import pickle
import traceback
from collections.abc import Iterable, Iterator
from urllib.parse import quote

SIGNATURE = "canary/signature+of=the+test=="
TOKEN = "canary-token-of-the-test"
KEY = base64.b64encode(b"canary key of the test, 64 bytes long as the keys of accounts are").decode()

# As it is, percent-encoded once and twice, and the words alone in case that somebody cuts or decodes.
_FORMS = {
    form
    for secret in (SIGNATURE, TOKEN, KEY)
    for form in (secret, quote(secret, safe=""), quote(quote(secret, safe=""), safe=""), quote(secret))
} | {"canary", KEY[:20]}


def found_in(texts: Iterable[str]) -> list[str]:
    """Return the texts that hold a secret."""
    return [text for text in texts if any(form in text for form in _FORMS)]


def texts_of(error: BaseException) -> Iterator[str]:
    """Return all that an exception shows: to people, to loggers, and to whoever unpickles or inspects it."""
    yield "".join(traceback.format_exception(error))
    seen: set[int] = set()
    pending: list[object] = [error]
    while pending:
        item = pending.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, BaseException):
            yield repr(item)
            yield str(item)
            yield pickle.dumps(item).decode("latin-1")
            pending += [item.args, vars(item), item.__cause__, item.__context__, getattr(item, "__notes__", None)]
        elif isinstance(item, dict):
            pending += [*item.keys(), *item.values()]
        elif isinstance(item, list | tuple | set | frozenset):
            pending += item
        elif item is not None:
            yield repr(item)
            pending.append(getattr(item, "__dict__", None))
