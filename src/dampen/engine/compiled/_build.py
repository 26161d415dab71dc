"""C code made a function: compiled once on a machine, kept in the user's cache, loaded."""

import contextlib
import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

import torch

FLAGS = (
    "-O3",
    "-march=native",
    "-std=gnu11",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fwrapv",
    "-fno-strict-aliasing",
    "-fopenmp",
    "-shared",
    "-fPIC",
)
_KEPT = 500  # libraries, of some 50 KiB each
_SECONDS = 120.0  # that a compiler may take


class NoCompiler(RuntimeError):
    """There is no C compiler, or none that works, or torch's products can't be called from C."""


@functools.cache
def compiler() -> str:
    """Return the C compiler.

    Raises:
        NoCompiler: there is none.
    """
    found = next(
        (path for name in (os.environ.get("CC", ""), "cc", "gcc", "clang") if (path := shutil.which(name))), None
    )
    if found is None:
        raise NoCompiler("no C compiler is installed")
    return found


@functools.cache
def products() -> tuple[int, int, int]:
    """Return the addresses of torch's own matrix products, float32 and float64, and of what sets their threads.

    Raises:
        NoCompiler: this build of torch keeps them to itself.
    """
    folder = Path(torch.__file__).parent / "lib"
    try:
        library = ctypes.CDLL(str(folder / "libtorch_cpu.so"))
        names = ("sgemm_", "dgemm_", "MKL_Set_Num_Threads_Local")
        sgemm, dgemm, threads = (ctypes.cast(getattr(library, name), ctypes.c_void_p).value for name in names)
    except (OSError, AttributeError) as e:
        raise NoCompiler("this build of torch has no products that C can call") from e
    assert sgemm is not None
    assert dgemm is not None
    assert threads is not None
    return sgemm, dgemm, threads


def built(code: str) -> ctypes.CDLL:
    """Return a loaded library of C code that defines `start(sgemm, dgemm, threads)`.

    Raises:
        NoCompiler: it can't be compiled here.
    """
    addresses = products()
    key = hashlib.sha256("\0".join([code, *FLAGS, *_machine()]).encode()).hexdigest()[:32]
    file = folder() / f"{key}.so"
    if not file.is_file():
        _compile(code, file)
        _tidy(file.parent)
    try:
        os.utime(file)  # used today
        library = ctypes.CDLL(str(file))
    except OSError as e:
        raise NoCompiler(f"{file} can't be loaded") from e
    library.start.argtypes = [ctypes.c_void_p] * 3
    library.start(*addresses)
    return library


def _tidy(place: Path) -> None:
    """Remove what has been used longest ago, beyond so many libraries; who has loaded one keeps it."""
    with contextlib.suppress(OSError):  # another process tidies, too
        for old in sorted(place.glob("*.so"), key=lambda file: file.stat().st_mtime)[:-_KEPT]:
            old.unlink()


def _compile(code: str, file: Path) -> None:
    with tempfile.TemporaryDirectory(dir=file.parent) as place:
        source, made = Path(place, "step.c"), Path(place, "step.so")
        source.write_text(code)
        command = [compiler(), *FLAGS, "-o", str(made), str(source), "-lm"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
        except (OSError, subprocess.TimeoutExpired) as e:
            raise NoCompiler(f"{command[0]} does not run: {e}") from e
        if done.returncode:
            line = next((text for text in done.stderr.splitlines() if "error" in text), "no message")
            raise NoCompiler(f"{command[0]} fails: {line}")
        made.replace(file)


@functools.cache
def folder() -> Path:
    """Return the folder of the user's cache that keeps what has been compiled; a temporary one where there is none."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    place = base / "dampen" / "compiled"
    try:
        place.mkdir(parents=True, exist_ok=True, mode=0o700)
        if place.stat().st_uid == os.getuid() and os.access(place, os.W_OK):
            return place
    except OSError:
        pass
    return Path(tempfile.mkdtemp(prefix="dampen-"))


@functools.cache
def _machine() -> tuple[str, ...]:
    """Return what compiled code depends on beside its source."""
    version = subprocess.run([compiler(), "--version"], capture_output=True, text=True, check=False).stdout
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        flags = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    except OSError:
        flags = ""
    return version, flags, platform.machine(), str(torch.__version__)
