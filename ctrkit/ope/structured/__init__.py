"""Logs with more structure: slates, several logging policies, features of actions, several outcomes."""
