"""Heads for several tasks, one a file; every file of this folder is registered by being there.

They are imported with `ctrkit.models`, after the contracts in `ctrkit.models.base` that they fill.
"""
