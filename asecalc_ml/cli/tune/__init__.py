"""The command `asecalc-ml tune`, its processes, table and progress."""
