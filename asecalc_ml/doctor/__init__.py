"""The examination behind `asecalc-ml doctor`: packages, machine, folders, models, a step."""
