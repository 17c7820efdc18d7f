"""Labelled structures: sampled with a calculator, or labelled by one."""
