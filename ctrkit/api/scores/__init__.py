"""Tables of scores: what a model of any kind predicted, and calibrators for it."""
