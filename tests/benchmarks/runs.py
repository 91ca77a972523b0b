"""What one run of a piece gave."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["Run"]


@dataclass(frozen=True, slots=True)
class Run:
    """The figures of the client process, and what the server saw of it.

    Times are seconds, sizes bytes; ``wall``, ``cpu``, ``peak``, ``kept``, ``check`` and ``pickled`` as in
    `measure.Figures`.

    :ivar rival: ``"0.2.0"``, ``"ours"`` or ``"floor"``.
    :ivar methods: requests by method. :ivar listings: those that asked for a page of a listing.
    :ivar bytes_down: bytes of bodies that the server sent. :ivar bytes_up: that it received.
    :ivar connections: connections that were opened. :ivar peak_requests: most requests at one time.
    :ivar server_cpu: processor time of the server, which shares the machine.
    :ivar load: load average of the machine just before.
    """

    case: str
    rival: str
    wall: float
    cpu: float
    peak: int
    check: int | None
    methods: dict[str, int]
    bytes_down: int
    bytes_up: int
    connections: int
    peak_requests: int
    server_cpu: float
    load: float
    kept: int = 0
    pickled: int = 0
    listings: int = 0
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def requests(self) -> int:
        return sum(self.methods.values())
