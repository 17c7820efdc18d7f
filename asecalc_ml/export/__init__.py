"""What other programs load of this package: benchmark hubs, ASE's list of plugins."""
