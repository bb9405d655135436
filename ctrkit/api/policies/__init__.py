"""Policies to evaluate: artifacts, columns, functions; and what a person reads of an evaluation."""
