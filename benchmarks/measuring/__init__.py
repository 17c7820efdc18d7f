"""What all benchmarks share: turns, a record with the machine, models, calculators of other packages."""
