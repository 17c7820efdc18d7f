"""The checks of the conformance suite, one law or a few in each file."""
