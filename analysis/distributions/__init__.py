"""Distributions of bond lengths, angles and dihedrals, and what they rest on."""
