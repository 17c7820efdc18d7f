"""Logging of runs to experiment trackers, next to the files that are always written."""

from typing import TYPE_CHECKING

from asecalc_ml._lazy import lazily

if TYPE_CHECKING:
    from asecalc_ml.tracking.options import RunFacts, TrackerOptions
    from asecalc_ml.tracking.spec import TrackingSpec, grouped
    from asecalc_ml.tracking.tracker import Tracker
    from asecalc_ml.tracking.trackers import Trackers, tracking
    from asecalc_ml.tracking.weights_and_biases import WandbOptions, WandbTracker

__all__ = [
    "RunFacts",
    "Tracker",
    "TrackerOptions",
    "Trackers",
    "TrackingSpec",
    "WandbOptions",
    "WandbTracker",
    "grouped",
    "tracking",
]

_MODULES = {
    "options": ("RunFacts", "TrackerOptions"),
    "spec": ("TrackingSpec", "grouped"),
    "tracker": ("Tracker",),
    "trackers": ("Trackers", "tracking"),
    "weights_and_biases": ("WandbOptions", "WandbTracker"),
}
__getattr__ = lazily(
    __name__, {name: f"{__name__}.{module}" for module, names in _MODULES.items() for name in names}
)
