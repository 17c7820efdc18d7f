"""Versions of installed packages, for cards and provenance."""

import importlib.metadata
from collections.abc import Iterable

import asecalc_ml


def installed_versions(packages: Iterable[str]) -> dict[str, str]:
    """Version of this package and of each named one that is installed, by distribution name."""
    found = {"asecalc-ml": asecalc_ml.__version__}
    for package in packages:
        if package in found:  # the code that runs, not what may be installed beside a checkout
            continue
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
