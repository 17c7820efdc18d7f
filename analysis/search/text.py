"""Names of parameters and categories on several lines, or shortened, where there is little room."""

from __future__ import annotations

import re

NAME_WIDTH = 24


def wrapped(name: str, width: int = NAME_WIDTH, n_lines: int = 4) -> str:
    r"""A name on several lines, broken after a dot, or else an underscore or hyphen.

    What does not fit ends in "…".

    Examples
    --------
    >>> wrapped("optimizer.learning_rate", 14)
    'optimizer.\nlearning_rate'
    >>> wrapped("equivariant-transformer", 12, n_lines=1)
    'equivariant…'
    """
    pieces = []
    for section in re.findall(r"[^.]*[.]?", name):
        pieces += [section] if len(section) <= width else re.findall(r"[^_\s-]*[_\s-]?", section)
    lines = [""]
    for piece in (part for long in pieces for part in _cut(long, width)):
        if len(lines[-1]) + len(piece) > width:
            lines.append("")
        lines[-1] += piece
    kept = lines[:n_lines]
    if len(lines) > n_lines:
        kept[-1] = f"{kept[-1].rstrip('._- ')[: width - 1]}…"
    return literal("\n".join(line.strip() for line in kept))


def literal(text: str) -> str:
    """Text for a figure in which a dollar is no mathematics."""
    return text.replace("$", r"\$")


def _cut(text: str, width: int) -> list[str]:
    return [text[start : start + width] for start in range(0, len(text), width)]
