"""A result as a file for chemiscope, https://chemiscope.org."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from asecalc_ml.errors import AnalysisError
from asecalc_ml.files.writing import check_output, write_whole
from asecalc_ml.units import name_with_unit

if TYPE_CHECKING:
    from asecalc_ml.analysis.relevance.output.results import MethodRelevance, RelevanceResult

SUFFIXES = (".json", ".json.gz")
CUTOFF_A = 3.5  # how far surroundings of a chosen atom are drawn
PALETTE = "bwr"  # blue, white, red, of those that chemiscope has


def check(path: str | Path) -> None:
    """Refuse, before anything is computed, what :func:`write` could not do.

    Raises
    ------
    ConfigError
        If the path does not end as chemiscope's files do, or cannot be written.
    AnalysisError
        If chemiscope is not installed.
    """
    check_output(Path(path), SUFFIXES, overwrite=True)
    _library()


def write(result: RelevanceResult, path: str | Path) -> Path:
    """Write structures and the relevance of their atoms by each method, whole or not at all.

    Parameters
    ----------
    result : RelevanceResult
    path : str or Path
        Ends in ``.json`` or ``.json.gz``.

    Returns
    -------
    Path

    Raises
    ------
    ConfigError, AnalysisError
        See :func:`check`.
    """
    check(path)
    text = json.dumps(content(result)).encode()
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, gzip.compress(text, mtime=0) if path.suffix == ".gz" else text)
    return path


def content(result: RelevanceResult) -> dict[str, Any]:
    """The file's content, made and checked by chemiscope."""
    library, frames = _library(), [one.to_atoms() for one in result.structures]
    first = result.methods[0]
    properties = {one.title: _property(one) for one in result.methods}
    properties["element"] = {
        "target": "atom",
        "values": [s for one in result.structures for s in one.symbols],
    }
    properties["atom"] = {"target": "atom", "values": [k for one in frames for k in range(len(one))]}
    properties[result.what] = {
        "target": "structure",
        "values": [one.value for one in result.structures],
        "units": result.target_unit,
    }
    return library.create_input(
        structures=frames,
        metadata={
            "name": f"Relevance for the {result.what}, {result.model}",
            "description": _description(result),
        },
        properties=properties,
        environments=library.all_atomic_environments(frames, cutoff=CUTOFF_A),
        settings=library.quick_settings(
            x="atom",
            y=first.title,
            map_color=first.title,
            symbol="element",
            target="atom",
            structure_settings=_structure_settings(result, first),
        ),
    )


def _property(method: MethodRelevance) -> dict[str, Any]:
    values = [value for frame in method.frames for value in frame.atoms]
    return {"target": "atom", "values": values, "units": method.unit}


def _structure_settings(result: RelevanceResult, method: MethodRelevance) -> dict[str, Any]:
    """Atoms coloured by a method, symmetrically about zero."""
    largest = max(abs(value) for frame in method.frames for value in frame.atoms) or 1.0
    color = {"property": method.title, "min": -largest, "max": largest, "palette": PALETTE}
    return {
        "color": color,
        "unitCell": any(any(structure.pbc) for structure in result.structures),
        "supercell": [1, 1, 1],
    }


def _description(result: RelevanceResult) -> str:
    methods = ", ".join(name_with_unit(method.title, method.unit) for method in result.methods)
    return f"Model {result.model} ({result.architecture}), hash {result.model_hash}. Methods: {methods}."


def _library() -> ModuleType:
    try:
        import chemiscope
    except ModuleNotFoundError as error:
        raise AnalysisError(
            "a file for chemiscope needs the package of that name",
            name="chemiscope",
            remedy="pip install 'asecalc-ml[explain]'",
        ) from error
    return chemiscope
