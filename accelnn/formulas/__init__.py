"""Activations, losses and update rules, one per file, listed in `_table`.

This package does not import backends: formulas are passed one as ``ops``.
"""
