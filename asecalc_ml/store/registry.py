"""Names of models, and the folders in which they are looked for."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs

from asecalc_ml.config.suggestions import unknown_name_error
from asecalc_ml.errors import ModelError
from asecalc_ml.files.home_folder import needing_a_home
from asecalc_ml.files.writing import obstacle, write_whole
from asecalc_ml.store.card import ModelCard
from asecalc_ml.store.model_file import (
    SHIPPED,
    SUFFIX,
    file_hash,
    read_card,
    read_model,
    read_seen,
    read_uncertainty,
    save_model,
)

if TYPE_CHECKING:
    from asecalc_ml.model.heads.last_layer import LastLayerUncertainty
    from asecalc_ml.model.model import Model

#: A list of folders, separated as in PATH; a group's read-only folder comes first, one's own last.
HOME_VARIABLE = "ASECALC_ML_HOME"


@dataclass(frozen=True)
class Entry:
    """A registered model."""

    name: str
    path: Path

    @cached_property
    def hash(self) -> str:
        return file_hash(self.path)

    @cached_property
    def card(self) -> ModelCard:
        return read_card(self.path)


class Registry:
    """Models by name: in ``$ASECALC_ML_HOME`` (else the user's data folder), then those that ship.

    Parameters
    ----------
    folders : list of Path, optional
        Other folders in place of ``$ASECALC_ML_HOME``.
    """

    def __init__(self, folders: list[Path] | None = None):
        self.folders = _home_folders() if folders is None else folders

    def list(self) -> list[Entry]:
        """Every name once, as :meth:`find` resolves it, sorted."""
        found: dict[str, Entry] = {}
        for entry in self._entries():
            found.setdefault(entry.name, entry)
        return sorted(found.values(), key=lambda entry: entry.name)

    def find(self, spec: str | Path) -> Entry:
        """Resolve a name or a path, or one of these with ``@hash`` (the hash's first digits serve).

        Raises
        ------
        ModelError
            If nothing is registered under the name (the message names the nearest), or the hash differs.
        """
        name, wanted = name_and_hash(str(spec))
        if is_path(name):
            with needing_a_home("HOME"):
                path = Path(name).expanduser()
            candidates = [_from_path(path)]
        else:
            candidates = [entry for entry in self._entries() if entry.name == name]
        if not candidates:
            raise self._unknown(name)
        matching = [entry for entry in candidates if entry.hash.startswith(wanted)]
        if not matching:
            held = ", ".join(f"{entry.hash[:12]} in {entry.path.parent}" for entry in candidates)
            raise ModelError(
                f"model {name!r} with hash {wanted} is not registered;",
                name=name,
                value=wanted,
                allowed=[entry.hash for entry in candidates],
                remedy=f"found {held}",
            )
        return matching[0]

    def add(self, source: Path, name: str | None = None, replace: bool = False) -> Entry:
        """Copy a model file into the registry, under its card's name unless another is given.

        Raises
        ------
        ModelError
            If the file is no model, or :meth:`check_free` objects to the name.
        """
        name = read_card(source).name if name is None else name
        target = self.check_free(name, replace) / f"{name}{SUFFIX}"
        read_card(source)  # under another name, too, nothing is registered that is no model
        write_whole(target, source.read_bytes())
        return Entry(name, target)

    def add_model(self, model: Model, card: ModelCard, replace: bool = False) -> Entry:
        """Register a model that has no file yet, under its card's name; raises as :meth:`add`."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"{card.name}{SUFFIX}"
            save_model(path, model, card)
            return self.add(path, replace=replace)

    def check_free(self, name: str, replace: bool = False) -> Path:
        """The folder in which a model of this name would be registered.

        Raises
        ------
        ModelError
            If the name cannot be a file's, is taken and ``replace`` is false, or if no folder is writable.
        """
        _check_name(name)
        taken = [entry for entry in self._entries() if entry.name == name]
        if taken and not replace:
            raise ModelError(
                f"a model named {name!r} exists ({taken[0].path});",
                name=name,
                value=str(taken[0].path),
                remedy="choose another name, or replace it with --replace",
            )
        return self._folder_for(name)

    def export(self, spec: str, target: Path) -> Path:
        """Copy a registered model to a file or into a folder."""
        entry = self.find(spec)
        target = target / f"{entry.name}{SUFFIX}" if target.is_dir() else target
        if target.exists():
            raise ModelError(
                f"{target} exists;", name=str(target), remedy="remove it first, or name another file"
            )
        write_whole(target, entry.path.read_bytes())
        return target

    def remove(self, name: str) -> Path:
        """Delete a model that is the user's own.

        Raises
        ------
        ModelError
            If it is unknown, shipped with the package, or in a folder that cannot be written.
        """
        entry = self._own(name, "removed")
        try:
            entry.path.unlink()
        except OSError as error:
            raise _protected(entry.path, "removed", error) from error
        return entry.path

    def note(self, name: str, text: str) -> Entry:
        """Add a note to the card of a model that is the user's own; its hash changes, its weights do not.

        Raises
        ------
        ModelError
            As :meth:`remove`, and if the file is damaged.
        """
        entry = self._own(name, "changed")
        card = entry.card.model_copy(update={"notes": [*entry.card.notes, text]})
        return self._rewrite(entry, card, read_uncertainty(entry.path))

    def with_uncertainty(self, name: str, card: ModelCard, uncertainty: LastLayerUncertainty) -> Entry:
        """Give a model that is the user's own an uncertainty, and the card that states it.

        The file's hash changes; predictions do not.

        Raises
        ------
        ModelError
            As :meth:`remove`, and if the file is damaged.
        """
        return self._rewrite(self._own(name, "changed"), card, uncertainty)

    def _rewrite(self, entry: Entry, card: ModelCard, uncertainty: LastLayerUncertainty | None) -> Entry:
        """Write a model's file again with another card and uncertainty."""
        (model, _), seen = read_model(entry.path), read_seen(entry.path)
        try:
            save_model(entry.path, model, card, seen, uncertainty)
        except OSError as error:
            raise _protected(entry.path, "changed", error) from error
        return Entry(entry.name, entry.path)

    def _own(self, name: str, done: str) -> Entry:
        entry = self.find(name)
        if entry.path.parent == SHIPPED:
            raise ModelError(
                f"{name!r} ships with the package and cannot be {done};",
                name=name,
                remedy="only your own models can",
            )
        if entry.path.parent not in self.folders:
            path = str(entry.path)
            raise ModelError(f"{path} is not in the registry", name=path, remedy="see to the file yourself")
        return entry

    def _entries(self) -> Iterator[Entry]:
        for folder in (*self.folders, SHIPPED):
            for path in sorted(folder.glob(f"*{SUFFIX}")):
                yield Entry(path.stem, path)

    def _unknown(self, name: str) -> ModelError:
        known = sorted({entry.name for entry in self._entries()})
        remedy = f"Known: {', '.join(known) or 'none'} (asecalc-ml models list)"
        return unknown_name_error(ModelError, f"no model named {name!r}", name, known, remedy)

    def _folder_for(self, name: str) -> Path:
        """The place of the model that is replaced, else the last writable folder.

        Further along the search path than the old model, the new one would never be found.
        """
        taken = [folder for folder in self.folders if (folder / f"{name}{SUFFIX}").exists()]
        if not taken:
            return self._writable_folder()
        if not os.access(taken[0], os.W_OK):
            raise ModelError(
                f"{name!r} is registered in {taken[0]}, which cannot be written, and would hide a new model "
                "of this name",
                name=name,
                value=str(taken[0]),
                remedy="choose another",
            )
        return taken[0]

    def _writable_folder(self) -> Path:
        for folder in reversed(self.folders):
            if obstacle(folder) is None:
                return folder
        folders = ", ".join(map(str, self.folders))
        raise ModelError(
            f"no folder to register models in is writable ({folders});",
            name=HOME_VARIABLE,
            value=folders,
            remedy=f"set {HOME_VARIABLE} to one that is",
        )


def name_and_hash(text: str) -> tuple[str, str]:
    """Both parts of ``name@hash``; a folder's name may hold an @ of its own."""
    name, _, wanted = text.rpartition("@")
    return (name, wanted) if name and os.sep not in wanted and not wanted.endswith(SUFFIX) else (text, "")


def is_path(name: str) -> bool:
    """Return True for the name of a model file, and False for that of a registered model."""
    return name.endswith(SUFFIX) or os.sep in name


def _home_folders() -> list[Path]:
    home = os.environ.get(HOME_VARIABLE)
    with needing_a_home(HOME_VARIABLE):
        if home:
            return [Path(part).expanduser() for part in home.split(os.pathsep) if part]
        return [Path(platformdirs.user_data_dir("asecalc-ml", appauthor=False)) / "models"]


def _protected(path: Path, done: str, error: OSError) -> ModelError:
    problem = f"{path} cannot be {done} ({error})"
    return ModelError(problem, name=str(path), remedy="ask the folder's owner")


def _check_name(name: str) -> None:
    if not re.fullmatch(r"\w[\w.+-]*", name) or name.endswith(SUFFIX):
        allowed = "letters, digits, '-', '_', '+' and '.', with a letter or a digit first"
        problem = f"{name!r} cannot be a model's name"
        raise ModelError(problem, value=name, allowed=allowed, remedy=f"use {allowed}")


def _from_path(path: Path) -> Entry:
    if not path.exists():
        raise ModelError(f"no model file {path} (looked in {Path.cwd()})", name=str(path))
    return Entry(read_card(path).name, path)
