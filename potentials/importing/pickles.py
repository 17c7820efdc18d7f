"""Files of torch.save: read without running code in them, unless the user trusts where they come from."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path
from typing import Any

import torch

from asecalc_ml.errors import ModelError

#: How files of torch.save begin, today and before torch 1.6.
BEGINNINGS = (b"PK\x03\x04", b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19")

#: What a damaged or shortened file, or one of another format, raises in torch.load.
UNREADABLE = (RuntimeError, EOFError, OSError, KeyError, ValueError, AttributeError, pickle.UnpicklingError)


def load_torch(file: Path, trust: bool) -> Any:
    """What a file of torch.save holds, on the CPU.

    Parameters
    ----------
    file : Path
    trust : bool
        Whether code in it may run.

    Raises
    ------
    ModelError
        If it is missing or damaged, or needs code to run and is not trusted.
    """
    if not file.is_file():
        raise ModelError(
            f"no checkpoint {file} (looked in {Path.cwd()})", name=str(file), remedy="correct its name"
        )
    with file.open("rb") as stream:
        if not stream.read(20).startswith(BEGINNINGS):
            raise damaged(file, ValueError("it does not begin as one"))
    try:
        return _load(file, weights_only=True)
    except UNREADABLE as error:
        if not _needs_code(error):
            raise damaged(file, error) from error
    if not trust:
        raise ModelError(
            f"{file} is a pickle of Python objects, and reading one runs whatever code its author put into "
            "it.",
            name=str(file),
            remedy="Where you know and trust its origin, import it with --trust; where you do not, leave it",
        )
    return _load_running_code(file)


def _load_running_code(file: Path) -> Any:
    try:
        return _load(file, weights_only=False)
    except (ImportError, AttributeError) as error:
        raise ModelError(
            f"{file} needs Python code that is not installed here ({error})",
            name=str(file),
            remedy="install the package, in the version it was written with, and import it again",
        ) from error
    except UNREADABLE as error:
        raise damaged(file, error) from error


def _load(file: Path, weights_only: bool) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, of old formats and of classes that have changed since
        return torch.load(file, map_location="cpu", weights_only=weights_only)


def _needs_code(error: Exception) -> bool:
    """Whether torch refused a class or a function, and not the file itself."""
    return isinstance(error, pickle.UnpicklingError) and "nsupported" in str(error)


def damaged(file: Path, error: Exception) -> ModelError:
    """Return the error of a file that cannot be read."""
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return ModelError(
        f"{file} cannot be read as a checkpoint ({reason[:120]}): it is no file of torch.save, or was "
        "damaged or cut short;",
        name=str(file),
        remedy="copy it anew from where it came",
    )
