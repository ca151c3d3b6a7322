"""What generated ``_pb2_grpc.py`` files import from ``grpc._utilities``."""

from __future__ import annotations


def first_version_is_lower(version1: str, version2: str) -> bool:
    """Asked by generated files whether the runtime is too old for them. It never is."""
    return False
