"""What `simulate-bidding` and `plan-budget` read, run and report."""
