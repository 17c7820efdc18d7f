"""The frames of a training: their split, batches, scale, domain and origin."""
