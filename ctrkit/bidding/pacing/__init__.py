"""Budgets over time: spend plans, multipliers, and how spend responds to them."""
