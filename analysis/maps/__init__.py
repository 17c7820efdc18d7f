"""Maps of representations: what a last layer or a fingerprint puts side by side, and how rough it is.

``draw_map`` projects structures, or their atoms, to a plane; docs/maps.md says how to read it. ``features``
gives the last layer itself.
"""

from typing import TYPE_CHECKING

from asecalc_ml._lazy import lazily
from asecalc_ml.analysis.maps.draw_map import draw_map
from asecalc_ml.analysis.maps.features import features
from asecalc_ml.analysis.maps.options import MapOptions

if TYPE_CHECKING:
    from asecalc_ml.analysis.maps.results import RepresentationMap

__all__ = ["MapOptions", "RepresentationMap", "draw_map", "features"]

__getattr__ = lazily(__name__, {"RepresentationMap": "asecalc_ml.analysis.maps.results"})
