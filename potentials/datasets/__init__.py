"""Data to train on: readers, one a file, and what makes or fetches it."""
