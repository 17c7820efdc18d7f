"""Frames for an architecture that takes molecular graphs: those that have one."""

from __future__ import annotations

import csv
import io
import warnings
from collections.abc import Mapping

from asecalc_ml.errors import StructureError, TrainingError
from asecalc_ml.potentials.training.frames.lineage import PARTS
from asecalc_ml.potentials.training.frames.training_data import TrainingData, left_out_text
from asecalc_ml.potentials.training.options import TrainOptions
from asecalc_ml.potentials.training.progress import ShownFrames
from asecalc_ml.structure.molecular_graph.graph import constant_features


def with_molecular_graphs(options: TrainOptions, data: TrainingData, quiet: bool = True) -> TrainingData:
    """Leave out frames without a molecular graph, with a warning that counts them.

    The split is drawn before, so that it is the one of an architecture that sees geometry.

    Raises
    ------
    TrainingError
        If the training is on energies, or no frame of a part is left.
    """
    name = options.model["architecture"]
    if options.fits_energy:
        raise TrainingError(
            f"{name} takes a molecular graph, which changes abruptly when a bond forms or breaks, so that "
            "its energies would have no forces;",
            name="target",
            value="energy",
            remedy="name a target, such as `target: u0` or `target: alpha`, or use another architecture",
        )
    left_out: dict[str, str] = {}
    for part in PARTS:
        shown = ShownFrames(f"molecular graphs of {part} frames", getattr(data, part), quiet)
        error: StructureError | None = None
        for place, atoms in zip(data.places[part], shown, strict=True):
            try:
                constant_features(atoms)
            except StructureError as refused:
                error = refused if error is None else error
                left_out[place] = refused.problem.rstrip(";")
        if error is not None and all(place in left_out for place in data.places[part]):
            raise TrainingError(
                f"none of the {len(data.places[part])} frames of {part} has a molecular graph, which {name} "
                f"takes; {data.places[part][0]}: {error.problem}",
                name=part,
                remedy=error.remedy,
            )
    if not left_out:
        return data
    warnings.warn(left_out_text(left_out), stacklevel=3)
    return data.without(left_out)


def table_of(left_out: Mapping[str, str]) -> str:
    """Frames that are left out, as CSV."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([("structure", "reason"), *left_out.items()])
    return text.getvalue()
