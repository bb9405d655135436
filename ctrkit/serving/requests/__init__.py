"""Bodies of scoring requests, and what encodes them."""
