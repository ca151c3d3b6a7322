"""The server process of a Python peer: `python -m benchmarks.server PEER_MODULE --address ...`."""

from __future__ import annotations

import argparse
import importlib

from benchmarks.memory import trim
from benchmarks.work import Endpoint


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("module")
    Endpoint.add_arguments(parser)
    options = parser.parse_args()
    peer = importlib.import_module(f"benchmarks.peers.{options.module}")
    trim()
    peer.serve(Endpoint.of(options))


if __name__ == "__main__":
    main()
