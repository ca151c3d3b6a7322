"""The interop client: ``python -m tests.grpc_interop.client --server_port=10000 --test_case=NAME``.

Its flags are those of gRPC's interop test description, and a few more. For each case it prints its
name and what it has observed, as JSON, and the soak cases log every iteration. It exits with 1 if a
case fails.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from tests.grpc_interop import flags
from tests.grpc_interop.calling import Client, Soak
from tests.grpc_interop.cases import CASES, run
from tests.grpc_interop.library import load


def case_names(word: str) -> list[str]:
    names = list(CASES) if word == "all" else word.split(",")
    if unknown := set(names) - set(CASES):
        raise argparse.ArgumentTypeError(f"no such case: {', '.join(unknown)}")
    return names


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = flags.parser(__doc__)
    add = parser.add_argument
    add("--server_host", default="localhost")
    add("--server_port", type=int, metavar="PORT")
    add("--server_host_override", metavar="HOSTNAME", help="the name in the server's certificate")
    add("--server_target", metavar="TARGET", help="in place of host and port")
    add("--test_case", type=case_names, required=True, metavar="NAME[,NAME...]", help="or all")
    add("--use_test_ca", type=flags.boolean, default=False, metavar="BOOLEAN")
    add("--ca_file", type=Path, metavar="PEM", help="the test CA")
    for field in fields(Soak):
        kind = float if field.default is None else int
        add(f"--soak_{field.name}", type=kind, default=field.default, metavar="N")
    words = parser.parse_args(arguments)
    if words.server_port is None and words.server_target is None:
        parser.error("--server_port is needed")
    if words.use_test_ca and words.ca_file is None:
        parser.error("--use_test_ca needs --ca_file")
    return words


def client_for(words: argparse.Namespace) -> Client:
    library = load(words.library)
    credentials: Any = None
    options = []
    if words.use_tls:
        roots = words.ca_file.read_bytes() if words.use_test_ca else None
        credentials = library.grpc.ssl_channel_credentials(roots)
    if words.server_host_override:
        options.append(("grpc.ssl_target_name_override", words.server_host_override))
    return Client(
        library,
        words.server_target or f"{words.server_host}:{words.server_port}",
        credentials,
        tuple(options),
        Soak(*(getattr(words, f"soak_{field.name}") for field in fields(Soak))),
    )


async def main(words: argparse.Namespace) -> None:
    client = client_for(words)
    for name in words.test_case:
        print(f"{name}: {json.dumps(await run(name, client))}", flush=True)


if __name__ == "__main__":
    given = parse()
    flags.find_stubs(given.stubs)
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    asyncio.run(main(given))
