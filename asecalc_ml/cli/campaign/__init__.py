"""The command `asecalc-md campaign`, its processes, table and progress."""
