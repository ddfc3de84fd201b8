"""Formulas as compiled code, one a file, of the names that they have in `accelnn.formulas`.

An activation gives ``activate(x)``: its value and its slope at a vector of pre-activations.
"""
