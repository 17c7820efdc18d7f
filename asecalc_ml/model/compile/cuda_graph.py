"""Compiled code on a GPU as one launch: for small molecules, launching costs more than computing."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from asecalc_ml.model.compile.program import Function

WARM_UPS = 3  # calls before a recording, as torch's own documentation does it


class CudaGraph:
    """A function of tensors of fixed shapes, recorded at its first call and replayed from then on.

    Parameters
    ----------
    function : callable
        Neither waits for the device nor chooses what to do by values. One that cannot be recorded is
        called as it is, with a warning.
    """

    def __init__(self, function: Function):
        self._function = function
        self._replay: Function | None = None

    def __call__(self, tensors: list[Tensor]) -> list[Tensor]:
        if self._replay is None:
            self._replay = self._recorded(tensors)
        return self._replay(tensors)

    def _recorded(self, tensors: list[Tensor]) -> Function:
        inputs = [tensor.clone() for tensor in tensors]
        graph = torch.cuda.CUDAGraph()
        try:
            self._warm_up(inputs)
            with torch.cuda.graph(graph):
                outputs = self._function(list(inputs))
        except RuntimeError as error:
            warnings.warn(f"no CUDA graph is used, which is slower: {error}", stacklevel=4)
            return self._function

        def replay(tensors: list[Tensor]) -> list[Tensor]:
            for own, given in zip(inputs, tensors, strict=True):
                own.copy_(given)
            graph.replay()
            return [output.clone() for output in outputs]  # the next replay writes into them

        return replay

    def _warm_up(self, inputs: list[Tensor]) -> None:
        """Allocations and the choice of kernels happen outside the recording, on a stream of their own."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UPS):
                self._function(list(inputs))
        torch.cuda.current_stream().wait_stream(stream)
