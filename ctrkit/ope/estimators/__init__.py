"""Estimators of a policy's value, each a class with mergeable sums; `registry` knows them by name."""
