"""An audit of a log: can it be used to evaluate a policy?"""
