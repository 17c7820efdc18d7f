r"""Class activation maps: features of an atom, weighted as the last linear map does.

.. math:: R_i = s_{Z_i} \, w \cdot f_i, \qquad \sum_i R_i + \sum_i (s_{Z_i} b + v_i + e_{Z_i}) = E

These are the contributions without the bias b of the last map (and without electrostatic energies v): the
same where there is no bias. They are also gradient × input on the features f, since ∂E/∂f_i = s w.
Zhou, Khosla, Lapedriza, Oliva and Torralba, arXiv:1512.04150; for graphs Pope et al., CVPR 2019.
"""

from __future__ import annotations

from asecalc_ml.analysis.relevance.methods.method_output import Found
from asecalc_ml.analysis.relevance.options import RelevanceOptions
from asecalc_ml.analysis.relevance.subject import Subject
from asecalc_ml.analysis.relevance.targets import Target


def explain(subject: Subject, target: Target, options: RelevanceOptions) -> Found:
    """Weighted features; biases and what is no feature's are absorbed."""
    run = subject.run()
    weight, bias = (part[0].double() for part in subject.model.potential.last_linear)
    features = run.output.potential.features[:-1].double()
    atoms = target.shares(subject.scales * (features @ weight), run)
    biases = subject.per_system(target.shares(subject.scales * bias + 0 * features[:, 0], run))
    rest = target.value(run) - subject.per_system(atoms) - biases
    absorbed = {"biases": biases.detach(), "reference energies and electrostatics": rest.detach()}
    return Found(atoms.detach(), absorbed=absorbed)
