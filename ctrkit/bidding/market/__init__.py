"""Auctions and the exchange: rules, slots, terms of a campaign, and who pays what."""
