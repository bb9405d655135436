"""Reduced exports: quantised or of low rank, with what that costs."""
