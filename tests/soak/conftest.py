"""Tests that take minutes, with the limits that users have: only the tox environment ``soak`` runs them."""

from __future__ import annotations

import os

collect_ignore_glob = [] if os.environ.get("AZSTORAGETORCH_SOAK") else ["test_*.py"]
