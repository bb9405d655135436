"""Estimators of a policy's value: classes with mergeable sums, found by name in `registry`."""
