"""Large sets of structures with properties: arrays in memory, a copy in the user's cache."""
