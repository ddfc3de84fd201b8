"""Download of the full MNIST into a cache folder, from the first mirror that has it intact."""

import gzip
import hashlib
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from logging import WARNING
from pathlib import Path
from typing import Any

from accelnn._optional import import_optional
from accelnn.datasets._download_bar import DownloadBar
from accelnn.errors import DatasetError

__all__ = ["MIRRORS", "MNIST_SHA256", "fetch_mnist"]

# Hashes of the uncompressed content, because gzip streams depend on the compressor.
MNIST_SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}

MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)

_REMEDY = (
    "Set ACCELNN_DATA_DIR to a folder with the four MNIST files, or use the images that come with "
    'accelnn: load_mnist(subset="5k").'
)
_CHUNK_BYTES = 1 << 16


def fetch_mnist(
    folder: Path | None = None,
    *,
    files: Mapping[str, str] = MNIST_SHA256,
    mirrors: Sequence[str] = MIRRORS,
    progress: bool = False,
    timeout: float = 30.0,
) -> Path:
    """Download the files that are missing or damaged in a folder, and return the folder.

    They are replaced together, once all of them have arrived, so that a failure leaves the folder
    unchanged.

    Parameters
    ----------
    folder : pathlib.Path, optional
        Where the uncompressed files are kept. By default the folder ``mnist`` in the operating
        system's cache folder for accelnn.
    files : mapping of str to str
        The SHA-256 of the uncompressed content for each file name.
    mirrors : sequence of str
        URLs under which the files are published, as ``NAME.gz``. They are tried in turn.
    progress : bool, default False
        Show a progress bar for each file.
    timeout : float, default 30.0
        Seconds to wait for a mirror to answer, or to send its next bytes.

    Returns
    -------
    pathlib.Path
        The folder.

    Raises
    ------
    DatasetError
        If no mirror delivers a file intact, or if the folder cannot be written to.
    MissingDependencyError
        If pooch is not installed.
    """
    feature = 'The full MNIST with no folder given (subset="5k" needs no package)'
    pooch = import_optional("pooch", feature=feature, extra="data")
    if folder is None:
        folder = Path(pooch.os_cache("accelnn")) / "mnist"
    wanted = {
        name: sha256 for name, sha256 in files.items() if not _is_intact(folder / name, sha256)
    }

    def fetch_file(name: str, staging: Path) -> None:
        _fetch_from_any(name, wanted[name], mirrors, staging, progress=progress, timeout=timeout)

    try:
        with _pooch_is_quiet(pooch):
            _replace_together(folder.absolute(), list(wanted), fetch_file)
    except OSError as error:
        msg = f"cannot write MNIST to the cache folder {folder}: {error}. {_REMEDY}"
        raise DatasetError(msg) from error
    return folder


def _is_intact(path: Path, sha256: str) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == sha256


@contextmanager
def _pooch_is_quiet(pooch: Any) -> Iterator[None]:
    # The level is restored, because all users of pooch in the process share the logger.
    logger = pooch.get_logger()
    level = logger.level
    logger.setLevel(WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


def _replace_together(
    folder: Path, names: Sequence[str], fetch_file: Callable[[str, Path], None]
) -> None:
    """Fetch files next to `folder`, and move them in once all of them are complete."""
    if not names:
        return
    # On the file system of `folder`, so that moves are atomic, but without creating it.
    nearest = next(parent for parent in (folder, *folder.parents) if parent.is_dir())
    with tempfile.TemporaryDirectory(prefix=".accelnn-mnist-", dir=nearest) as staging:
        for name in names:
            fetch_file(name, Path(staging))
        folder.mkdir(parents=True, exist_ok=True)
        for name in names:
            (Path(staging) / name).replace(folder / name)


def _fetch_from_any(
    name: str, sha256: str, mirrors: Sequence[str], staging: Path, *, progress: bool, timeout: float
) -> None:
    """Fetch one file from the first mirror that delivers it intact."""
    pooch = import_optional("pooch", feature="A download", extra="data")
    requests = import_optional("requests", feature="A download", extra="data")
    # Not OSError, because a full disk is no fault of a mirror.
    faults = (requests.RequestException, gzip.BadGzipFile, EOFError, zlib.error, ValueError)
    failures = []
    for mirror in mirrors:
        url = f"{mirror.rstrip('/')}/{name}.gz"
        try:
            pooch.retrieve(
                url,
                known_hash=f"sha256:{sha256}",
                fname=name,
                path=staging,
                downloader=_gunzip_downloader(name, progress=progress, timeout=timeout),
            )
        except faults as error:
            failures.append(f"\n  {url}\n    {type(error).__name__}: {error}")
        else:
            return
    msg = f"cannot download {name}; every mirror failed:{''.join(failures)}\n{_REMEDY}"
    raise DatasetError(msg)


def _gunzip_downloader(
    name: str, *, progress: bool, timeout: float
) -> Callable[[str, str, object], None]:
    """Return a downloader for pooch that decompresses, so that pooch hashes the content."""
    pooch = import_optional("pooch", feature="A download", extra="data")

    def download(url: str, output_file: str, _pooch: object) -> None:
        with DownloadBar(name) as bar, tempfile.TemporaryFile() as packed:
            fetch = pooch.HTTPDownloader(
                progressbar=bar if progress else False,
                chunk_size=_CHUNK_BYTES,
                timeout=timeout,
                # With a content encoding the length would not be that of the file, and requests
                # would decompress it.
                headers={"Accept-Encoding": "identity"},
            )
            fetch(url, packed, None)
            packed.seek(0)
            with gzip.open(packed) as content, Path(output_file).open("wb") as output:
                shutil.copyfileobj(content, output)

    return download
