"""Structures: reading files, charge and spin, lattices and minimum image, constraints."""
