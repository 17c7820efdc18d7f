"""The two commands, `asecalc-md` and `asecalc-ml`: thin, and the only place that knows all rooms."""
