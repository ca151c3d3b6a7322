"""The filters that templates have beside Jinja's own: texts of a proto as parts of source code."""

from __future__ import annotations

# What source code may not hold, or would not show: controls, line ends of other kinds, and
# characters that reverse the direction of text.
_UNSEEN = {
    code: f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
    for code in (
        *range(0x09),
        *range(0x0B, 0x20),
        *range(0x7F, 0xA0),
        *range(0x2028, 0x202F),
        *range(0x2066, 0x206A),
        0xFEFF,
    )
}


def docstring(text: str, indent: int = 0) -> str:
    """A docstring literal, quotes included, for a line that is already indented."""
    if "\n" not in text:
        body = text.rstrip('"')
        quotes = '\\"' * (len(text) - len(body))
        return f'"""{_escaped(body)}{quotes}"""'
    margin = " " * indent
    first, *rest = [_escaped(line) for line in text.split("\n")]
    lines = "".join(f"\n{margin}{line}" if line else "\n" for line in rest)
    return f'"""{first}{lines}\n{margin}"""'


def comment(text: str) -> str:
    """Text that stands in a comment of one line."""
    return text.translate(_UNSEEN).replace("\n", " ")


def _escaped(line: str) -> str:
    return line.replace("\\", "\\\\").replace('"""', '\\"\\"\\"').translate(_UNSEEN)


def rustdoc(text: str, indent: int = 0) -> str:
    """A doc comment of Rust, for a line that is already indented."""
    lines = [f"/// {comment(line)}".rstrip() for line in text.split("\n")]
    return ("\n" + " " * indent).join(lines)


def fit(text: str, indent: int, around: int = 10, width: int = 100) -> str:
    """A type such as ``Call[A, B]``: on one line if that fits, else a line for each argument.

    Args:
        around: how much else stands on its line, such as "context: " and ",".
    """
    head, bracket, arguments = text.removesuffix("]").partition("[")
    if not bracket or indent + len(text) + around <= width:
        return text
    margin = " " * indent
    # No comma behind the only one: that would be a tuple.
    lines = arguments.replace(", ", f",\n{margin}    ") + "," * (", " in arguments)
    return f"{head}[\n{margin}    {lines}\n{margin}]"


FILTERS = (docstring, comment, rustdoc, fit)
