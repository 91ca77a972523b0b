"""Run the server as a process: prints the URL of its container as the first line, ends on SIGTERM or SIGINT."""

from __future__ import annotations

import argparse
import signal
import ssl
import sys

from tests.blobserver.server import BlobServer


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.blobserver", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds before every answer")
    parser.add_argument("--connect-latency", type=float, default=0.0, help="seconds before a connection is served")
    parser.add_argument("--bandwidth", type=float, default=None, help="bytes per second of one connection, each way")
    parser.add_argument("--keep-alive", type=float, default=None, help="close idle connections after so many seconds")
    parser.add_argument("--tls", nargs=2, metavar=("CERT", "KEY"), help="serve https with these PEM files")
    parser.add_argument("--container", default="data")
    parser.add_argument("--keep-versions", action="store_true", help="keep replaced content readable by versionid")
    parser.add_argument("--discard-uploads", action="store_true", help="keep only the sizes of what is uploaded")
    parser.add_argument("--discarded-crc", action="store_true", help="and its CRC-32")
    parser.add_argument("--synthetic", nargs=2, metavar=("NAME", "SIZE"), action="append", default=[])
    parser.add_argument("--listing", type=int, default=None, metavar="COUNT", help="list blobs that cannot be read")
    parser.add_argument("--until-stdin-ends", action="store_true", help="end with the process that started this one")
    options = parser.parse_args()
    context = None
    if options.tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*options.tls)
    # Blocked before any thread starts, so that sigwait in this one is the only place where they arrive.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    with BlobServer(
        port=options.port,
        latency=options.latency,
        connect_latency=options.connect_latency,
        bandwidth=options.bandwidth,
        keep_alive=options.keep_alive,
        tls=context,
        container=options.container,
        keep_versions=options.keep_versions,
        discard_uploads=options.discard_uploads,
        discarded_crc=options.discarded_crc,
    ) as server:
        for name, size in options.synthetic:
            server.put_synthetic(name, int(size))
        if options.listing is not None:
            server.put_listing(options.listing)
        print(server.container_url, flush=True)
        if options.until_stdin_ends:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
            sys.stdin.read()
        else:
            signal.sigwait({signal.SIGTERM, signal.SIGINT})


main()
