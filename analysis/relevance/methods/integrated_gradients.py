r"""Integrated gradients on embeddings: gradient × input along the way from no element to the element.

.. math:: R_i = h_i \cdot \int_0^1 \frac{\partial T}{\partial h_i}(\alpha h) \, d\alpha,
          \qquad \sum_i R_i + T(0) = T

T(0), the target with all embeddings zero, is absorbed. Networks that normalise layers change fast where
embeddings are small, so that α = t³ is integrated over t by Gauss's rule; what the quadrature misses is
reported too. Sundararajan, Taly and Yan, arXiv:1703.01365, equation (1).
"""

from __future__ import annotations

import numpy as np
import torch

from asecalc_ml.analysis.relevance.methods.hidden import run_with_embeddings
from asecalc_ml.analysis.relevance.methods.method_output import Found
from asecalc_ml.analysis.relevance.options import RelevanceOptions
from asecalc_ml.analysis.relevance.subject import Subject, gradients
from asecalc_ml.analysis.relevance.targets import Target


def explain(subject: Subject, target: Target, options: RelevanceOptions) -> Found:
    """Gauss-Legendre sum over ``options.integration_points`` passes."""
    nodes, weights = np.polynomial.legendre.leggauss(options.integration_points)
    t = 0.5 * (nodes + 1)
    factors = 0.5 * weights * 3 * t**2  # dα = 3 t² dt
    terms = [f * _product(subject, target, a) for f, a in zip(factors, t**3, strict=True)]
    atoms = torch.stack(terms).sum(dim=0)
    start, end = (_value(subject, target, alpha) for alpha in (0.0, 1.0))
    missed = end - start - subject.per_system(atoms)
    return Found(atoms, absorbed={"zero embeddings": start, "quadrature": missed})


def _product(subject: Subject, target: Target, alpha: float) -> torch.Tensor:
    """Embeddings h times the derivative at α h, shape (n_atoms,)."""
    run, embedded = run_with_embeddings(subject, lambda h: alpha * h)
    slopes = gradients(target.value(run), embedded)
    return sum((h * slope / alpha).flatten(1).sum(dim=1) for h, slope in zip(embedded, slopes, strict=True))[
        :-1
    ].detach()


def _value(subject: Subject, target: Target, alpha: float) -> torch.Tensor:
    return target.value(run_with_embeddings(subject, lambda h: alpha * h)[0]).detach()
