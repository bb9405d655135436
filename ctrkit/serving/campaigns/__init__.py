"""Campaigns of a server: paced bids, and the money that they may spend, kept for all processes together."""
