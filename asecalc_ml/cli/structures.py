"""Structures that a command names: a shipped one, a file, a data set, or a run."""

from __future__ import annotations

import glob
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from asecalc_ml import config, plugins
from asecalc_ml.cli.arguments import override, split_off
from asecalc_ml.errors import ConfigError, StructureError
from asecalc_ml.structure.files.lazy_frames import selected_numbers

if TYPE_CHECKING:
    from ase import Atoms

    from asecalc_ml.config.options import Options
    from asecalc_ml.potentials.datasets.options import DatasetOptions


def reader(path: str, further: Sequence[str] = ()) -> DatasetOptions:
    """Reader of a data set; its options may be given as `--key value`.

    The suffix of the file names the reader, unless `--format` is among the options.
    """
    model, given = _reader_model(path, further)
    return config.parse_options(given, model)


def refuse_reader_options(arguments: Sequence[str]) -> None:
    """Refuse options of a data set's reader where no data set is named, with a ConfigError."""
    if arguments:
        problem = f"{arguments[0]} is an option of a dataset's reader"
        raise ConfigError(problem, name=arguments[0], remedy="name the data, too")


def split_off_reader(
    arguments: list[str], options: type[Options], specs: Sequence[str]
) -> tuple[list[str], list[str]]:
    """Arguments of a command, and those that its data sets' readers take."""
    readers = [_reader_model(spec, arguments)[0] for spec in specs if _is_data(spec, arguments)]
    further = {key for model in readers for key in model.model_fields} - set(options.model_fields)
    return split_off(arguments, list(options.model_fields), sorted(further))


def read_structures(spec: str | Path, further: Sequence[str] = ()) -> Sequence[Atoms]:
    """All frames of a structure (a name or a file), a data set or a run directory.

    Parameters
    ----------
    spec : str or path
    further : sequence of str
        Options of the reader as `--key value`, where ``spec`` is a file or a pattern, or whatever the reader
        takes that `--format` names.
    """
    from asecalc_ml.structure.loading import load_structure

    spec = str(spec)
    if _is_data(spec, further):
        return reader(spec, further).structures()
    path = Path(spec)
    return _of_run(path) if path.is_dir() else [load_structure(spec)]


def _is_data(spec: str, further: Sequence[str] = ()) -> bool:
    """Return True if a data set is named, and not a structure or a run."""
    from asecalc_ml.structure.loading import shipped_names

    if any(argument.partition("=")[0] == "--format" for argument in further):
        return True
    if spec.startswith("smiles:"):  # brackets are part of SMILES
        return False
    return (Path(spec).is_file() and spec not in shipped_names()) or glob.has_magic(spec)


def _reader_model(path: str, further: Sequence[str]) -> tuple[type[DatasetOptions], Mapping]:
    given = override({"path": path}, list(further))
    if "format" not in given:
        given = {"format": _format_of(path), **given}
    return plugins.get("datasets", str(given["format"])), given


def _format_of(path: str) -> str:
    """The reader that takes files of this suffix; ASE reads all others."""
    readers = plugins.loaded("datasets")
    found = [name for name, model in readers.items() if str(path).endswith(model.suffixes)]
    if len(found) > 1:
        raise ConfigError(
            f"{path}: {' and '.join(found)} read files of this suffix",
            name=str(path),
            allowed=found,
            remedy="name one with --format",
        )
    return found[0] if found else "ase"


def _of_run(directory: Path) -> list[Atoms]:
    """Frames with what the structure at the start says of charge and spin; those that can be read."""
    from asecalc_ml.analysis.pipeline import lost_frames_text
    from asecalc_ml.runs import RunReader

    run = RunReader(directory)
    if run.n_frames == 0:
        problem = f"{directory} holds no frame: the run ended before its first one was written"
        raise StructureError(problem, name=str(directory))
    if lost := run.n_lost_frames:
        warnings.warn(lost_frames_text(run.n_frames, lost), stacklevel=2)
    frames = []
    for chunk in run.frame_chunks():
        for positions, cell in zip(chunk.positions, chunk.cells, strict=True):
            atoms = run.atoms.copy()
            atoms.cell[:], atoms.positions[:] = cell, positions
            frames.append(atoms)
    return frames


def select_frames(structures: Sequence[Atoms], frames: str) -> list[Atoms]:
    """Frames by a slice or a number, as in Python."""
    try:
        wanted = frames if ":" in frames else f"{int(frames)}:{int(frames) + 1 or ''}"
        chosen = [structures[k] for k in selected_numbers(wanted, len(structures), "the data")]
    except ValueError:
        remedy = "give a slice such as 0:500:10, or one number"
        raise ConfigError(f"frames is {frames!r};", name="frames", value=frames, remedy=remedy) from None
    if not chosen:
        problem = f"frames {frames!r} selects none of the {len(structures)} there are"
        raise ConfigError(problem, name="frames", value=frames, allowed=f"0 to {len(structures) - 1}")
    return chosen
