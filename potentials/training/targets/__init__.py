"""Trainings on other targets than the energy: scales and references, errors on labelled frames."""
