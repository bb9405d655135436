"""Versions of models in a folder or an object store: which one is live, which ones are on trial."""
