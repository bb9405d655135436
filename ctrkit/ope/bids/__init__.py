"""Logs of bids, whose actions are numbers: kernels replace the equality of actions."""
