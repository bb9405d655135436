"""What `explain` found, as a result."""
