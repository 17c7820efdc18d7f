"""Models as files: card, weights, golden values, and the registry of names."""
