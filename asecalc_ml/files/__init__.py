"""Files that are written whole or not at all, and read with errors that name the place."""

from typing import TYPE_CHECKING

from asecalc_ml._lazy import lazily

if TYPE_CHECKING:
    from asecalc_ml.files.writing import (
        GrowingText,
        cut_back,
        cut_to_whole_lines,
        is_unfinished,
        mark,
        needing_a_home,
        obstacle,
        write_at,
        write_whole,
    )

__all__ = [
    "GrowingText",
    "cut_back",
    "cut_to_whole_lines",
    "is_unfinished",
    "mark",
    "needing_a_home",
    "obstacle",
    "write_at",
    "write_whole",
]

__getattr__ = lazily(__name__, dict.fromkeys(__all__, "asecalc_ml.files.writing"))
