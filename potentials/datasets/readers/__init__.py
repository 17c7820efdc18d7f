"""Readers of labelled structures, one format in each file."""
