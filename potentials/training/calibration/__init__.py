"""Uncertainty from last-layer features, and how well uncertainties describe errors."""
