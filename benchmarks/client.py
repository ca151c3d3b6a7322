"""The client process of a Python peer: `python -m benchmarks.client PEER_MODULE --address ...`."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Callable
from typing import Any

from benchmarks.memory import trim
from benchmarks.work import Endpoint, Work


def event(name: str) -> None:
    """Tells the runner that a measurement begins or ends."""
    print(json.dumps({"event": name}), flush=True)


def answer(perform: Callable[[Work], Any]) -> None:
    """Does every Work that standard input asks for with `perform`, which returns a Result."""
    for line in sys.stdin:
        try:
            result = perform(Work.parse(line)).to_json()
        except Exception as error:  # whatever a peer raises is its result
            result = {"error": f"{type(error).__name__}: {error}"[:500]}
        print(json.dumps(result), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("module")
    Endpoint.add_arguments(parser)
    options = parser.parse_args()
    peer = importlib.import_module(f"benchmarks.peers.{options.module}")
    trim()
    peer.drive(Endpoint.of(options))


if __name__ == "__main__":
    main()
