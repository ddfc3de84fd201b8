"""Where rows come from: tests at the commit that was read, and reports."""

GITHUB = "https://github.com"

SCIPY_NUMDIFF = (
    f"{GITHUB}/scipy/scipy/blob/021ea184ee7bffac2a7f5222e87a19938d43ad34"
    "/scipy/optimize/tests/test__numdiff.py"
)
SCIPY_DIFFERENTIATE = (
    f"{GITHUB}/scipy/scipy/blob/0935f7e903c5a47e4da97d063dec54e91689d37a"
    "/scipy/differentiate/tests/test_differentiate.py"
)
SCIPY_CHECK_GRAD = (
    f"{GITHUB}/scipy/scipy/blob/f5d81be2325f147cf55e9771a8f5828a502815a0"
    "/scipy/optimize/tests/test_optimize.py"
)
SCIPY_MINIMA = (
    f"{GITHUB}/scipy/scipy/blob/3e671535216614b3308918f128305f68fd90f3f8"
    "/benchmarks/benchmarks/go_benchmark_functions/go_funcs_B.py"
)
NUMDIFFTOOLS = (
    f"{GITHUB}/pbrod/numdifftools/blob/0a834f1e86291dea9fe854188d0b31a98bce9422"
    "/src/numdifftools/tests/test_numdifftools.py"
)
NUMDIFFTOOLS_EXAMPLES = (
    f"{GITHUB}/pbrod/numdifftools/blob/1628f2c97bc334015ac0c1f2bb7680761be7ce90"
    "/src/numdifftools/tests/test_example_functions.py"
)
NUMDIFFTOOLS_HAMILTONIAN = (
    f"{GITHUB}/pbrod/numdifftools/blob/0c025c4287d0f17c0775d27c955eec8735ec79a5"
    "/src/numdifftools/tests/hamiltonian.py"
)
JACOBI = (
    f"{GITHUB}/HDembinski/jacobi/blob/03498713083e2b20ddc43aa4b48588647adbcacf/tests/test_jacobi.py"
)
STATSMODELS = (
    f"{GITHUB}/statsmodels/statsmodels/blob/022bfcf99bb6808c661bace9a97b2f4e82405531"
    "/statsmodels/tools/tests/test_numdiff.py"
)
CALCULUS = (
    f"{GITHUB}/JuliaMath/Calculus.jl/blob/13fa2304f46a654ccebf7159abe4d20f20c7051c"
    "/test/finite_difference.jl"
)
CALCULUS_DERIVATIVE = (
    f"{GITHUB}/JuliaMath/Calculus.jl/blob/28ca73d1e09a787b1e18b3b6c96e53a3ce05764a"
    "/test/derivative.jl"
)
FINITE_DIFFERENCES = (
    f"{GITHUB}/JuliaDiff/FiniteDifferences.jl/blob/04d8ab6b9d6c73fcd5a327c600e1c0087ef58762"
    "/test/methods.jl"
)
FINITE_DIFFERENCES_GRAD = (
    f"{GITHUB}/JuliaDiff/FiniteDifferences.jl/blob/0645a7afb97de31028fedd8076729b77590322b2"
    "/test/grad.jl"
)
FINITE_DIFF = (
    f"{GITHUB}/JuliaDiff/FiniteDiff.jl/blob/00a0cf585978fe15021dc0e743432ca79c7501c1"
    "/test/finitedifftests.jl"
)
FINITE_DIFF_JVP = (
    f"{GITHUB}/JuliaDiff/FiniteDiff.jl/blob/b7a79e9b8003b77ff55c42bed06d7a8666779477"
    "/test/jvp_accuracy_tests.jl"
)
FINITE_DIFF_COLORING = (
    f"{GITHUB}/JuliaDiff/FiniteDiff.jl/blob/0b90bf42bcc2b69b6724e1b37ce58c60fcb2d132"
    "/test/coloring_tests.jl"
)
AUTOGRAD_SCALARS = (
    f"{GITHUB}/HIPS/autograd/blob/06394705bff11cf285d0b62d9296f97cc0362aef/tests/test_scalar_ops.py"
)
AUTOGRAD_WRAPPERS = (
    f"{GITHUB}/HIPS/autograd/blob/000f667fbafcec6687d5075bd4769643344f185d/tests/test_wrappers.py"
)
AUTOGRAD_CHECKS = (
    f"{GITHUB}/HIPS/autograd/blob/03b7ac8ece9aa0d00ba54846af25ff914017de26/tests/test_tests.py"
)
AUTOGRAD_DICT = (
    f"{GITHUB}/HIPS/autograd/blob/03b7ac8ece9aa0d00ba54846af25ff914017de26/tests/test_dict.py"
)
AUTOGRAD_JACOBIAN = (
    f"{GITHUB}/HIPS/autograd/blob/03b7ac8ece9aa0d00ba54846af25ff914017de26/tests/test_jacobian.py"
)
JAX_CHECK_GRADS = (
    f"{GITHUB}/jax-ml/jax/blob/055a88344ffe252fd8d57d5470c3201493aeb5b8"
    "/jax/_src/public_test_util.py"
)


def issue(repository: str, number: int) -> str:
    """Return the address of a report."""
    return f"{GITHUB}/{repository}/issues/{number}"


def pull(repository: str, number: int) -> str:
    """Return the address of a change."""
    return f"{GITHUB}/{repository}/pull/{number}"
