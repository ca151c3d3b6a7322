"""Tests of services and of their clients: in memory, with faults, on a clock of their own."""

from protosocket_rpc.testing.clock import VirtualClock
from protosocket_rpc.testing.faults import Direction, Link
from protosocket_rpc.testing.pair import LinkedPair, Pair, linked_pair, pair

__all__ = ["Direction", "Link", "LinkedPair", "Pair", "VirtualClock", "linked_pair", "pair"]
