"""A program as machine code, compiled ahead of time into a file and loaded from it."""

from __future__ import annotations

import contextlib
import io
import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch

from asecalc_ml.files.writing import write_whole
from asecalc_ml.model.compile.cuda_graph import CudaGraph
from asecalc_ml.model.compile.program import Function, Models, Program

#: Inductor's options, in the order in which they are tried. On the CPU torch 2.13 fuses loops of PaiNN side
#: by side into code with a wrong edge derivative, even in float64; without this fusion it is right, and with
#: torch 2.14.1 with it too.
INDUCTOR_OPTIONS: tuple[dict | None, ...] = (None, {"cpp.max_horizontal_fusion_size": 1})


def write_package(
    model: Models, program: Program[Models], path: Path, inductor_options: dict | None = None
) -> None:
    """Trace a program and compile it with AOTInductor into a file that :func:`load_package` reads.

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

        arguments = tuple(program.plain_arguments())
        exported = torch.export.export(program.trace(model), arguments, strict=False)
        aoti_compile_and_package(
            exported, package_path=package, inductor_configs=program.options | (inductor_options or {})
        )
    write_whole(path, package.getvalue())


def load_package(path: Path, device: torch.device) -> Function:
    """The compiled function of a package, which needs none of the model's own code."""
    run = _loaded(path, device)
    return CudaGraph(run) if device.type == "cuda" else run


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
