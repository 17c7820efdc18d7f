"""Output in a terminal: progress bars, tables, and the system's signal to end."""
