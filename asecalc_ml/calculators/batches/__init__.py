"""Many structures computed together, by any calculator."""
