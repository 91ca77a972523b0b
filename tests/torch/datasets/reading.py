"""A program that does to datasets and their loaders what a test lists, step by step, and says what each step gave.

A job is ``{"container_url": ..., "runs": [...]}``; a run is ``{"dataset": {...}, "loader": {...}, "steps": [...]}``.
The runs come one after the other, and what they made stays open until the end, or until somebody kills the program.
Results are printed, or go to the file that the job has as ``"results"``: a pipe that nobody reads holds 64 KiB.
"""

from __future__ import annotations

import base64
import gc
import json
import logging
import multiprocessing
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader
from torchdata.stateful_dataloader import StatefulDataLoader

from tests.processes.child import wait
from tests.torch.datasets.child import checked, job_of, made, say

__all__ = ["Run", "main"]


def main(path: str) -> None:
    """Tell what the steps of a run gave, one line a run; then wait for ``go`` if the job says so."""
    job = job_of(path)
    # Else every worker of a fork server imports torch, 1.5 s of it.
    multiprocessing.set_forkserver_preload(["torch.utils.data"])
    runs, results = [], []
    for description in job["runs"]:
        runs.append(Run(job["container_url"], description))
        results.append([runs[-1].perform(*step) for step in description["steps"]])
        if "results" not in job:
            say(results[-1])
    if "results" in job:
        Path(job["results"]).write_text(json.dumps(results), encoding="utf-8")
    if job.get("wait"):
        wait()


class LogFile(logging.Handler):
    """Worker init function: what the library logs in a worker goes to the same file as in the main process."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return LogFile, (self._path,)  # a handler has a lock

    def __call__(self, worker: int | None = None) -> None:
        logger = logging.getLogger("azstoragetorch")
        logger.handlers[:] = [self]
        logger.setLevel(logging.INFO)

    def emit(self, record: logging.LogRecord) -> None:
        # Opened for each line, so that nothing stays open in any of the processes.
        with open(self._path, "a", encoding="utf-8") as file:
            file.write(f"{record.levelname} {record.name} {record.getMessage()}\n")


def shown(sample: Any) -> Any:
    """Return the name of the blob of a default sample, other samples as they are."""
    return checked(sample) if isinstance(sample, dict) and "data" in sample else sample


class Run:
    """One dataset, the loader over it, and the iteration that is under way.

    :param description: ``loader`` has ``workers``, ``method``, ``batch_size``, ``persistent``, ``stateful``,
        ``shuffle``, ``log`` (a file); without it there is no loader and the dataset itself is iterated.
    """

    def __init__(self, container_url: str, description: dict[str, Any]) -> None:
        dataset: Any = made(container_url, description["dataset"])
        self._samples = dataset
        self.dataset = dataset
        self.loader: Any = dataset
        self._batches: Iterator[Any] | None = None
        if (loading := description.get("loader")) is not None:
            workers = loading.get("workers", 0)
            log = LogFile(loading["log"]) if loading.get("log") else None
            if log is not None:
                log()
            self.loader = (StatefulDataLoader if loading.get("stateful") else DataLoader)(
                dataset,
                batch_size=loading.get("batch_size", 4),
                num_workers=workers,
                multiprocessing_context=loading.get("method", "fork") if workers else None,
                persistent_workers=loading.get("persistent", False),
                collate_fn=list,
                shuffle=loading.get("shuffle"),
                worker_init_fn=log if workers else None,
            )

    def perform(self, verb: str, *arguments: Any) -> Any:
        """Do one step and return what it gave, or ``{"error": [name of its type, names of its bases, message]}``."""
        try:
            return getattr(self, f"do_{verb}")(*arguments)
        except Exception as error:
            self._batches = None
            bases = [base.__name__ for base in type(error).__mro__]
            failed = {"error": [type(error).__name__, bases, str(error)]}
        # torch leaves the iterator in a cycle with the traceback, and complains in workers that are forked before
        # the collector has come by.
        gc.collect()
        return failed

    def do_read(self, count: int | None = None) -> list[Any]:
        """Read so many batches (or samples, without a loader), all that are left by default."""
        if self._batches is None:
            self._batches = iter(self.loader)
        found: list[Any] = []
        while count is None or len(found) < count:
            try:
                batch = next(self._batches)
            except StopIteration:
                self._batches = None
                break
            found.append([shown(sample) for sample in batch] if isinstance(batch, list) else shown(batch))
        return found

    def do_abandon(self) -> None:
        """Drop the iteration that is under way."""
        self._batches = None

    def do_item(self, index: int) -> Any:
        return shown(self.dataset[index])

    def do_len(self) -> int:
        return len(self.dataset)

    def do_loader_len(self) -> int:
        return len(self.loader)

    def do_set_epoch(self, epoch: int) -> None:
        self.dataset.set_epoch(epoch)

    def do_resume(self, arguments: dict[str, int]) -> None:
        self.dataset.resume(**arguments)

    def do_dataset_state(self) -> Any:
        return self.dataset.state_dict()

    def do_load_dataset_state(self, state: Any) -> None:
        self.dataset.load_state_dict(state)

    def do_state(self) -> str:
        """Return the state of a stateful loader, pickled, as text."""
        return base64.b64encode(pickle.dumps(self.loader.state_dict())).decode()

    def do_json_state(self) -> Any:
        """Return it as it is; fails where JSON cannot hold it."""
        return json.loads(json.dumps(self.loader.state_dict()))

    def do_load(self, state: str) -> None:
        self.loader.load_state_dict(pickle.loads(base64.b64decode(state)))

    def do_load_json(self, state: Any) -> None:
        self.loader.load_state_dict(state)

    def do_stats(self) -> str:
        return str(self.dataset.stats())
