"""The best purchase that was possible in hindsight."""
