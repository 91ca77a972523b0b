"""Run a command with a container to work in.

    python -m tests.azurite run -- COMMAND [ARGUMENT ...]

The command finds the URL of the container in ``AZSTORAGETORCH_CONTAINER_URL``. Where that is set already, the
command simply runs with it. Otherwise an emulator with one empty container is started for as long as the command
runs. The exit status is the command's.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from types import FrameType

from tests.azurite.launcher import Azurite

_VARIABLE = "AZSTORAGETORCH_CONTAINER_URL"


def main(arguments: list[str]) -> int:
    if arguments[:2] != ["run", "--"] or len(arguments) < 3:
        print(__doc__, file=sys.stderr)
        return 2
    command = arguments[2:]
    if os.environ.get(_VARIABLE):
        return _run(command, dict(os.environ))
    with Azurite() as azurite:
        url = azurite.container_url(azurite.create_container())
        return _run(command, {**os.environ, _VARIABLE: url})


def _run(command: list[str], environment: dict[str, str]) -> int:
    process = subprocess.Popen(command, env=environment)

    def forward(number: int, frame: FrameType | None) -> None:
        process.send_signal(number)

    # Ctrl-C reaches the command directly, from the terminal, and it is the command that decides what to do with it;
    # a SIGTERM reaches only us. In both cases the emulator has to outlive the command, so we wait.
    previous = {
        signal.SIGINT: signal.signal(signal.SIGINT, lambda number, frame: None),
        signal.SIGTERM: signal.signal(signal.SIGTERM, forward),
    }
    try:
        status = process.wait()
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    return 128 - status if status < 0 else status


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
