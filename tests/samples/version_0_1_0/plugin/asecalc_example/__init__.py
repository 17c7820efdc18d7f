"""Plugins for asecalc-ml."""
