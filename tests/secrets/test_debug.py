"""What an interpreter in development mode says: asyncio's debug log, warnings, hooks for errors that nobody took.

In that mode asyncio shows callbacks with their arguments and tasks with their results, and collected sockets and tasks
speak up. All of it goes to stderr, as do the uncaught error of a script and all loggers.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.blobserver import Action, BlobServer, Drop, Garbage, Status, on
from tests.bridge.script import ROOT
from tests.secrets.canaries import found_in

SCRIPT = '''
import asyncio, gc, logging, sys, threading, time
from azure.core.credentials import AccessToken
from azstoragetorch import TransferOptions
from azstoragetorch._data.access import Access
from azstoragetorch._data.loading import checked_loading
from azstoragetorch._data.source import UrlSource
from azstoragetorch.aio import AsyncBlobIO
from azstoragetorch.io import BlobIO
from azstoragetorch.listing import BlobListing
from tests.secrets.accesses import in_url, key, sas
from tests.secrets.canaries import TOKEN

logging.basicConfig(level=1, stream=sys.stderr)
for name in ("azure", "azure.core", "aiohttp", "asyncio", "azstoragetorch"):
    logging.getLogger(name).setLevel(1)

container = sys.argv[1]
options = TransferOptions(block_size=1000, deadline=1)


class Token:
    """Sets the loop that asks for a token to log every callback: the bridge's, too."""

    async def get_token(self, *scopes, **more):
        asyncio.get_running_loop().slow_callback_duration = 0
        return AccessToken(TOKEN, int(time.time()) + 3600)


def token(url):
    return url, Token()


def attempt(function, *arguments):
    try:
        function(*arguments)
    except Exception:
        logging.getLogger("application").exception("it failed")


def files(access):
    url, credential = access(f"{container}/a")
    with BlobIO(url, "wb", credential=credential, options=options) as file:
        file.write(bytes(3000))
    with BlobIO(url, "rb", credential=credential, options=options) as file:
        file.read()


def listing(access):
    url, credential = access(container)
    print(repr(BlobListing.build(url, credential=credential, options=options)))


def samples(access):
    url, credential = access(f"{container}/a")
    made = checked_loading(Access.of(credential, options), None, 4, "raise")
    print(list(made.samples(iter([UrlSource([url] * 3, made.access).blob(number) for number in range(3)]))))


async def loop(access):
    asyncio.get_running_loop().slow_callback_duration = 0
    url, credential = access(f"{container}/a")
    async with AsyncBlobIO(url, "wb", credential=credential, options=options) as file:
        await file.write(bytes(3000))
    async with AsyncBlobIO(url, "rb", credential=credential, options=options) as file:
        await file.read()
    await BlobListing.abuild(access(container)[0], credential=credential, options=options)


async def cancelled(access):
    asyncio.get_running_loop().slow_callback_duration = 0
    url, credential = access(f"{container}/a")
    file = AsyncBlobIO(url, "wb", credential=credential, options=options)
    task = asyncio.create_task(file.write(bytes(30_000)))
    for _ in range(20):
        await asyncio.sleep(0)
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        logging.getLogger("application").exception("cancelled")
    # Left as it is: a forgotten writer and a task whose error nobody takes.
    asyncio.create_task(AsyncBlobIO(access(f"{container}/missing")[0], "rb", credential=credential).read())
    await asyncio.sleep(0.2)
    gc.collect()


for access in (token, in_url, sas, key):
    for use in (files, listing, samples):
        attempt(use, access)
    attempt(lambda: asyncio.run(loop(access)))
    attempt(lambda: asyncio.run(cancelled(access)))

forgotten = BlobIO(in_url(f"{container}/forgotten")[0], "wb", options=options)
attempt(forgotten.write, bytes(3000))  # where blocks are refused, the first may be before the last is taken
thread = threading.Thread(target=BlobIO(f"{container}/missing", "rb", credential=Token()).read)
thread.start()
thread.join()


class Finalized:
    def __del__(self):
        BlobIO(in_url(f"{container}/missing")[0], "rb", options=options).read()


Finalized()
gc.collect()
print("uncaught follows")
BlobIO(in_url(f"{container}/missing")[0], "rb", options=options).read()
'''

FAULTS: dict[str, Action] = {
    "reset": Drop(),
    "403": Status(403, "AuthenticationFailed"),
    "garbage": Garbage(),
}


@pytest.mark.timeout(120)
@pytest.mark.parametrize("fault", ["none", *FAULTS])
def test_development_mode_shows_no_secret(server: BlobServer, tmp_path: Path, fault: str) -> None:
    """Whoever looks for a fault turns all of this on, and posts what comes out."""
    if fault == "403":
        server.fault(on(), FAULTS[fault], times=None)
    elif fault != "none":
        for nth in range(1, 60, 2):  # every other request: what follows an error is shown, too
            server.fault(on(), FAULTS[fault], nth=nth)
    path = tmp_path / "script.py"
    path.write_text(SCRIPT, encoding="utf-8")
    ended = subprocess.run(
        [sys.executable, "-X", "dev", str(path), server.container_url],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    said = [*ended.stdout.splitlines(), *ended.stderr.splitlines()]

    assert ended.returncode == 1, ended.stderr
    assert "uncaught follows" in ended.stdout, ended.stderr[-4000:]
    for expected in ("Executing <", "DEBUG:azstoragetorch", "Error", "Exception in thread", "Exception ignored in"):
        assert expected in ended.stderr
    assert not found_in(said)
    derived = {record.query["sig"] for record in server.requests() if "sig" in record.query}
    assert len(derived) > 1
    derived |= {quote(signature, safe="") for signature in derived}
    assert not [line for line in said if any(signature in line for signature in derived)]
