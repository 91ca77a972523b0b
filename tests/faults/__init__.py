"""The fault suite: what becomes of reads and writes when the network or the service misbehaves.

A *case* says what goes wrong and what must come of it; it is data (`case`). It is *played* on a *scene* (`play`,
`scene`): a blob behind the scripted server, or behind Azurite with a proxy before it that spoils answers by the same
rules. What all cases must keep to is checked there and nowhere else: the exact bytes or the exact error, the time, the
requests, nothing left behind, no secret said.

    python -m tests.faults            play all cases and write the tables of docs/faults.md
"""
