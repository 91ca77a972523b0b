"""The order of one epoch: the listing's own, or one permutation that every rank and worker computes for itself."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Sequence

import torch

__all__ = ["Order"]


class Order:
    """Which blob comes at which position of an epoch: a pure function of seed, epoch and count.

    :param count: blobs. :param seed: any integer, or ``None`` for the order of the listing.
    """

    def __init__(self, count: int, seed: int | None, epoch: int) -> None:
        self._permutation: torch.Tensor | None = None
        if seed is not None:
            # Hashed, and not added: epoch 1 of seed 0 must not be epoch 0 of seed 1.
            mixed = hashlib.blake2b(f"{seed}:{epoch}".encode(), digest_size=8).digest()
            generator = torch.Generator().manual_seed(int.from_bytes(mixed, "big") >> 1)
            self._permutation = torch.randperm(count, generator=generator, dtype=torch.int64)

    def __getitem__(self, position: int) -> int:
        permutation = self._permutation
        return position if permutation is None else int(permutation[position])

    @property
    def digest(self) -> int:
        """A number that differs, most likely, where another release of torch permutes differently."""
        if self._permutation is None:
            return 0
        head: Sequence[int] = self._permutation[:64].tolist()
        return zlib.crc32(repr(head).encode())
