"""Models that are fitted to a log by cross-fitting: reward models, density ratios, missing propensities."""
