"""Budgets over time: pacing, spend plans, budget plans, response curves and bid shading."""
