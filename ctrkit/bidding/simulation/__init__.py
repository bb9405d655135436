"""The simulator: strategies on terms, tick by tick, and what it writes down."""
