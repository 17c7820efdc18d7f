"""What all benchmarks share: turns, a record of what was measured where, and calculators of other packages."""
