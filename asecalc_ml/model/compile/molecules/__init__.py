"""Molecules whose pairs are all pairs, as arrays of fixed shapes."""
