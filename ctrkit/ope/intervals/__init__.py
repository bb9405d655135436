"""Sufficient statistics of a log, and intervals from them. Nothing here knows of policies or estimators."""
