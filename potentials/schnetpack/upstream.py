"""SchNetPack's layers, without what its package imports around them.

``import schnetpack`` brings Lightning, Hydra, h5py and tensorboard (7 s), and fails with current torch. We
need its layers alone. So their files are imported a second time, under their own names but apart from
whatever ``import schnetpack`` a user has done or will do, with an empty package in place of schnetpack's
``__init__``. What the user's own import sees is left as it was found. Releases 2.0 and 2.2 have the same
layers; what differs between them, the construction of embeddings, is not used.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
import sys
import types
import typing
import warnings
from collections.abc import Iterator

_PACKAGE = "schnetpack"


@functools.cache
def layers() -> types.SimpleNamespace:
    """The modules of schnetpack that hold its layers: nn, so3, schnet, painn."""
    with _apart():
        return types.SimpleNamespace(
            nn=importlib.import_module("schnetpack.nn"),
            so3=importlib.import_module("schnetpack.nn.so3"),
            schnet=importlib.import_module("schnetpack.representation.schnet"),
            painn=importlib.import_module("schnetpack.representation.painn"),
        )


def whole_package() -> types.ModuleType:
    """Schnetpack as its users have it, which unpickling its models needs; heavy.

    Releases before 2.2 look for ``T_co`` in torch's data loader, a type variable that torch has renamed.
    It is there while schnetpack is imported, and torch is left as found.
    """
    from torch.utils.data import dataloader

    added = not hasattr(dataloader, "T_co")
    if added:
        dataloader.T_co = typing.TypeVar("T_co", covariant=True)
    try:
        return importlib.import_module(_PACKAGE)
    finally:
        if added:
            del dataloader.T_co


@contextlib.contextmanager
def _apart() -> Iterator[None]:
    """Import parts of schnetpack afresh below an empty package, then put sys.modules back."""
    outside = _remove()
    package = types.ModuleType(_PACKAGE)
    package.__path__ = importlib.util.find_spec(_PACKAGE).submodule_search_locations
    sys.modules[_PACKAGE] = package
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch.jit and of docstrings
            yield
    finally:
        _remove()
        sys.modules.update(outside)


def _remove() -> dict[str, types.ModuleType]:
    names = [name for name in sys.modules if name.split(".")[0] == _PACKAGE]
    return {name: sys.modules.pop(name) for name in names}
