"""What an explanation costs, in force calls of the same model and structure.

python benchmarks/relevance.py [MODEL [STRUCTURE]]
"""

import time
from functools import partial

import torch
from measuring.record import Cell, Table, parser, publish

from asecalc_ml.analysis.relevance import METHODS, RelevanceOptions
from asecalc_ml.analysis.relevance.offers import offered
from asecalc_ml.analysis.relevance.source import Source
from asecalc_ml.analysis.relevance.targets import parse_target
from asecalc_ml.model.derivative import edge_derivative
from asecalc_ml.structure.loading import load_structure

REPEATS = 3
MOST_SECONDS = 3.0
METHOD = (
    "Least processor time of up to {n} repeats, and how many eager force calls of the same model "
    "take as long. A force call in float64 takes {force_call:.1f} ms."
)


def least_time(work, repeats: int = REPEATS) -> float:
    """Least processor time of several repeats, s."""
    times, start = [], time.process_time()
    while len(times) < repeats and time.process_time() - start < MOST_SECONDS:
        before = time.process_time()
        work()
        times.append(time.process_time() - before)
    return min(times)


def main() -> None:
    options = parser(__doc__)
    options.add_argument("model", nargs="?", default="torchmdnet-ethanol")
    options.add_argument("structure", nargs="?", default="ethanol")
    arguments = options.parse_args()
    torch.set_num_threads(arguments.threads)
    repeats = 1 if arguments.quick else REPEATS
    source = Source.of(arguments.model)
    subject = source.subject([load_structure(arguments.structure)])
    force_call = least_time(lambda: edge_derivative(subject.model, subject.inputs), repeats)
    rows: list[list[Cell]] = []
    for text in ("energy",) if arguments.quick else ("energy", "force:0"):
        target = parse_target(text, subject.model.quantities[0]).bind(subject)
        for name in offered(subject, target):
            settings = RelevanceOptions(target=text, pairs="none")
            work = partial(METHODS[name].explain, subject, target, settings)
            taken = least_time(work, repeats)
            rows.append([text, name, 1e3 * taken, taken / force_call])
    method = METHOD.format(n=repeats, force_call=1e3 * force_call)
    columns = ["target", "method", "time (core ms)", "force calls"]
    title = f"{arguments.model}, {arguments.structure}"
    publish(arguments, "Relevance", [Table(title=title, method=method, columns=columns, rows=rows)])


if __name__ == "__main__":
    main()
