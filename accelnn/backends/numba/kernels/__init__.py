"""Compiled kernels on arrays and vectors."""
