"""torchmd-net's layers, without NVIDIA Warp.

torchmd-net imports Warp (400 MB, 1.5 s, lines on stdout) for its own neighbor search and for CUDA
kernels that cannot be differentiated twice on a CPU. We need neither: our edges replace the search.
So its model files are imported a second time, under their own names but apart from whatever
``import torchmdnet`` a user has done or will do, with Warp out of the way. What the user's own
import sees is left as it was found.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import sys
import types
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, NoReturn

from asecalc_ml.graph.segments import segment_sum, take

if TYPE_CHECKING:
    from torch import Tensor, nn

_PACKAGE = "torchmdnet"
_WARP_OPS = "torchmdnet.extensions.ops"
_WARP_KERNELS = "torchmdnet.extensions.warp_ops"


@functools.cache
def layers() -> types.SimpleNamespace:
    """The modules of torchmd-net that hold its layers: utils, et, tensornet, gn."""
    with _without_warp():
        modules = types.SimpleNamespace(
            utils=importlib.import_module("torchmdnet.models.utils"),
            et=importlib.import_module("torchmdnet.models.torchmd_et"),
            tensornet=importlib.import_module("torchmdnet.models.tensornet"),
            gn=importlib.import_module("torchmdnet.models.torchmd_gn"),
        )
    _use_segment_sums(modules)
    return modules


@contextlib.contextmanager
def _without_warp() -> Iterator[None]:
    """Import torchmdnet afresh with Warp's two entrances closed, then put sys.modules back."""
    outside = _remove_torchmdnet()
    stub = types.ModuleType(_WARP_OPS)
    stub.get_neighbor_pairs_kernel = _no_neighbor_search
    sys.modules[_WARP_OPS] = stub
    sys.modules[_WARP_KERNELS] = None  # makes the import raise ImportError, as if Warp were missing
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that Warp is missing is what we want
            yield
    finally:
        _remove_torchmdnet()
        sys.modules.update(outside)


def _remove_torchmdnet() -> dict[str, types.ModuleType]:
    names = [name for name in sys.modules if name.split(".")[0] == _PACKAGE]
    return {name: sys.modules.pop(name) for name in names}


def _no_neighbor_search(*args: object, **kwargs: object) -> NoReturn:
    raise RuntimeError(
        "torchmd-net's own neighbor search is not used here: edges come from asecalc_ml.graph.neighbors"
    )


def _use_segment_sums(modules: types.SimpleNamespace) -> None:
    """Replace upstream's sums over edges, in our copy of its modules, by ones that can be compiled.

    ``index_add``, and the derivative of ``index_select``, become atomic additions on the CPU; see
    :mod:`asecalc_ml.graph.segments`.
    """
    modules.gn.CFConv.forward = _convolution


def _convolution(
    self: nn.Module, x: Tensor, edge_index: Tensor, distances: Tensor, basis: Tensor, n_atoms: int
) -> Tensor:
    """CFConv.forward: messages of the neighbors, filtered by distance, summed over each atom's edges."""
    filters = self.net(basis) * self.cutoff(distances)[:, None]
    messages = filters * take(self.lin1(x), edge_index[1])
    return self.lin2(segment_sum(messages, edge_index[0], n_atoms))
