"""Differences by SciPy, of the loss as a function of some parameters.

Handing it only some is in its favour: every step copies as many numbers as there are.
"""

import numpy as np
from scipy.differentiate import jacobian
