"""Formulas, one a file: activations, losses and update rules; `_table` lists them.

Nothing here knows of backends: formulas are given one, as ``ops``, to compute with.
"""
