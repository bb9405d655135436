"""The evaluation of policies on a log, part by part, here or on a cluster, and its result."""
