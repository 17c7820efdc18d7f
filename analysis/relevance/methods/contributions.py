r"""The exact contributions: what the readout itself gives each atom.

.. math:: R_i = s_{Z_i} c_i + v_i, \qquad \sum_i R_i + \sum_i e_{Z_i} = E

with scale s, contribution c, electrostatic energy v and reference energy e of
:class:`asecalc_ml.model.model.Model`. Contributions hold the energy of bonds in a split between their atoms
that training does not decide.
"""

from __future__ import annotations

from asecalc_ml.analysis.relevance.methods.method_output import Found
from asecalc_ml.analysis.relevance.options import RelevanceOptions
from asecalc_ml.analysis.relevance.subject import Subject
from asecalc_ml.analysis.relevance.targets import Target


def explain(subject: Subject, target: Target, options: RelevanceOptions) -> Found:
    """Shares of each atom without its reference energy, which is absorbed."""
    run = subject.run()
    shares = run.output.atoms[:-1] * subject.weights - subject.shifts
    references = target.value(run) - subject.per_system(target.shares(shares, run))
    return Found(target.shares(shares, run).detach(), absorbed={"reference energies": references.detach()})
