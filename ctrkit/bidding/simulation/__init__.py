"""The simulator: strategies that bid tick by tick, and the records of what they did."""
