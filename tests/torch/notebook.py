"""Execute examples/introduction.ipynb in a process of its own; as a command, renew the outputs it is committed with.

    python -m tests.azurite run -- python -m tests.torch.notebook

The cells keep what they print, and pictures, and nothing of the machine: no times of execution, no version of Python.
"""

from __future__ import annotations

__all__ = ["NOTEBOOK", "execute"]

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[2] / "examples" / "introduction.ipynb"


def execute(target: Path, container_url: str) -> None:
    """Write the notebook with fresh outputs to ``target``, which may be the notebook itself; no cell may fail."""
    repository = NOTEBOOK.parents[1]
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "AZSTORAGETORCH_CONTAINER_URL": container_url, "PYTHONPATH": str(repository)}
        # Settings and history of whoever runs this have no say, and get nothing.
        for variable in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"):
            environment[variable] = folder
        # A process of its own: what jupyter leaves open, and warns of, is not what the tests here are about.
        command = [sys.executable, "-m", "tests.torch.notebook", str(target)]
        result = subprocess.run(command, env=environment, cwd=repository, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def _execute_here(target: Path) -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=120, kernel_name="python3", record_timing=False, coalesce_streams=True).execute()
    notebook.metadata["language_info"] = {"name": "python"}
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            output.get("data", {}).pop("image/jpeg", None)  # Pillow gives the picture twice
    nbformat.write(notebook, target)


if __name__ == "__main__":
    if len(sys.argv) == 2:
        _execute_here(Path(sys.argv[1]))
    else:
        execute(NOTEBOOK, os.environ["AZSTORAGETORCH_CONTAINER_URL"])
