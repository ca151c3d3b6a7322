"""Metadata: the ordered multi-map that travels beside the messages of an RPC."""

from __future__ import annotations

import re
from collections.abc import (
    Collection,
    ItemsView,
    Iterable,
    Iterator,
    KeysView,
    Mapping,
    ValuesView,
)
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
    pairs: the keys in the order of their first values, the values of each in theirs.
    """

    __slots__ = ("_values",)

    def __init__(self, *args: Metadatum) -> None:
        self._values: dict[str, list[MetadataValue]] = {}
        for key, value in args:
            self.add(key, value)

    @classmethod
    def from_tuple(cls, raw_metadata: Iterable[Metadatum] | None) -> Metadata:
        """The metadata of some pairs; empty for None."""
        return cls(*raw_metadata) if raw_metadata else cls()

    def add(self, key: str, value: MetadataValue) -> None:
        """Append a value, after those that the key has already."""
        self._values.setdefault(key, []).append(value)

    def get_all(self, key: str) -> list[MetadataValue]:
        """All values of a key, in their order; empty if there are none."""
        return self._values.get(key, [])

    def set_all(self, key: str, values: list[MetadataValue]) -> None:
        """Replace all values of a key."""
        self._values[key] = values

    def delete_all(self, key: str) -> None:
        """Remove all values of a key. Raises KeyError if there are none."""
        del self._values[key]

    def get(self, key: str, default: Any = None) -> Any:
        """The first value of a key, or the default."""
        values = self._values.get(key)
        return values[0] if values else default

    def keys(self) -> KeysView[str]:
        """The keys, each once, in their order."""
        return self._values.keys()

    def values(self) -> ValuesView[list[MetadataValue]]:
        """The values of each key, as a list."""
        return self._values.values()

    def items(self) -> ItemsView[str, list[MetadataValue]]:
        """Each key with the list of its values."""
        return self._values.items()

    def __getitem__(self, key: str) -> MetadataValue:
        """The first value of a key."""
        values = self._values.get(key)
        if not values:
            raise KeyError(key)
        return values[0]

    def __setitem__(self, key: str, value: MetadataValue) -> None:
        """Replace the first value of a key."""
        self._values[key] = [value, *self.get_all(key)[1:]]

    def __delitem__(self, key: str) -> None:
        """Remove the first value of a key."""
        values = self._values.get(key)
        if not values:
            raise KeyError(key)
        del values[0]
        if not values:
            del self._values[key]

    def __contains__(self, key: object) -> bool:
        return key in self._values

    def __iter__(self) -> Iterator[Metadatum]:
        for key, values in self._values.items():
            for value in values:
                yield key, value

    def __len__(self) -> int:
        return sum([len(values) for values in self._values.values()])

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Metadata):
            return self._values == other._values
        if isinstance(other, tuple):
            return tuple(self) == other
        return NotImplemented

    __hash__ = None  # type: ignore[assignment]  # mutable

    def __add__(self, other: Iterable[Metadatum]) -> Metadata:
        return Metadata(*self, *other)

    def __repr__(self) -> str:
        return f"Metadata({', '.join(map(repr, self))})"


class _Lazy(Metadata):
    """Metadata that becomes a multi-map when it is first looked at."""

    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        if name != "_values":
            raise AttributeError(f"Metadata has no attribute {name!r}")
        # Last: several threads may look at the same time.
        self._values = values = self._load()._values
        return values

    def _load(self) -> Metadata:
        raise NotImplementedError


class _Received(_Lazy):
    """Metadata as a frame holds it."""

    __slots__ = ("_pairs",)

    _pairs: Pairs

    def _load(self) -> Metadata:
        text = Metadata()
        for key, value in self._pairs:
            text.add(key, value if key.endswith("-bin") else value.decode("utf-8", "replace"))
        return text


class _Given(_Lazy):
    """Metadata as a caller gave it; `given` is None once it has been looked at."""

    __slots__ = ("given",)

    given: tuple[Metadatum, ...] | None

    def __getattr__(self, name: str) -> Any:
        values = super().__getattr__(name)
        self.given = None
        return values

    def _load(self) -> Metadata:
        return Metadata(*self.given or ())


def given_metadata(metadata: MetadataLike | None) -> Metadata:
    """What a caller gave, or None, as metadata for interceptors to look at and to change."""
    if metadata is None:
        given: tuple[Metadatum, ...] = ()
    elif isinstance(metadata, (tuple, list)):
        given = tuple(metadata)
    else:
        return Metadata.from_tuple(metadata)
    made = _Given.__new__(_Given)
    made.given = given
    return made


def unseen_metadata(metadata: MetadataLike | None) -> MetadataLike | None:
    """What the caller gave, if this was made of it, and nobody has looked at it since.

    That is cheaper to send: it is known from one call to the next.
    """
    if type(metadata) is _Given:
        given = metadata.given
        if given is not None:
            return given or None
    return metadata


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
    if not pairs:
        return Metadata()
    metadata = _Received.__new__(_Received)
    metadata._pairs = pairs
    return metadata


def metadata_size(pairs: Pairs) -> int:
    """Bytes of keys and values, which is what the limit on metadata counts."""
    return sum([len(key) + len(value) for key, value in pairs])
