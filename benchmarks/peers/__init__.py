"""One small file a peer library: what `benchmarks/models.py peers` trains beside ctrkit."""
