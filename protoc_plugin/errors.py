"""The one exception that the user, not this package, has to act on."""

from __future__ import annotations


class GenerationError(Exception):
    """The request cannot be carried out; the text is one line that says what to change."""
