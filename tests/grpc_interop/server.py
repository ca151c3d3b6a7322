"""The interop server: ``python -m tests.grpc_interop.server --port=10000``.

Its flags are those of gRPC's interop test description, and a few more. It says where it listens,
and serves until SIGTERM or Ctrl-C.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
from collections.abc import Sequence
from pathlib import Path

from tests.grpc_interop import flags
from tests.grpc_interop.library import load
from tests.grpc_interop.serving import Identity, serving


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = flags.parser(__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--address", help="to listen at, in place of the port")
    parser.add_argument("--tls_cert_file", type=Path, metavar="PEM")
    parser.add_argument("--tls_key_file", type=Path, metavar="PEM")
    words = parser.parse_args(arguments)
    if words.use_tls and not (words.tls_cert_file and words.tls_key_file):
        parser.error("--use_tls needs --tls_cert_file and --tls_key_file")
    return words


async def main(words: argparse.Namespace) -> None:
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    identity = Identity(words.tls_cert_file, words.tls_key_file) if words.use_tls else None
    address = words.address or f"127.0.0.1:{words.port}"
    async with serving(load(words.library), address, identity) as target:
        print(f"listening on {target}", flush=True)
        await stopping.wait()


if __name__ == "__main__":
    given = parse()
    flags.find_stubs(given.stubs)
    asyncio.run(main(given))
