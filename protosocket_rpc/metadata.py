"""Metadata: the ordered multi-map that travels beside the messages of an RPC."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, Final

Pairs = list[tuple[str, bytes]]

MetadataValue = str | bytes
Metadatum = tuple[str, MetadataValue]
MetadataLike = Iterable[Metadatum]

_KEY: Final = re.compile(r"[0-9a-z_.\-]+")
_NOT_PRINTABLE: Final = re.compile(r"[^\x20-\x7e]")


class Metadata(Collection[Metadatum]):
    """An ordered multi-map of keys and values, as ``grpc.aio.Metadata``.

    Values are text, or bytes under keys that end in ``-bin``. Iterating gives ``(key, value)``
    pairs in their order.
    """

    __slots__ = ("_pairs",)

    def __init__(self, *args: Metadatum) -> None:
        self._pairs: list[Metadatum] = []
        for key, value in args:
            self.add(key, value)

    @classmethod
    def from_tuple(cls, raw_metadata: Iterable[Metadatum] | None) -> Metadata:
        """The metadata of some pairs; empty for None."""
        return cls(*raw_metadata) if raw_metadata else cls()

    def add(self, key: str, value: MetadataValue) -> None:
        """Append a value, after those that the key has already."""
        self._pairs.append((key, value))

    def get_all(self, key: str) -> list[MetadataValue]:
        """All values of a key, in their order; empty if there are none."""
        return [value for name, value in self._pairs if name == key]

    def set_all(self, key: str, values: Iterable[MetadataValue]) -> None:
        """Replace all values of a key."""
        self._pairs = [pair for pair in self._pairs if pair[0] != key]
        self._pairs.extend((key, value) for value in values)

    def delete_all(self, key: str) -> None:
        """Remove all values of a key. Raises KeyError if there are none."""
        if key not in self.keys():
            raise KeyError(key)
        self._pairs = [pair for pair in self._pairs if pair[0] != key]

    def get(self, key: str, default: Any = None) -> Any:
        """The first value of a key, or the default."""
        for name, value in self._pairs:
            if name == key:
                return value
        return default

    def keys(self) -> list[str]:
        """The keys, each once, in their order."""
        return list(dict.fromkeys(name for name, _ in self._pairs))

    def values(self) -> list[MetadataValue]:
        """The values, in their order."""
        return [value for _, value in self._pairs]

    def items(self) -> list[Metadatum]:
        """The pairs, in their order."""
        return list(self._pairs)

    def __getitem__(self, key: str) -> MetadataValue:
        for name, value in self._pairs:
            if name == key:
                return value
        raise KeyError(key)

    def __setitem__(self, key: str, value: MetadataValue) -> None:
        for index, (name, _) in enumerate(self._pairs):
            if name == key:
                self._pairs[index] = (key, value)
                return
        self._pairs.append((key, value))

    def __delitem__(self, key: str) -> None:
        for index, (name, _) in enumerate(self._pairs):
            if name == key:
                del self._pairs[index]
                return
        raise KeyError(key)

    def __contains__(self, key: object) -> bool:
        return any(name == key for name, _ in self._pairs)

    def __iter__(self) -> Iterator[Metadatum]:
        return iter(self._pairs)

    def __len__(self) -> int:
        return len(self._pairs)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Metadata):
            return self._pairs == other._pairs
        if isinstance(other, tuple):
            return tuple(self._pairs) == other
        return NotImplemented

    __hash__ = None  # type: ignore[assignment]  # mutable

    def __add__(self, other: Iterable[Metadatum]) -> Metadata:
        return Metadata(*self._pairs, *other)

    def __repr__(self) -> str:
        return f"Metadata({', '.join(map(repr, self._pairs))})"


def metadata_to_wire(metadata: MetadataLike) -> Pairs:
    """Check metadata and turn it into what a frame holds.

    Keys are lower case letters, digits, ``_``, ``-`` and ``.`` (gRPC's rule). Values under a
    ``-bin`` key are bytes; others are printable ASCII, as text or as bytes.

    Raises:
        TypeError: it is not made of pairs, or a key or a value has the wrong type.
        ValueError: a key or a value has a character that is not allowed.
    """
    if isinstance(metadata, (str, bytes, Mapping)):
        raise TypeError(f"metadata must be (key, value) pairs, not {type(metadata).__name__}")
    pairs: Pairs = []
    for pair in metadata:
        try:
            key, value = pair
        except (TypeError, ValueError):
            raise TypeError(f"metadata must be (key, value) pairs, not {pair!r}") from None
        if not isinstance(key, str):
            raise TypeError(f"a metadata key must be str, not {type(key).__name__}")
        if not _KEY.fullmatch(key):
            raise ValueError(
                f"metadata key {key!r}: only lower case letters, digits, '_', '-' and '.' are "
                "allowed"
            )
        if isinstance(value, str):
            if key.endswith("-bin"):
                raise TypeError(f"metadata {key!r}: the value of a -bin key must be bytes")
            if _NOT_PRINTABLE.search(value):
                raise ValueError(
                    f"metadata {key!r}: the value is not printable ASCII; "
                    "use a key that ends in '-bin' for other bytes"
                )
            pairs.append((key, value.encode("ascii")))
        elif isinstance(value, bytes):
            if not key.endswith("-bin") and _NOT_PRINTABLE.search(value.decode("latin-1")):
                raise ValueError(
                    f"metadata {key!r}: the value is not printable ASCII; "
                    "use a key that ends in '-bin' for other bytes"
                )
            pairs.append((key, value))
        else:
            raise TypeError(
                f"metadata {key!r}: a value must be str or bytes, not {type(value).__name__}"
            )
    return pairs


def metadata_from_wire(pairs: Pairs | None) -> Metadata:
    """What a frame holds, as users see it: text, and bytes under ``-bin`` keys."""
    metadata = Metadata()
    for key, value in pairs or ():
        metadata.add(key, value if key.endswith("-bin") else value.decode("utf-8", "replace"))
    return metadata


def metadata_size(pairs: Pairs) -> int:
    """Bytes of keys and values, which is what the limit on metadata counts."""
    return sum([len(key) + len(value) for key, value in pairs])
