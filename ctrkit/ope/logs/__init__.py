"""A bandit log: its columns, its faults, samples of it, and its independent units."""
