"""Whether a run can be trusted: energy, temperature, pressure, bonds, committee."""
