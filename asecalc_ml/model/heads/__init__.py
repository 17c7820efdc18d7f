"""Heads: from what a potential returns to the quantities that a model predicts."""
