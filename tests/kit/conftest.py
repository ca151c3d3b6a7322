from __future__ import annotations

import pytest
from kit.linked import ADDRESSES


@pytest.fixture(params=ADDRESSES)
def addresses(request: pytest.FixtureRequest) -> tuple[str, str | None]:
    """Of a server, and of the link to it."""
    return ADDRESSES[request.param]
