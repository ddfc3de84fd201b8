"""What is needed where work is done elsewhere."""

import importlib.util
import multiprocessing
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import accelnn

# Worker processes import what they are sent by its module's name.
sys.path.insert(0, str(Path(__file__).parent))

# As root, with more processes than processors, and on this machine alone: what Open MPI must be
# told, and MPICH's launcher.
MPI = {
    "HYDRA_IFACE": "lo",
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "OMPI_MCA_rmaps_base_oversubscribe": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
    "OMPI_MCA_btl_tcp_if_include": "lo",
    "OPENBLAS_NUM_THREADS": "1",
}
SECONDS = 90


@pytest.fixture(scope="session")
def lacking(request):
    """Return what skips, or with ``--require-workers`` fails, for the reason it is given."""
    return pytest.fail if request.config.getoption("--require-workers") else pytest.skip


def _needs(lacking, package):
    if importlib.util.find_spec(package) is None:
        lacking(f"{package} is not installed (pip install --group workers)")


@pytest.fixture
def joblib(lacking):
    _needs(lacking, "joblib")
    import joblib

    return joblib


@pytest.fixture(scope="module")
def dask(lacking):
    """Return a client of a new cluster of two processes."""
    _needs(lacking, "distributed")
    import distributed

    with (
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            # Its server starts in any case; this is a port that nobody else has.
            dashboard_address="127.0.0.1:0",
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@pytest.fixture(scope="session")
def mpi(lacking):
    """Return what runs a script in three processes of MPI, of which two are workers."""
    _needs(lacking, "mpi4py")
    # That of this environment, if it has one, because it fits its mpi4py.
    places = [str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]
    mpiexec = shutil.which("mpiexec", path=os.pathsep.join(places))
    if mpiexec is None:
        lacking("mpiexec is not installed (pip install --group workers)")
    environment = os.environ | MPI | {"PYTHONPATH": str(Path(accelnn.__file__).parents[1])}

    def run(*arguments, count=3):
        return subprocess.run(
            [mpiexec, "-n", str(count), sys.executable, *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS,
            env=environment,
        )

    tried = run("-c", "from mpi4py import MPI; print(MPI.COMM_WORLD.Get_size())", count=2)
    # Their lines may come as one.
    if "".join(tried.stdout.split()) != "22":
        lacking(f"{mpiexec} does not work with this mpi4py: {tried.stdout}{tried.stderr}")
    return lambda *arguments: run("-m", "mpi4py.futures", *arguments)


@pytest.fixture
def spawn():
    return multiprocessing.get_context("spawn")
