"""The built-in losses: the only list of them, which `accelnn.losses` re-exports whole."""

from typing import Literal, TypeAlias

from accelnn.formulas._loss import LossFormula
from accelnn.formulas.binary_cross_entropy import BinaryCrossEntropy
from accelnn.formulas.cross_entropy import CrossEntropy
from accelnn.formulas.huber import Huber
from accelnn.formulas.sum_squared_error import SumSquaredError

__all__ = ["LOSSES", "BinaryCrossEntropy", "CrossEntropy", "Huber", "SumSquaredError"]

# With their default parameters.
LOSSES: dict[str, LossFormula] = {
    formula.name: formula
    for formula in (CrossEntropy(), SumSquaredError(), BinaryCrossEntropy(), Huber())
}
# The names again: type checkers cannot derive them.
LossName: TypeAlias = Literal["cross_entropy", "sum_squared_error", "binary_cross_entropy", "huber"]
