"""What a dataset takes to another process, looked at before the pickler does: for errors that say what to do.

The pickler's own name neither the dataset nor the argument, and a DataLoader shows them out of the middle of
``multiprocessing``.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from functools import partial
from multiprocessing import context, reduction
from types import FunctionType

from azstoragetorch.exceptions import RedactedCause

__all__ = ["require_credential", "require_functions"]


def require_credential(credential: object) -> None:
    """Try to pickle ``credential`` alone, for an error that names it and says what to do.

    What fails deep inside it would be reported as "cannot pickle '_thread.RLock' object", without a word on whose it
    is. A class that cannot even be imported again is left to the pickler: some can copy it by value (cloudpickle), and
    the others name it.

    :raises TypeError: if it cannot be pickled.
    """
    cause = _pickling_failure(credential)
    if cause is None or _pickling_failure(type(credential)) is not None:
        return
    raise TypeError(
        f"the dataset's credential, a {type(credential).__name__}, cannot be pickled for another process, perhaps "
        f"because it was used before. Pass credential=None (each process then makes its own DefaultAzureCredential), "
        f"an AzureSasCredential or AzureNamedKeyCredential, put a SAS into the URL, or start the workers by "
        f"multiprocessing_context='fork', which pickles nothing"
    ) from cause


def require_functions(functions: Mapping[str, object]) -> None:
    """Refuse lambdas and functions inside of functions while a worker process is started, which has to import them.

    Only then: other picklers (cloudpickle) copy functions by value, and a forked worker has them already.

    :param functions: by the names of the arguments; those that are no plain functions are left to the pickler.
    :raises TypeError: if one of them cannot be imported.
    """
    if context.get_spawning_popen() is None:
        return
    for argument, function in functions.items():
        while isinstance(function, partial):
            function = function.func
        if isinstance(function, FunctionType):
            # The pickler that will be used: it may have been taught to copy functions.
            cause = _pickling_failure(function, reduction.ForkingPickler.dumps)
            if cause is not None:
                raise TypeError(
                    f"the dataset's {argument}, {function.__qualname__} of {function.__module__}, cannot be sent to a "
                    f"worker process: workers that are started by 'spawn' or 'forkserver' import it by its name, and a "
                    f"lambda or a function inside of another has none. Define it with def at the top level of a "
                    f"module, with functools.partial for what it needs besides the blob; or start the workers by "
                    f"multiprocessing_context='fork'"
                ) from cause


def _pickling_failure(value: object, dumps: Callable[[object], object] = pickle.dumps) -> RedactedCause | None:
    try:
        dumps(value)
    except Exception as error:  # whatever its own __reduce__ raises, too
        return RedactedCause(error)
    return None
