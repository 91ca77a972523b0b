"""Run cases: start the servers, make what is read, let the rivals take turns, count what the server saw."""

from __future__ import annotations

import json
import os
import subprocess
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

import trustme

from tests.benchmarks.kinds import NEAR, Case, ContainerName, Network, Sizes
from tests.benchmarks.measure import Figures, Parameters, sample_blob
from tests.benchmarks.rivals import OLD_VERSION, Rival
from tests.benchmarks.runs import Run
from tests.blobserver import ServerProcess

__all__ = ["Runner", "WrongContentError"]

PIECE = Path(__file__).with_name("piece.py")
WARNINGS = ("-W", "ignore:Failed to initialize NumPy:UserWarning")
"""torch's own, where NumPy is not installed. Anything else on stderr fails the run."""

WRITTEN = ("upload", "saved")
"""Blobs that a case writes; the others are made before it."""

LISTED = "train/images/"
"""What the names of blobs that are only listed start with: names have some 30 characters."""

SECONDS = 900
"""Longest time for one run; the slowest known needs 25 s."""


class WrongContentError(Exception):
    """Two runs of one case read different content: no figure of them means anything."""


class Runner:
    """Runs cases against servers that it starts when they are first needed; use it with ``with``.

    :param rivals: who takes turns, in this order. The last one is this library: it also makes the state dict that is
        loaded, runs the floors, and what 0.2.0 has not.
    :param folder: an empty one, for certificates.
    :param note: told what runs now.
    """

    def __init__(self, rivals: Sequence[Rival], sizes: Sizes, folder: Path, note: Callable[[str], None]) -> None:
        self._rivals = rivals
        self._sizes = sizes
        self._folder = folder
        self._note = note
        self._stack = ExitStack()
        self._servers: dict[tuple[str, ContainerName | None], ServerProcess] = {}
        self._written = 0
        self._made: set[tuple[str, str | None, str | None]] = set()
        self._ca_file = folder / "ca.pem"
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(self._ca_file))
        certificate = authority.issue_cert("127.0.0.1")
        certificate.cert_chain_pems[0].write_to_path(str(folder / "cert.pem"))
        certificate.private_key_pem.write_to_path(str(folder / "key.pem"))

    def __enter__(self) -> Runner:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()

    def run(self, cases: Iterable[Case], repeat: int) -> list[Run]:
        """Run every case ``repeat`` times, in turns: 0.2.0, ours, floor, and again.

        :raises WrongContentError: if two of them read different content.
        :raises RuntimeError: if a piece failed.
        """
        return [run for case in cases for run in self._turns(case, repeat)]

    def _turns(self, case: Case, repeat: int) -> list[Run]:
        self._prepare(case)
        runs = []
        for turn in range(repeat):
            for rival in self._rivals[-1:] if case.alone else self._rivals:
                runs.append(self._one(case, case.piece, rival, rival.name))
                self._note(f"{case.name} {turn + 1}/{repeat} {rival.name}: {runs[-1].wall:.2f} s")
            if case.floor is not None:
                runs.append(self._one(case, case.floor, self._rivals[-1], "floor"))
        # A floor may have nothing to read.
        checks = {run.check for run in runs if run.rival != "floor" or run.check is not None}
        if len(checks) > 1:
            raise WrongContentError(f"{case.name}: the runs read different content: {[asdict(run) for run in runs]}")
        return runs

    def _one(self, case: Case, piece: str, rival: Rival, name: str) -> Run:
        server = self._server(case)
        discard = case.blob in WRITTEN
        _configure(server, case.network, discard_uploads=discard)
        server.clear()
        load, before = os.getloadavg()[0], _cpu_seconds(server.pid)
        figures = self._figures(case, piece, rival)
        server_cpu = _cpu_seconds(server.pid) - before
        log = server.log()
        records: list[dict[str, Any]] = log["requests"]
        refused = [record["status"] for record in records if record["status"] >= 400]
        if refused or log["malformed"] or log["errors"]:
            raise RuntimeError(f"{case.name}, {name}: {refused} {log['malformed']} {log['errors']}")
        return Run(
            case=case.name,
            rival=name,
            wall=figures.wall,
            cpu=figures.cpu,
            peak=figures.peak,
            kept=figures.kept,
            check=figures.check,
            pickled=figures.pickled,
            methods=dict(Counter(record["method"] for record in records)),
            listings=sum(record["query"].get("comp") == "list" for record in records),
            bytes_down=sum(record["bytes_sent"] for record in records),
            bytes_up=sum(record["bytes_received"] for record in records),
            connections=len({record["connection"] for record in records}),
            peak_requests=log["peak_requests"],
            server_cpu=server_cpu,
            load=load,
            versions=figures.versions,
        )

    def _figures(self, case: Case, piece: str, rival: Rival) -> Figures:
        parameters = self._parameters(case)
        ended = subprocess.run(
            # -P: the folder of the script is not importable, so nothing in it can hide a module of the library.
            [rival.python, "-P", *WARNINGS, str(PIECE), piece, json.dumps(asdict(parameters))],
            env=rival.environment(self._ca_file),
            cwd=self._folder,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        if ended.returncode or ended.stderr:
            raise RuntimeError(f"{case.name}, {rival.name} ended with {ended.returncode}:\n{ended.stderr}")
        figures = Figures(**json.loads(ended.stdout))
        found = figures.versions.get("azstoragetorch", "")
        if found and rival.name == OLD_VERSION != found:
            raise RuntimeError(f"{rival.python} imported azstoragetorch {found}, {OLD_VERSION} is needed")
        return figures

    def _parameters(self, case: Case) -> Parameters:
        server = self._server(case)
        if case.container is not None:
            samples = self._sizes.containers[case.container]
            url, size, count = server.container_url, samples.size or 0, samples.count
        else:
            assert case.blob is not None
            name: str = case.blob
            if name in WRITTEN:
                # Blocks that a floor leaves uncommitted must not meet those of the next writer.
                self._written += 1
                name = f"{name}-{self._written}"
            url, size, count = server.url(name), self._sizes.of(case.blob), 0
        return Parameters(
            url,
            size,
            tensors=self._sizes.tensors,
            reads=case.reads,
            count=count,
            burn=case.burn,
            workers=case.workers,
            spinning=case.spinning,
            prefetch=case.prefetch,
            options=dict(case.options),
            without=case.without,
        )

    def _prepare(self, case: Case) -> None:
        """Make what the case reads, once."""
        server = self._server(case)
        key = (case.scheme, case.blob, case.container)
        if key in self._made or case.blob in WRITTEN:
            return
        self._made.add(key)
        if case.container is not None:
            samples = self._sizes.containers[case.container]
            if samples.size is None:
                server.put_listing(samples.count, LISTED)
            else:
                server.put_synthetic(*(sample_blob(number, samples.size) for number in range(samples.count)))
        elif case.blob == "state":
            _configure(server, NEAR, discard_uploads=False)
            self._figures(case, "save", self._rivals[-1])
        elif case.blob is not None:
            server.put_synthetic((case.blob, self._sizes.of(case.blob)))

    def _server(self, case: Case) -> ServerProcess:
        """Return the server of the case; each container has one of its own, because a dataset reads all of it."""
        key = (case.scheme, case.container)
        if key not in self._servers:
            tls = ["--tls", str(self._folder / "cert.pem"), str(self._folder / "key.pem")]
            options = ["--container", case.container] if case.container is not None else []
            server = ServerProcess(*options, *(tls if case.scheme == "https" else []))
            self._servers[key] = self._stack.enter_context(server)
        return self._servers[key]


def _configure(server: ServerProcess, network: Network, *, discard_uploads: bool) -> None:
    server.configure(latency=network.latency, bandwidth=network.bandwidth, discard_uploads=discard_uploads)


def _cpu_seconds(pid: int) -> float:
    """Return the processor time of a process so far, 0 where the system does not tell."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
