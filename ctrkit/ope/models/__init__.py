"""What is fitted to a log by cross-fitting: reward models, density ratios, missing propensities."""
