"""Plugins of other packages: whether they can be loaded."""

from __future__ import annotations

from collections.abc import Iterator

from asecalc_ml import plugins
from asecalc_ml.doctor.finding import Finding
from asecalc_ml.errors import PluginError


def check_plugins() -> Iterator[Finding]:
    """Load every plugin of another package."""
    n_others = 0
    for group in plugins.GROUPS:
        for name in plugins.names(group):
            label = f"{plugins.GROUPS[group]} {name}"
            try:
                point = plugins.point(group, name)
                if point.module.partition(".")[0] == "asecalc_ml":
                    continue
                n_others += 1
                plugins.get(group, name)
            except PluginError as error:
                yield Finding("plugins", label, "failed", error.problem.rstrip(";: "), error.remedy or "")
                continue
            source = f" of {point.dist.name} {point.dist.version}" if point.dist else ""
            yield Finding("plugins", label, "passed", f"{point.value}{source}")
    if not n_others:
        yield Finding("plugins", "plugins", "not applicable", "no other package has registered any")
