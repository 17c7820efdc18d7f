"""Bonds, and what follows from them: patterns, chains of bonded atoms, equivalent atoms."""
