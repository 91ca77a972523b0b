"""A run that was stopped goes on with the next sample: the same bytes in the same order, none twice, none left out."""

from __future__ import annotations

import base64
import json
import pickle
from pathlib import Path
from typing import Any

import pytest

from azstoragetorch.datasets import IterableBlobDataset
from tests.blobserver import BlobServer
from tests.processes.script import Script
from tests.torch.datasets.child import content_of, names
from tests.torch.datasets.program import flat, program, put, results
from tests.torch.datasets.reading import main

pytestmark = pytest.mark.timeout(120)

LISTED = names(23)
BLOCKED: dict[str, Any] = {"kind": "iterable", "shuffle": True, "seed": 11, "batch_size": 4}
PLAIN: dict[str, Any] = {"kind": "iterable"}
SIGNATURE = "canary/signature"

Run = dict[str, Any]


@pytest.fixture(autouse=True)
def blobs(server: BlobServer) -> None:
    put(server, *LISTED)


def start(server: BlobServer, folder: Path, *runs: Run) -> Script:
    """Start a program that performs these runs and then waits to be killed."""
    return program(main, {"container_url": server.container_url, "runs": runs, "wait": True}, folder, server)


LOADERS: dict[str, Run] = {
    "no workers": {"stateful": True},
    "1 worker": {"stateful": True, "workers": 1},
    "4 workers": {"stateful": True, "workers": 4},
    "4 persistent workers": {"stateful": True, "workers": 4, "persistent": True},
}

# After how many batches the program is killed. 23 samples are 6 batches of 4; with 4 workers and blocks of a batch two
# of the workers have one batch and two have two, so after 5 batches some are exhausted and others are not.
STOPS: dict[str, tuple[int, ...]] = {
    "no workers": (0, 1, 6),
    "1 worker": (3,),
    "4 workers": (0, 1, 3, 5, 6),
    "4 persistent workers": (1, 5),
}


@pytest.mark.parametrize("dataset", [BLOCKED, PLAIN], ids=["shuffled", "as listed"])
def test_killed_run_goes_on_with_the_next_sample(dataset: Run, server: BlobServer, tmp_path: Path) -> None:
    """With torchdata's loader, in its second epoch, while workers have fetched ahead."""
    chosen = [(name, stop) for name, stops in STOPS.items() for stop in (stops if dataset is BLOCKED else stops[-2:-1])]
    loaders = [LOADERS[name] for name in dict(chosen)]
    cases = [(LOADERS[name], stop) for name, stop in chosen]
    first = [
        {"dataset": dataset, "loader": loader, "steps": [["read"], ["read", stop], ["state"]]} for loader, stop in cases
    ]
    with start(server, tmp_path, *first) as script:
        before = [json.loads(script.line()) for _ in cases]
        # Left with SIGKILL, like a preempted machine.

    second = [
        {"dataset": dataset, "loader": loader, "steps": [["load", state], ["read"], ["read"]]}
        for (loader, _), (_, _, state) in zip(cases, before, strict=True)
    ]
    third = [{"dataset": dataset, "loader": loader, "steps": [["read"]] * 3} for loader in loaders]
    after = results(server, tmp_path, *second, *third)

    whole = {str(loader): epochs for loader, epochs in zip(loaders, after[len(cases) :], strict=True)}
    for (loader, stop), (epoch0, begun, _), (_, rest, next_epoch) in zip(cases, before, after, strict=False):
        expected = whole[str(loader)]
        case = f"{loader} after {stop}"
        assert epoch0 == expected[0], case
        assert sorted(flat(begun) + flat(rest)) == LISTED, case
        assert begun + rest == expected[1], case
        assert next_epoch == expected[2], case


def test_state_of_an_epoch_just_read_begins_the_next(server: BlobServer, tmp_path: Path) -> None:
    """A checkpoint at the end of each epoch is the usual one; it must not replay the epoch, nor skip one."""
    loaders = list(LOADERS.values())
    steps = [["read"], ["state"], ["read"], ["read"]]
    first = [{"dataset": BLOCKED, "loader": loader, "steps": steps} for loader in loaders]
    saved = results(server, tmp_path, *first)

    second = [
        {"dataset": BLOCKED, "loader": loader, "steps": [["load", state], ["read"], ["read"]]}
        for loader, (_, state, _, _) in zip(loaders, saved, strict=True)
    ]
    found = results(server, tmp_path, *second)

    for (_, _, one, two), (_, *again) in zip(saved, found, strict=True):
        # torchdata gives an empty iteration for a loader that had finished; the epochs after it count.
        epochs = [epoch for epoch in again if epoch]
        assert epochs == [one, two][: len(epochs)]
        assert epochs


def test_state_is_small_plain_and_without_secrets(server: BlobServer, tmp_path: Path) -> None:
    """It goes into every checkpoint, beside the weights, and to whoever gets those."""
    sas = f"sv=2024-11-04&sp=rl&sig={SIGNATURE}"
    server.require_sas = {"sig": SIGNATURE}
    for count in (23, 3000):
        put(server, *names(count))
        dataset = IterableBlobDataset.from_container_url(
            f"{server.container_url}?{sas}", prefix="train/", shuffle=True, batch_size=4
        )
        samples = iter(dataset)
        next(samples)

        state = dataset.state_dict()

        assert json.loads(json.dumps(state)) == state
        assert len(json.dumps(state)) < 600
        assert len(pickle.dumps(state)) < 600
        assert "canary" not in json.dumps(state)
        assert "sig" not in json.dumps(state)


def test_state_of_a_loader_is_json(server: BlobServer, tmp_path: Path) -> None:
    """Trainers that keep it in a text file must be able to; with 4 workers it still is a few kilobytes."""
    loader = {"workers": 4, "stateful": True}
    (begun,) = results(
        server, tmp_path, {"dataset": BLOCKED, "loader": loader, "steps": [["read", 2], ["json_state"], ["read"]]}
    )
    state = begun[1]
    assert "error" not in state
    assert len(json.dumps(state)) < 8000

    (resumed,) = results(
        server, tmp_path, {"dataset": BLOCKED, "loader": loader, "steps": [["load_json", state], ["read"]]}
    )
    assert resumed[1] == begun[2]


REFUSED: dict[str, tuple[Run, str]] = {
    "seed": (BLOCKED | {"seed": 12}, "seed=11"),
    "shuffle": (BLOCKED | {"shuffle": False}, "shuffle=True"),
    "prefix": (BLOCKED | {"prefix": "train/0000"}, "were added, removed or replaced"),
    "uneven": (BLOCKED | {"uneven": "pad"}, "uneven='none'"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_state_of_another_order_is_refused(what: str, server: BlobServer, tmp_path: Path) -> None:
    """Its position means other samples there: some would come twice and others never, without a sign of it."""
    other, message = REFUSED[what]
    ((_, state),) = results(server, tmp_path, {"dataset": BLOCKED, "steps": [["read", 5], ["dataset_state"]]})

    steps = [["load_dataset_state", state], ["len"]]
    ((refused, after),) = results(server, tmp_path, {"dataset": other, "steps": steps})

    assert refused["error"][0] == "ValueError"
    assert message in refused["error"][2]
    assert after == (10 if what == "prefix" else 23)


@pytest.mark.parametrize("change", ["added", "removed", "replaced"])
def test_state_of_another_listing_is_refused(change: str, server: BlobServer, tmp_path: Path) -> None:
    """The container changed while the job was queued; with the listing that was saved it goes on."""
    ((_, state),) = results(server, tmp_path, {"dataset": BLOCKED, "steps": [["read", 5], ["dataset_state"]]})
    if change == "added":
        server.put("train/00003a.bin", b"new")
    elif change == "removed":
        server.delete(LISTED[3])
    else:
        server.put(LISTED[3], content_of(LISTED[3]))

    ((refused,),) = results(server, tmp_path, {"dataset": BLOCKED, "steps": [["load_dataset_state", state]]})

    assert refused["error"][0] == "ValueError"
    assert "BlobListing.save" in refused["error"][2]
    assert "?" not in refused["error"][2]


def test_state_of_another_listing_is_refused_by_workers(server: BlobServer, tmp_path: Path) -> None:
    """There the error has to reach the main process, as what it is."""
    loader = {"workers": 1, "stateful": True}
    ((_, state),) = results(server, tmp_path, {"dataset": BLOCKED, "loader": loader, "steps": [["read", 2], ["state"]]})
    server.put("train/00003a.bin", b"new")

    ((_, refused),) = results(
        server, tmp_path, {"dataset": BLOCKED, "loader": loader, "steps": [["load", state], ["read"]]}
    )

    assert "ValueError" in refused["error"][1]
    assert "BlobListing.save" in refused["error"][2]


def test_state_of_other_workers_is_refused_with_advice(server: BlobServer, tmp_path: Path) -> None:
    """What a worker knows of itself says nothing about the others; `resume` is for that."""
    ((_, state),) = results(
        server,
        tmp_path,
        {"dataset": BLOCKED, "loader": {"workers": 2, "stateful": True}, "steps": [["read", 2], ["state"]]},
    )
    worker = next(iter(pickle.loads(base64.b64decode(state))["_snapshot"]["_worker_snapshots"].values()))
    inside = worker["dataset_state"]
    assert inside is not None

    ((refused,),) = results(server, tmp_path, {"dataset": BLOCKED, "steps": [["load_dataset_state", inside]]})

    assert refused["error"][0] == "ValueError"
    assert "resume(epoch=..., batches=...)" in refused["error"][2]


def test_state_is_refused_where_workers_read(server: BlobServer, tmp_path: Path) -> None:
    """The main process cannot know how far its workers are; a wrong position is worse than none."""
    steps = [["read", 2], ["dataset_state"]]
    ((_, refused),) = results(server, tmp_path, {"dataset": BLOCKED, "loader": {"workers": 2}, "steps": steps})
    assert refused["error"][0] == "RuntimeError"
    assert "StatefulDataLoader" in refused["error"][2]


@pytest.mark.parametrize("stop", [0, 1, 7, 22, 23])
def test_dataset_alone_goes_on(stop: int, server: BlobServer, tmp_path: Path) -> None:
    """Without any loader; what was fetched ahead and not handed out is fetched again."""
    ((whole, after),) = results(server, tmp_path, {"dataset": BLOCKED, "steps": [["read"], ["read"]]})

    ((begun, state),) = results(server, tmp_path, {"dataset": BLOCKED, "steps": [["read", stop], ["dataset_state"]]})
    ((_, rest, next_epoch),) = results(
        server, tmp_path, {"dataset": BLOCKED, "steps": [["load_dataset_state", state], ["read"], ["read"]]}
    )

    assert begun + rest == whole
    assert next_epoch == after
