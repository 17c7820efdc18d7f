"""Radial distributions, mean-square displacements, and spectra."""
