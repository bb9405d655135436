"""Calibration of the tasks of a model, or of a table of scores: rows, results and reports."""
