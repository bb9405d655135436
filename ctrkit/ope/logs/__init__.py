"""A bandit log: its columns, its faults, samples of it, and which of its rows are independent."""
