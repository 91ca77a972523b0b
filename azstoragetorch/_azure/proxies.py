"""Which proxy a request takes, as the environment says.

Proxies are looked up once for an event loop; which hosts need none, for every account anew.

Over https a proxy is asked for a tunnel (CONNECT) and learns the name of the host and nothing else. Over plain http it
is handed the whole request, so nothing that proves who asks may be in it.
"""

from __future__ import annotations

import urllib.request
from urllib.parse import urlsplit

from azstoragetorch._values.url import BlobUrl, ContainerUrl

__all__ = ["Proxies"]


class Proxies:
    """``http_proxy``, ``https_proxy``, ``all_proxy`` and ``no_proxy``, or what the system has in their place."""

    def __init__(self) -> None:
        self._urls = urllib.request.getproxies()

    def of(self, url: BlobUrl | ContainerUrl, *, anonymous: bool) -> str | None:
        """Return the URL of the proxy for ``url``; ``None`` is a direct connection, as always to this machine.

        :param anonymous: whether requests will carry no proof of who asks.
        :raises ValueError: if the proxy would see that proof, or is no HTTP proxy.
        """
        if url.is_loopback or urllib.request.proxy_bypass(urlsplit(url.endpoint).hostname or ""):
            return None
        name = url.scheme if self._urls.get(url.scheme) else "all"
        proxy = _checked(f"{name}_proxy", self._urls.get(name))
        if proxy is not None and url.scheme == "http" and not anonymous:
            raise ValueError(
                f"{url}: a SAS is never sent through a proxy over plain http, where the proxy would see it; use https, "
                f"or name the host in the environment variable no_proxy"
            )
        return proxy


def _checked(variable: str, proxy: str | None) -> str | None:
    """Return the URL of a proxy; one without a scheme, which others accept, gets it.

    :raises ValueError: if it cannot be spoken to. Its value is never shown: it may hold a password, and where it is
        not written as a URL, nothing marks that.
    """
    if not proxy:
        return None
    url = proxy if "://" in proxy else f"http://{proxy}"
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        usable = None  # raised outside: the error quotes what it did not understand
    if usable:
        return url
    raise ValueError(
        f"the environment variable {variable} (or {variable.upper()}) does not hold the URL of an HTTP proxy: expected "
        f"http://<host>:<port>; SOCKS is not spoken"
    )
