"""The trackers that an option `tracking` names, and the beginning of a record at each."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from asecalc_ml.tracking.background import BackgroundTracker
from asecalc_ml.tracking.options import RunFacts
from asecalc_ml.tracking.spec import FORMER, chosen_trackers, grouped
from asecalc_ml.tracking.tracker import SeveralTrackers, Tracker


class Trackers:
    """Trackers by name, each with its options.

    Parameters
    ----------
    spec : mapping or None
        Of an option `tracking`; None for no tracker.

    Raises
    ------
    AsecalcError
        As :func:`asecalc_ml.tracking.spec.chosen_trackers`.

    Examples
    --------
    >>> with Trackers(None).start(Path("runs/a"), config={"seed": 1}) as tracker:
    ...     tracker.row("training", {"loss": 0.1}, step=1)
    """

    def __init__(self, spec: Mapping[str, Mapping[str, Any] | None] | None):
        self._spec = dict(spec or {})
        self._options = chosen_trackers(self._spec)

    def start(
        self,
        directory: Path,
        *,
        name: str | None = None,
        group: str | None = None,
        began: str = "",
        config: Mapping[str, Any] | None = None,
    ) -> Tracker:
        """Begin the record of a run; to be closed, or used in a ``with`` statement.

        Neither this call nor those of the record raise an error of a tracker or wait for one.

        Parameters
        ----------
        directory : Path
            Of the run, to which trackers write their files.
        name : str, optional
            Default: the name of the directory.
        group : str, optional
            Of a campaign or a search, unless the options name another.
        began : str
            Tells the run from others of its name; the same when it is resumed or analysed.
        config : mapping, optional
            Options of the run, as plain values.
        """
        chosen = self._options if group is None else chosen_trackers(grouped(self._spec, group) or {})
        run = RunFacts(directory, name or directory.absolute().name, began, dict(config or {}))
        return SeveralTrackers([BackgroundTracker(options, run) for options in chosen])


def tracking(
    options: BaseModel | Mapping[str, Any] | None, directory: Path, began: str, config: Mapping[str, Any]
) -> Tracker:
    """Begin the record of a run at Weights & Biases, as in version 0.1.0; see :class:`Trackers`.

    Parameters
    ----------
    options : WandbOptions, mapping or None
    directory, began, config
        As of :meth:`Trackers.start`.
    """
    given = options.model_dump() if isinstance(options, BaseModel) else options
    spec = None if given is None else {FORMER: given}
    return Trackers(spec).start(directory, began=began, config=config)
