"""Logs of bids, whose actions are numbers: kernels in place of equality of actions."""
