"""How far an estimate can be trusted: weights, overlap, time, segments, rankings, and the verdict."""
