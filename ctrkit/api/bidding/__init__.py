"""What `simulate-bidding` reads, runs and reports."""
