"""Architectures, dataset readers and training."""

if __name__ != "asecalc_ml.potentials":  # a second copy would keep a second registry
    raise ImportError(f"import asecalc_ml.potentials instead of {__name__}")
