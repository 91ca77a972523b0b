"""Keep what a forked child inherits but must not touch.

A child owns copies of the parent's sockets but shares its epoll set. Finalizing an inherited session, transport or
loop closes them the polite way, which removes the socket from that shared set: the parent's next read would never
wake. So they are *buried*: kept alive until the process is gone, and never called.
"""

from __future__ import annotations

import ctypes

__all__ = ["bury"]

_graveyard: list[object] = []


def bury(obj: object) -> None:
    """Keep ``obj``, and all that it refers to, alive until the process ends; nothing finalizes it.

    For ``after_in_child`` hooks. May be called before or after other hooks of this package.
    """
    _graveyard.append(obj)
    # The list alone is not enough: interpreter finalization clears the globals of modules, and sessions would then
    # be collected with "Unclosed client session" on stderr and a change to the shared epoll set. A reference that
    # nobody owns survives that.
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(obj))
