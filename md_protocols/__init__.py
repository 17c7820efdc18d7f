"""Molecular-dynamics protocols: each reads its options and writes a run directory."""

if __name__ != "asecalc_ml.md_protocols":  # a second copy would keep a second registry
    raise ImportError(f"import asecalc_ml.md_protocols instead of {__name__}")
