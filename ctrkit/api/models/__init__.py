"""A trained model in use, and the labelled rows that commands judge it on."""
