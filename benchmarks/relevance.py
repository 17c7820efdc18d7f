"""What an explanation costs, in force calls of the same model and structure.

Run with ``python benchmarks/relevance.py [MODEL [STRUCTURE]]``; times are of one core, the least of several.
"""

import sys
import time

import torch

from asecalc_ml.analysis.relevance import METHODS, RelevanceOptions
from asecalc_ml.analysis.relevance.lrp.propagation import graph_of, padded_inputs
from asecalc_ml.analysis.relevance.offers import offered
from asecalc_ml.analysis.relevance.source import Source
from asecalc_ml.analysis.relevance.targets import parse_target
from asecalc_ml.model.derivative import edge_derivative
from asecalc_ml.structure.loading import load_structure

REPEATS = 3
MOST_SECONDS = 3.0


def least_time(work) -> float:
    """Least processor time of several repeats, s."""
    times, start = [], time.process_time()
    while len(times) < REPEATS and time.process_time() - start < MOST_SECONDS:
        before = time.process_time()
        work()
        times.append(time.process_time() - before)
    return min(times)


def main(model: str = "torchmdnet-ethanol", structure: str = "ethanol") -> None:
    torch.set_num_threads(1)
    source = Source.of(model)
    subject = source.subject([load_structure(structure)])
    force_call = least_time(lambda: edge_derivative(subject.model, subject.inputs))
    print(f"{model}, {structure}: an eager force call in float64 takes {1e3 * force_call:.1f} ms")
    before = time.process_time()
    graph_of(subject.model, padded_inputs(subject))
    print(f"  tracing, once for lrp and walks: {time.process_time() - before:.1f} s")
    for text in ("energy", "force:0"):
        target = parse_target(text).bind(subject)
        for name in offered(subject, target):
            options = RelevanceOptions(target=text, pairs="none")
            taken = least_time(lambda name=name: METHODS[name].explain(subject, target, options))  # noqa: B023
            print(f"  {text:8} {name:22} {1e3 * taken:9.1f} ms  {taken / force_call:8.1f} force calls")


if __name__ == "__main__":
    main(*sys.argv[1:])
