"""Delete what the other examples left in a container.

    export AZSTORAGETORCH_CONTAINER_URL=https://<account>.blob.core.windows.net/<container>
    python examples/clean_up.py

This library reads and writes blobs; what else there is to do with them the Azure SDK does, with the same URL.
"""

from __future__ import annotations

import os

from azure.identity import DefaultAzureCredential
from azure.storage.blob import ContainerClient

CONTAINER_URL = os.environ["AZSTORAGETORCH_CONTAINER_URL"]  # with a SAS or without


def main() -> None:
    credential = None if "?" in CONTAINER_URL else DefaultAzureCredential()
    with ContainerClient.from_container_url(CONTAINER_URL, credential=credential) as container:
        for prefix in ("azstoragetorch-examples/", "azstoragetorch-quickstart/"):
            names = list(container.list_blob_names(name_starts_with=prefix))
            for name in names:
                container.delete_blob(name)
            print(f"deleted {len(names)} blobs under {prefix}")


if __name__ == "__main__":
    main()
