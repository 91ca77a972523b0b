"""Control of a server in another process, by requests to the same port whose path starts with ``/__``.

``GET /__log__``      what was seen: ``{"requests": [...], "connections": n, "peak_requests": n, ...}``
``POST /__reset__``   forget the log and all faults; the blobs stay
``POST /__config__``  set any of ``latency connect_latency bandwidth keep_alive discard_uploads discarded_crc
                      start_from``
``POST /__put__``     make synthetic blobs: ``{"blobs": [{"name": ..., "size": ..., "seed": 0}, ...]}``
``POST /__listing__`` list blobs that cannot be read: ``{"count": 1000000, "prefix": ""}``
``POST /__fault__``   answer with an error: ``{"status": 503, "code": "ServerBusy", "headers": {}, "method": null,
                      "comp": null, "blob": null, "times": 1, "nth": 1}``
``POST /__admit__``   from now on refuse what is more than ``{"rate": 200, "burst": 50}``: see `Admit`

These requests are neither logged nor slowed down, and need no headers of the service.
"""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

from tests.blobserver.actions import Status
from tests.blobserver.admit import Admit
from tests.blobserver.faults import on
from tests.blobserver.wire import Request, Response, ServiceError, body_response, error_response

if TYPE_CHECKING:
    from tests.blobserver.server import BlobServer

SETTINGS = ("latency", "connect_latency", "bandwidth", "keep_alive", "discard_uploads", "discarded_crc", "start_from")


def control_response(server: BlobServer, request: Request) -> Response:
    """Perform a control request."""
    try:
        result = _perform(server, request)
    except (ValueError, TypeError, KeyError) as error:
        return error_response(ServiceError(400, "InvalidInput", f"{type(error).__name__}: {error}"), "")
    except ServiceError as error:
        return error_response(error, "")
    return body_response(200, json.dumps(result).encode(), "application/json")


def _perform(server: BlobServer, request: Request) -> dict[str, Any]:
    body = b"".join(request.body.slices(0, request.body.size))
    values: dict[str, Any] = json.loads(body) if body else {}
    match request.method, request.path:
        case "GET", "/__log__":
            return _log(server)
        case "POST", "/__reset__":
            server.clear()
        case "POST", "/__config__":
            unknown = set(values) - set(SETTINGS)
            if unknown:
                raise ValueError(f"unknown settings: {sorted(unknown)}")
            for name, value in values.items():
                setattr(server, name, value)
        case "POST", "/__put__":
            for blob in values["blobs"]:
                server.put_synthetic(blob["name"], blob["size"], blob.get("seed", 0))
        case "POST", "/__listing__":
            server.put_listing(values["count"], values.get("prefix", ""))
        case "POST", "/__fault__":
            match = on(values.get("method"), values.get("comp"), blob=values.get("blob"))
            action = Status(values["status"], values.get("code", ""), values.get("headers"))
            server.fault(match, action, times=values.get("times", 1), nth=values.get("nth", 1))
        case "POST", "/__admit__":
            server.fault(on(), Admit(values["rate"], values["burst"]), times=None)
        case _:
            raise ValueError(f"no control endpoint {request.method} {request.path}")
    return {}


def _log(server: BlobServer) -> dict[str, Any]:
    log = server.log
    return {
        "requests": [dataclasses.asdict(record) for record in log.records()],
        "connections": log.connections,
        "accepted": log.accepted,
        "peak_connections": log.peak_connections,
        "peak_requests": log.peak_requests,
        "malformed": list(server.malformed),
        "errors": [repr(error) for error in server.errors],
    }
