"""Data-parallel trainings: several processes compute parts of each batch and take the same steps."""
