"""State tables as text: what arrives down the side, the state across the top."""

from __future__ import annotations


def cells(table: str) -> list[tuple[str, str, str]]:
    """The (row, column, content) of every cell."""
    header, *rows = [
        [cell.strip() for cell in line.split("|")] for line in table.strip().splitlines()
    ]
    assert all(len(row) == len(header) for row in rows)
    return [
        (row[0], state, content)
        for row in rows
        for state, content in zip(header[1:], row[1:], strict=True)
    ]
