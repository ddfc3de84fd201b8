"""A compiler for functions that only kernels call, which leaves machine code to the kernels.

Numba optimises every function by itself and makes machine code of it, and then again in each
function that calls it. For those that no Python code calls the first time is wasted, and it is half
of the time that a kernel takes to compile.
"""

from typing import Any

from llvmlite import binding
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.core.compiler_machinery import FunctionPass, register_pass
from numba.core.typed_passes import NopythonTypeInference

__all__ = ["PartCompiler"]


class PartLibrary(JITCodeLibrary):
    """LLVM's code of one function, to be linked into others and never run by itself."""

    def _optimize_final_module(self) -> None:
        pass

    def _finalize_final_module(self) -> None:
        self._finalize_dynamic_globals()
        self._verify_declare_only_symbols()
        # Numba writes the function's environment to this variable, which must exist.
        codegen: Any = self._codegen
        names = [v.name for v in self._final_module.global_variables if "NumbaEnv" in v.name]
        variables = "".join(f'@"{name}" = common global i64 0\n' for name in names)
        self._kept = codegen._add_module(binding.parse_assembly(variables))  # noqa: SLF001
        codegen._engine.finalize_object()  # noqa: SLF001 - Numba has no public API for any of it
        self._finalized = True


@register_pass(mutates_CFG=False, analysis_only=True)
class _MakePart(FunctionPass):
    """Give the function that is compiled a library of that kind."""

    _name = "accelnn_make_part"

    def __init__(self) -> None:
        FunctionPass.__init__(self)

    def run_pass(self, state: Any) -> bool:
        state.library = PartLibrary(state.targetctx.codegen(), state.func_id.func_qualname)
        state.library.enable_object_caching()
        return False


class PartCompiler(CompilerBase):
    """Numba's compiler, with that step before the code is written."""

    def define_pipelines(self) -> list[Any]:
        """Return the passes."""
        passes = DefaultPassBuilder.define_nopython_pipeline(self.state)
        passes.add_pass_after(_MakePart, NopythonTypeInference)
        passes.finalize()
        return [passes]
