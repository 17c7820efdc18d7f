"""Analyses: each reads a run directory and gives a result that can be written and plotted."""

if __name__ != "asecalc_ml.analysis":  # a second copy would keep a second registry
    raise ImportError(f"import asecalc_ml.analysis instead of {__name__}")
