"""The commands beside `run` and `train`, one in each file."""
