"""Sufficient statistics of a log, and intervals from them. No code here depends on policies or estimators."""
