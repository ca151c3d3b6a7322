"""A log-linear histogram of nanoseconds, the one way in which every peer reports its samples.

64 buckets per power of two, so that a value is known to within 0.8 %. The bucket of a value is
two shifts in any language, which lets the C, C++, Go and Rust clients write the same thing.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping

PRECISION_BITS = 6
_PER_OCTAVE = 1 << PRECISION_BITS


def bucket_of(value: int) -> int:
    """The index of the bucket that holds `value`, which must not be negative."""
    shift = max(0, value.bit_length() - PRECISION_BITS - 1)
    return (shift << PRECISION_BITS) + (value >> shift)


def bounds(bucket: int) -> tuple[int, int]:
    """The smallest value of a bucket, and the smallest value beyond it."""
    shift = max(0, (bucket >> PRECISION_BITS) - 1)
    low = (bucket - (shift << PRECISION_BITS)) << shift
    return low, low + (1 << shift)


class Histogram:
    """Counts of values by bucket; histograms of several rounds add up without loss."""

    def __init__(self, values: Iterable[int] = ()) -> None:
        self._counts: Counter[int] = Counter(map(bucket_of, values))

    @classmethod
    def from_json(cls, counts: Mapping[str, int]) -> Histogram:
        histogram = cls()
        histogram._counts.update({int(bucket): count for bucket, count in counts.items()})
        return histogram

    def to_json(self) -> dict[str, int]:
        return {str(bucket): self._counts[bucket] for bucket in sorted(self._counts)}

    def merge(self, other: Histogram) -> None:
        self._counts.update(other._counts)

    @property
    def total(self) -> int:
        return sum(self._counts.values())

    def percentile(self, percent: float) -> float:
        """The value that `percent` % of all values do not exceed: the middle of its bucket.

        Raises ValueError if the histogram is empty.
        """
        total = self.total
        if not total:
            raise ValueError("an empty histogram has no percentiles")
        rank = max(1, math.ceil(round(total * percent / 100, 6)))
        seen = 0
        for bucket in sorted(self._counts):
            seen += self._counts[bucket]
            if seen >= rank:
                break
        low, high = bounds(bucket)
        return (low + high - 1) / 2
