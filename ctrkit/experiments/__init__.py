"""Experiments on users: who sees what, and what it shows."""
