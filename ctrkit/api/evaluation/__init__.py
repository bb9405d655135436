"""The rows that `evaluate` judges a model on, and its report."""
