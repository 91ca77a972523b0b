"""Write a blob in a process of its own, one step for each line of standard input.

The first line is JSON: url, mode, content (hexadecimal) and options. The answer is ``ready`` when everything but the
last block is with the service. At the next line the file is closed, and the answer says what came of that.
"""

from __future__ import annotations

__all__ = ["Rival"]

import json
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

_ROOT = Path(__file__).resolve().parents[2]


class Rival:
    """Another process that writes the same blob; its blocks are staged when this has been entered.

    :param options: of its transfers, by name.
    """

    def __init__(self, url: str, mode: str, content: bytes, options: dict[str, Any]) -> None:
        self._task = {"url": url, "mode": mode, "content": content.hex(), "options": options}
        self._process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "tests.faults.rival"],
            cwd=_ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Rival:
        try:
            answer = self._ask(json.dumps(self._task))
            assert answer == "ready", f"the other process said {answer!r}"
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(20)
        self._process.stdout.close()

    def close_file(self) -> str:
        """Let it close its file; return ``committed`` or the name of the error's class."""
        return self._ask("close")

    def _ask(self, line: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().strip()


def _main() -> None:
    from azstoragetorch import TransferOptions
    from azstoragetorch.exceptions import AZStorageTorchError
    from azstoragetorch.io import BlobIO

    task = json.loads(sys.stdin.readline())
    file = BlobIO(task["url"], task["mode"], options=TransferOptions(**task["options"]))
    file.write(bytes.fromhex(task["content"]))
    file.flush()
    print("ready", flush=True)
    if not sys.stdin.readline():
        file.abort()
        return
    try:
        file.close()
    except AZStorageTorchError as error:
        print(type(error).__name__, flush=True)
    else:
        print("committed", flush=True)


if __name__ == "__main__":
    _main()
