"""Files that are written whole or not at all, and read with errors that name the place."""

from typing import TYPE_CHECKING

from asecalc_ml._lazy import lazily

if TYPE_CHECKING:
    from asecalc_ml.files.home_folder import needing_a_home
    from asecalc_ml.files.writing import (
        GrowingText,
        cut_to_whole_lines,
        is_unfinished,
        obstacle,
        write_at,
        write_whole,
    )
    from asecalc_ml.runs.marks import cut_back, mark

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

_PLACES = dict.fromkeys(__all__, "asecalc_ml.files.writing") | {
    "cut_back": "asecalc_ml.runs.marks",
    "mark": "asecalc_ml.runs.marks",
    "needing_a_home": "asecalc_ml.files.home_folder",
}
__getattr__ = lazily(__name__, _PLACES)
