"""What all benchmarks share: turns of A and B, a record of what was measured where, calculators to compare with."""
