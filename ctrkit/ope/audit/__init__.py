"""Whether a log is fit to judge a policy by."""
