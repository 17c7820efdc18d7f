"""The steps of a training: schedule, averaged weights, compiled step, checkpoints."""
