"""All that is done with a URL: reach it, write, measure."""

from __future__ import annotations

import argparse
import asyncio
from dataclasses import replace

from azstoragetorch._azure.credentials import Credential
from azstoragetorch._check.access import StepFailed, parse_url, reach, write
from azstoragetorch._check.screen import line
from azstoragetorch._check.speed import advice, measure
from azstoragetorch._values.options import TransferOptions
from azstoragetorch._values.url import BlobUrl, ContainerUrl
from azstoragetorch.exceptions import AZStorageTorchError

__all__ = ["visit"]


def visit(given: argparse.Namespace) -> int:
    """Do what the arguments ask for and return the exit status."""
    options = TransferOptions(deadline=given.timeout, connect_timeout=min(10, given.timeout))
    try:
        url = parse_url(given.url)
    except ValueError as error:
        line("URL", f"FAILED  {error}")
        return 1
    return asyncio.run(_visit(url, False if given.anonymous else None, options, given))


async def _visit(
    url: BlobUrl | ContainerUrl, credential: Credential, options: TransferOptions, given: argparse.Namespace
) -> int:
    # The time-out is for a step that gets no answer. A slow link may take longer for all the bytes of these two.
    patient = replace(options, deadline=max(options.deadline, TransferOptions().deadline))
    try:
        found = await reach(url, credential, options)
        if given.write:
            await write(url, credential, patient)
        if found.blobs and given.seconds:
            levels = await measure(found, credential, patient, given.seconds)
            for label, text in advice(found, levels, given.transform_ms / 1000):
                line(label, text)
    except StepFailed:
        return 1
    except AZStorageTorchError as error:
        line("speed", f"FAILED  {error}")
        return 1
    return 0
