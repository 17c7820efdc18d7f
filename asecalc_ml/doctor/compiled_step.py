"""A step in plain PyTorch and compiled: whether both work and agree."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from statistics import median
from typing import TYPE_CHECKING

from asecalc_ml.doctor.finding import Finding
from asecalc_ml.errors import AsecalcError, ModelError
from asecalc_ml.model.compile.no_compiling import without_compiling

if TYPE_CHECKING:
    from asecalc_ml.graph.atom_graph import AtomGraph
    from asecalc_ml.model.evaluator import Evaluation, Evaluator
    from asecalc_ml.store.golden import GoldenDeviation, ValueDeviation

#: The smallest of the shipped equivariant transformers, with which the README begins.
MODEL = "torchmdnet-ethanol"
N_TIMED = 15
TOPIC = "compiled step"


def check_step(name: str = MODEL, device: str = "cpu", may_compile: bool = True) -> Iterator[Finding]:
    """Compute the structure of a model's card in plain PyTorch and compiled, and compare energy and forces.

    Parameters
    ----------
    name : str
        A registered model of energies.
    device : str
    may_compile : bool
        False: use a compiled model that is in the cache, and compile none.
    """
    from asecalc_ml.calculators.protocol import no_energies
    from asecalc_ml.graph.atom_graph import AtomGraph
    from asecalc_ml.model.evaluator import Evaluator
    from asecalc_ml.store.golden import deviation_from, deviation_of, golden_atoms
    from asecalc_ml.store.stored_model import StoredModel

    stored = StoredModel.find(name, device=device)
    if not stored.card.predicts_energy:
        remedy = "name a model of energies (asecalc-ml models list --property energy)"
        raise ModelError(f"{no_energies(stored.card)};", name=name, remedy=remedy)
    golden = stored.card.golden
    atoms = golden_atoms(golden)
    graph = AtomGraph.from_atoms(atoms, stored.cutoff)

    eager, deviation = Evaluator(stored), deviation_from(golden, stored.model)
    text = f"{name} on {device}, {_time(lambda: eager(graph))}; compared with its card, {deviation}"
    remedy = f"compare the versions above with those of `asecalc-ml models show {name}`"
    yield _compared("plain PyTorch", deviation, text, remedy)

    compiled = Evaluator(stored, compile="always")
    try:
        evaluation = _compiled(compiled, graph, may_compile)
    except AsecalcError as error:
        remedy = error.remedy or "mend what failed above; until then models run several times slower"
        yield Finding(TOPIC, "compiled", "failed", error.problem.rstrip(";: "), remedy)
        return
    if not compiled.compiled.shapes:
        text = "not tried, since no C++ compiler works and the cache holds no compiled model for this step"
        yield Finding(TOPIC, "compiled", "undecided", text)
        return
    deviation = deviation_of(evaluation, stored.model, atoms)
    text = f"{_time(lambda: compiled(graph))}; compared with plain PyTorch, {deviation}"
    remedy = "set `compile: never` in calculators, and report this with all lines above"
    yield _compared("compiled", deviation, text, remedy)


def _compiled(evaluator: Evaluator, graph: AtomGraph, may_compile: bool) -> Evaluation:
    """Results for a structure, from compiled code if it can be had."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of a cache that cannot be written, which is reported
        if may_compile:
            evaluator.prepare(graph)
            return evaluator(graph)
        with without_compiling():
            return evaluator(graph)


def _compared(name: str, deviation: GoldenDeviation | ValueDeviation, text: str, remedy: str) -> Finding:
    if deviation.is_rounding:
        return Finding(TOPIC, name, "passed", text)
    return Finding(TOPIC, name, "failed", text, remedy)


def _time(function: Callable[[], object]) -> str:
    """Median time of a call, after one that is not counted."""
    times = []
    for _ in range(N_TIMED + 1):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return f"{1e3 * median(times[1:]):.1f} ms a step"
