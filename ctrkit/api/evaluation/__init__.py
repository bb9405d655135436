"""The rows that `ctrkit.evaluate` measures a model on, and its report."""
