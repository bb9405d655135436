"""Models in production: exported graphs, and what runs them."""
