"""The best that was possible in hindsight."""
