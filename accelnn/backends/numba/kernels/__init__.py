"""Compiled code: loops over arrays and vectors, by topic."""
