"""Models as machine code, compiled ahead of time and kept on disk."""
