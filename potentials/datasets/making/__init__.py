"""Labelled structures that are sampled, labelled or downloaded."""
