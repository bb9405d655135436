"""Kernels for the CPU, compiled by numba, of what torch has no quick operation for.

Only `operators` and `threads` may be imported without numba.
"""
