"""A model as machine code: energy and edge derivative for inputs of one shape, compiled ahead of time."""

from __future__ import annotations

import contextlib
import io
import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from asecalc_ml.files.writing import write_whole
from asecalc_ml.model.compile.cuda_graph import CudaGraph, Function
from asecalc_ml.model.derivative import EdgeDerivative, edge_derivative
from asecalc_ml.model.model import Model
from asecalc_ml.model.potential import PotentialInput

Runner = Callable[[PotentialInput], EdgeDerivative]


def trace(model: Model, inputs: PotentialInput) -> torch.fx.GraphModule:
    """One graph of plain tensor operations for energy and edge derivative, for inputs of one shape."""
    from torch.fx.experimental.proxy_tensor import make_fx

    def energy_and_gradient(*tensors: Tensor) -> tuple[Tensor, ...]:
        return tuple(edge_derivative(model, PotentialInput(*tensors)))

    graph = make_fx(energy_and_gradient)(*inputs.tensors)
    graph.graph.eliminate_dead_code()
    graph.recompile()
    return graph


def write_package(model: Model, inputs: PotentialInput, path: Path) -> None:
    """Trace a model and compile it with AOTInductor into a file that :func:`load_package` reads.

    Raises
    ------
    RuntimeError
        If there is no C++ compiler, or the model cannot be traced or compiled. An architecture's own code
        may raise anything else under the tracer.
    OSError
        If the file cannot be written.
    """
    package = io.BytesIO()  # torch's own writer of files ends the process where the disk is full
    with warnings.catch_warnings(), _environment_as_found():
        warnings.simplefilter("ignore")  # of torch about itself
        from torch._inductor import aoti_compile_and_package

        exported = torch.export.export(trace(model, inputs), tuple(_plain(inputs)), strict=False)
        aoti_compile_and_package(exported, package_path=package)
    write_whole(path, package.getvalue())


def load_package(path: Path, device: torch.device) -> Runner:
    """The compiled function of a package, which needs none of the model's own code."""
    run = _loaded(path, device)
    if device.type == "cuda":
        run = CudaGraph(run)
    return lambda inputs: EdgeDerivative(*run(_plain(inputs)))


def _loaded(path: Path, device: torch.device) -> Function:
    """Torch's own loader. Its Python front end imports the compiler, 2 s, which running does not need."""
    index = -1 if device.index is None else device.index
    recordable = device.type == "cuda"  # without events and locks, which a CUDA graph cannot hold
    try:
        return torch._C._aoti.AOTIModelPackageLoader(str(path), "model", recordable, 1, index).boxed_run
    except (AttributeError, TypeError):  # another torch
        from torch._inductor import aoti_load_package

        package = aoti_load_package(str(path), recordable, device_index=index)
        return lambda tensors: package(*tensors)


@contextlib.contextmanager
def _environment_as_found() -> Iterator[None]:
    """Undo what the compiler leaves in ``os.environ``, such as the place of its cache."""
    before = dict(os.environ)
    try:
        yield
    finally:
        for key in os.environ.keys() - before.keys():
            del os.environ[key]
        os.environ.update(before)


def _plain(inputs: PotentialInput) -> list[Tensor]:
    """Compiled code takes the layout of its example for granted, and reads rubbish from any other."""
    return [tensor.contiguous() for tensor in inputs.tensors]
