"""The Python samples of README.md, run one after the other in one container, with the credential of the machine."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.azurite.identity import IdentityEndpoint
from tests.azurite.launcher import Azurite

REPOSITORY = Path(__file__).parents[2]
PLACEHOLDER = "https://<account>.blob.core.windows.net/<container>"


def test_readme_samples_run(azurite_https: Azurite) -> None:
    """People copy them; only the container's URL is replaced here, as they would."""
    samples = re.findall(r"^```python\n(.*?)^```$", (REPOSITORY / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    url = azurite_https.container_url(azurite_https.create_container(), sas=False)
    outputs = []

    with IdentityEndpoint() as identity:
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), **identity.environment}
        environment["SSL_CERT_FILE"] = str(azurite_https.ca_file)
        for sample in samples:
            assert PLACEHOLDER in sample
            command = [sys.executable, "-W", "error", "-c", sample.replace(PLACEHOLDER, url)]
            result = subprocess.run(command, env=environment, capture_output=True, text=True)
            assert (result.returncode, result.stderr) == (0, "")
            outputs.append(result.stdout)

    save_and_load, wrapped, event_loop, errors = outputs
    assert save_and_load == wrapped == ""
    assert re.fullmatch(r"16 bytes of log, \d{6} bytes of model\nb'epoch 0\\n'\nb'epoch 1\\n'\n", event_loop)
    assert errors.startswith("starting from scratch: ")
    assert "no-such-checkpoint.pth" in errors
