"""Run a function of these tests' modules as the main program of an interpreter of its own."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.blobserver import BlobServer
from tests.bridge.script import WARNINGS
from tests.processes.script import Script
from tests.torch.datasets.child import content_of
from tests.torch.datasets.reading import Run, main

__all__ = ["FLAGS", "flat", "gone", "outcome", "program", "put", "results", "torchrun"]

# torch's remark that four workers are more than the cores of a small machine; that is what the tests are about.
# And torchdata 0.11 on torch 2.13, whose vitals are deprecated.
FLAGS = [
    *WARNINGS,
    *("-W", "ignore:This DataLoader will create:UserWarning"),
    *("-W", "ignore:'set_vital' is deprecated:UserWarning"),
]


def put(server: BlobServer, *listed: str) -> None:
    """Make the blobs of these names."""
    for name in listed:
        server.put(name, content_of(name))


def program(function: Callable[[str], None], job: object, folder: Path, server: BlobServer) -> Script:
    """Start ``function`` with the path of a file that holds ``job`` as JSON.

    Guarded as multiprocessing wants it, because spawned workers import the main module again.
    """
    return Script(
        f"""
        if __name__ == "__main__":
            from {function.__module__} import {function.__name__}
            {function.__name__}({_written(job, folder)!r})
        """,
        folder,
        server,
        flags=FLAGS,
    )


def torchrun(module: str, ranks: int, job: object, folder: Path, server: BlobServer) -> Script:
    """Start ``python -m module job`` on so many ranks, as ``torchrun`` does; all of it stays on loopback."""
    options = ["--rdzv-backend=c10d", "--rdzv-endpoint=127.0.0.1:0", "--local-addr=127.0.0.1"]
    arguments = [*options, f"--nproc-per-node={ranks}", "-m", module, _written(job, folder)]
    return Script(
        f"""
        if __name__ == "__main__":
            # Flags do not reach the ranks, the environment does. Without the number of threads torchrun remarks on it.
            os.environ["PYTHONWARNINGS"] = {",".join(flag for flag in FLAGS if flag != "-W")!r}
            os.environ |= {{"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}}
            from torch.distributed.run import main
            main({arguments!r})
        """,
        folder,
        server,
        flags=FLAGS,
    )


def outcome(script: Script) -> list[Any]:
    """Wait for a program and return what it printed; it must end well, silently and with all its processes."""
    with script:
        lines = script.end().silently()
        gone(script)
    return [json.loads(line) for line in lines]


def results(server: BlobServer, folder: Path, *runs: dict[str, Any]) -> list[Any]:
    """Perform runs (see `tests.torch.datasets.reading`), here if none of them has workers; return what they gave."""
    if any(run.get("loader", {}).get("workers") for run in runs):
        folder = Path(tempfile.mkdtemp(dir=folder))
        job = {"container_url": server.container_url, "runs": runs, "results": str(folder / "results")}
        assert outcome(program(main, job, folder, server)) == []
        found: list[Any] = json.loads((folder / "results").read_text(encoding="utf-8"))
        return found
    done = []
    for description in runs:
        run = Run(server.container_url, description)
        done.append([run.perform(*step) for step in description["steps"]])
    return done


def flat(batches: list[list[Any]]) -> list[Any]:
    """Return the samples of batches, in order."""
    return [sample for batch in batches for sample in batch]


def gone(script: Script, seconds: float = 10) -> None:
    """Wait until nothing that the ended program started is left: workers, fork server, resource tracker.

    :raises AssertionError: if a process still is there after so many seconds.
    """
    stop = time.monotonic() + seconds
    while left := _alive(script.pid):
        assert time.monotonic() < stop, f"the ended program left {left}"
        time.sleep(0.01)  # the last of them end by themselves, once they see that the program is gone


def _alive(group: int) -> list[str]:
    """Return the names of the processes of a group; without the dead ones that nobody has waited for."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            stat = path.read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue  # it ended
        name, _, rest = stat.partition("(")[2].rpartition(")")
        state, _, process_group = rest.split()[:3]
        if int(process_group) == group and state not in "ZX":
            found.append(name)
    return found


def _written(job: object, folder: Path) -> str:
    path = folder / "job.json"
    path.write_text(json.dumps(job), encoding="utf-8")
    return str(path)
