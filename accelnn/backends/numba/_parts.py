"""Compilers for kernels, and for functions that only kernels call, which leave more to LLVM.

Numba makes machine code of every function, after optimising it by itself, with all that it calls
linked into it, and then again in each function that calls it. For those that no Python code calls
that is wasted, and so are its passes over them for what they do not contain. All parts of a kernel
are linked once, and optimised together.
"""

from typing import Any, ClassVar

from llvmlite import binding
from numba.core import typed_passes, untyped_passes
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.core.compiler_machinery import FunctionPass, PassManager, register_pass

__all__ = ["PartCompiler", "VectorCompiler"]


class _Codegen:
    """Numba's own, without the environments of Python functions, for which there is no code."""

    def __init__(self, codegen: Any) -> None:
        self._codegen = codegen

    def __getattr__(self, name: str) -> Any:
        return getattr(self._codegen, name)

    def set_env(self, name: str, environment: Any) -> None:
        pass


class PartLibrary(JITCodeLibrary):
    """LLVM's code of one function, to be linked into kernels and never run by itself."""

    @property
    def codegen(self) -> Any:
        return _Codegen(self._codegen)

    def _optimize_functions(self, ll_module: Any) -> None:
        pass

    def finalize(self) -> None:
        self._finalized = True

    def _get_module_for_linking(self) -> Any:
        """Return the code, together with that of all functions that are called."""
        if self._shared_module is None:
            whole: Any = self._final_module.clone()
            for library in self._called():
                is_part = isinstance(library, PartLibrary)
                module = library._final_module if is_part else library._get_module_for_linking()  # noqa: SLF001
                whole.link_in(module, preserve=True)
            for function in whole.functions:
                if function.linkage == binding.Linkage.external and not function.is_declaration:
                    function.linkage = "linkonce_odr"
            self._shared_module = whole
        return self._shared_module

    def _called(self) -> list[Any]:
        """Return the libraries of all functions that are called, each once."""
        found: dict[Any, None] = {}
        ahead: list[Any] = [self]
        while ahead:
            called = ahead.pop()._linking_libraries  # noqa: SLF001
            ahead += [
                each for each in called if each not in found and isinstance(each, PartLibrary)
            ]
            found |= dict.fromkeys(called)
        return list(found)


class VectorLibrary(JITCodeLibrary):
    """LLVM's code of a kernel that consists of vectors, as many at a time as there are registers.

    LLVM need not find more, nor unswitch loops, which takes long and gains nothing.
    """

    def _optimize_functions(self, ll_module: Any) -> None:
        pass

    def _optimize_final_module(self) -> None:
        options = binding.create_pipeline_tuning_options(speed_level=2)
        options.loop_vectorization = options.slp_vectorization = False
        options.loop_interleaving = False
        codegen: Any = self._codegen
        builder = binding.create_pass_builder(codegen._tm, options)  # noqa: SLF001
        manager = builder.getModulePassManager()
        manager.add_refprune_pass()
        manager.run(self._final_module, builder)


class _MakeLibrary(FunctionPass):
    """Give the function that is compiled a library of a kind."""

    kind: ClassVar[type[JITCodeLibrary]]

    def __init__(self) -> None:
        FunctionPass.__init__(self)

    def run_pass(self, state: Any) -> bool:
        state.library = self.kind(state.targetctx.codegen(), state.func_id.func_qualname)
        state.library.enable_object_caching()
        return False


@register_pass(mutates_CFG=False, analysis_only=True)
class _MakePart(_MakeLibrary):
    _name = "accelnn_make_part"
    kind = PartLibrary


@register_pass(mutates_CFG=False, analysis_only=True)
class _MakeVectorKernel(_MakeLibrary):
    _name = "accelnn_make_vector_kernel"
    kind = VectorLibrary


class PartCompiler(CompilerBase):
    """Numba's compiler without its passes for closures, comprehensions and formulas of arrays."""

    def define_pipelines(self) -> list[Any]:
        """Return the passes."""
        passes = PassManager("accelnn_part")
        for one in (
            untyped_passes.TranslateByteCode,
            untyped_passes.FixupArgs,
            untyped_passes.IRProcessing,
            untyped_passes.GenericRewrites,
            untyped_passes.ReconstructSSA,
            typed_passes.NopythonTypeInference,
            _MakePart,
            typed_passes.PreLowerStripPhis,
            typed_passes.IRLegalization,
            typed_passes.NativeLowering,
            typed_passes.NoPythonBackend,
        ):
            passes.add_pass(one, one.__name__)
        passes.finalize()
        return [passes]


class VectorCompiler(CompilerBase):
    """Numba's compiler, for kernels that consist of vectors."""

    def define_pipelines(self) -> list[Any]:
        """Return the passes."""
        passes = DefaultPassBuilder.define_nopython_pipeline(self.state)
        passes.add_pass_after(_MakeVectorKernel, typed_passes.NopythonTypeInference)
        passes.finalize()
        return [passes]
