"""Kernels for the CPU, compiled by numba, for operations that torch does not make fast.

Only `operators` and `threads` may be imported without numba.
"""
