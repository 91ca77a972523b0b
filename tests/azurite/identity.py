"""A token endpoint on loopback, the kind that a managed identity has in Azure.

`DefaultAzureCredential` finds it by its environment variables and gets tokens that Azurite accepts over https. So the
way that most users go, with no credential named anywhere, runs in tests from end to end.
https://learn.microsoft.com/azure/app-service/overview-managed-identity#rest-endpoint-reference
"""

from __future__ import annotations

__all__ = ["IdentityEndpoint", "storage_token"]

import base64
import json
import threading
import time
import uuid
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

_LIFETIME = 3600  # seconds


def storage_token(lifetime: float = _LIFETIME) -> str:
    """Return a bearer token for storage that is valid for ``lifetime`` seconds.

    Azurite checks issuer, audience and times of a token, and not its signature.
    """
    now = int(time.time())
    issuer = f"https://sts.windows.net/{uuid.uuid4()}/"
    claims = {"aud": "https://storage.azure.com", "iss": issuer, "iat": now, "nbf": now, "exp": now + int(lifetime)}
    parts = [json.dumps(part).encode() for part in ({"alg": "RS256", "typ": "JWT"}, claims)]
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in (*parts, b"unsigned"))


class IdentityEndpoint:
    """A running endpoint; a context manager that ends it.

    :param token: returns the token to hand out.
    :param header: what whoever asks must know.
    """

    def __init__(self, token: Callable[[], str] = storage_token, header: str = "tests") -> None:
        self._header = header
        self.token_count = 0
        """Tokens handed out so far."""
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                granted = self.headers.get("X-IDENTITY-HEADER") == header
                answer = {
                    "access_token": token(),
                    "expires_on": str(int(time.time()) + _LIFETIME),
                    "resource": "https://storage.azure.com",
                    "token_type": "Bearer",
                }
                body = json.dumps(answer if granted else {"error": "invalid_client"}).encode()
                outer.token_count += granted
                self.send_response(200 if granted else 401)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def environment(self) -> dict[str, str]:
        """The variables that make `DefaultAzureCredential` of another process come here, and nowhere else."""
        return {
            "AZURE_TOKEN_CREDENTIALS": "ManagedIdentityCredential",
            "IDENTITY_ENDPOINT": f"http://127.0.0.1:{self._server.server_port}/msi/token",
            "IDENTITY_HEADER": self._header,
            "NO_PROXY": "127.0.0.1",
        }

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
