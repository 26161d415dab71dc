"""Files that are whole or not there, whatever happens while they are written, and folders with one writer at a time."""

import contextlib
import errno
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dampen.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

RUNS = Path("dampen-runs")
"""Where `dampen tune` keeps studies."""
_SCRATCH = ".dampen-tmp-"  # begins the name of what is being written; no other program's file has such a name
_SCRATCH_NAME = re.compile(re.escape(_SCRATCH) + r"[a-z0-9_]{8}(\.[A-Za-z0-9]{1,8})?")
_LONGEST_WORD = 30  # letters: a longer one is cut
_HEAD = 1 << 20  # bytes by which a file is known
_LOCK, _STAGE = ".dampen-lock", ".dampen-staged"


def write_whole(target: Path, writer: Callable[[Path], object]) -> None:
    """Let `writer` write a file beside the one that is meant, then put it in its place.

    Raises:
        InputError: it can't be written; nothing has changed then.
    """
    with as_input_error(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        ending = target.suffix if re.fullmatch(r"\.[A-Za-z0-9]{1,8}", target.suffix) else ""
        handle, scratch = tempfile.mkstemp(dir=target.parent, prefix=_SCRATCH, suffix=ending)  # some look at the ending
        os.close(handle)
        try:
            writer(Path(scratch))
            os.chmod(scratch, 0o666 & ~_umask())
            os.replace(scratch, target)
        except BaseException:
            Path(scratch).unlink(missing_ok=True)
            raise


@contextlib.contextmanager
def as_input_error(target: Path) -> Iterator[None]:
    """Turn the error of the system, or of a library, about a file that can't be written into one line.

    Raises:
        InputError: it can't.
    """
    from safetensors import SafetensorError

    try:
        yield
    except OSError as e:
        raise InputError(f"{shortened(target)} can't be written: {_reason(e)}") from e
    except SafetensorError as e:
        raise InputError(f"{shortened(target)} can't be written: {_reason_in_words(str(e))}") from e
    except UnicodeEncodeError as e:  # some libraries want UTF-8, where a name may be any bytes
        raise InputError(f"{shortened(target)} can't be written: a name in it is not UTF-8; rename it") from e
    except RuntimeError as e:  # zipfile's and torch's way to pass on the system's refusal
        if isinstance(cause := e.__context__, OSError):
            raise InputError(f"{shortened(target)} can't be written: {_reason(cause)}") from e
        raise


@contextlib.contextmanager
def staged(folder: Path, names: Sequence[str]) -> Iterator[Path]:
    """Give a new folder within a folder; the files written to it take their places when all of them are whole.

    A kill on the way leaves that new folder, which marks the others as its own (`is_staged`).

    Args:
        folder: where files end up; those of `names` that are not written anew are removed from it.
        names: of all files that can be.
    """
    stage = folder / _STAGE
    remove(stage)
    stage.mkdir()
    try:
        yield stage
    except BaseException:
        remove(stage)
        raise
    written = sorted(entry.name for entry in stage.iterdir())
    for name in written:
        os.replace(stage / name, folder / name)
    for name in set(names) - set(written):
        (folder / name).unlink(missing_ok=True)
    remove(stage)


def is_staged(folder: Path) -> bool:
    """Return whether somebody was killed who put files into place in a folder."""
    return (folder / _STAGE).is_dir()


def tidy(folder: Path) -> None:
    """Remove what writers left in a folder when they were killed; files of any other name stay."""
    with contextlib.suppress(OSError):
        for entry in folder.iterdir():
            if _SCRATCH_NAME.fullmatch(entry.name):
                remove(entry)


def folders_in(folder: Path) -> list[Path]:
    """Return the folders in a folder, links left out; none where there is no such folder."""
    with contextlib.suppress(OSError):
        return [entry for entry in folder.iterdir() if entry.is_dir() and not entry.is_symlink()]
    return []


def is_own(name: str) -> bool:
    """Return whether a file's name is one that only dampen gives, to what is gone when it has finished."""
    return name in (_LOCK, _STAGE) or _SCRATCH_NAME.fullmatch(name) is not None


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there and can be."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Be the only one that writes to a folder, which is made where it is missing, and gone again if it stays empty.

    A lock that a killed process left does not hold: the system lets go of it.

    Raises:
        InputError: another process writes to it, or it can't be written to.
    """
    from filelock import FileLock, Timeout

    if exists(folder) and not folder.is_dir():
        raise InputError(f"{folder} is a file: name a folder")
    lock = FileLock(folder / _LOCK, timeout=0)
    with as_input_error(folder):
        made = _missing(folder)
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire()
        except Timeout:
            raise InputError(
                f"another process is writing to {folder}: wait until it has ended, or choose another folder"
            ) from None
        except OSError as e:
            if e.errno not in (errno.EROFS, errno.EACCES, errno.EPERM):
                raise  # a folder that can't be written to may still be read: a finished study, for one
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            os.unlink(folder / _LOCK)  # while it is held, so that no process waits at a file that is gone
        lock.release()
        with contextlib.suppress(OSError):  # not empty: there is something to keep
            for path in made:
                path.rmdir()


def is_locked(folder: Path) -> bool:
    """Return whether a process writes to a folder now."""
    from filelock import FileLock, Timeout

    if not (folder / _LOCK).exists():
        return False
    try:
        with FileLock(folder / _LOCK, timeout=0):
            return False
    except Timeout:
        return True
    except OSError:  # it can't be written to
        return False


def shortened(text: object, most: int = 200) -> str:
    """Return a text, its middle left out where it is longer than a line can be; words stay whole."""
    whole = str(text)
    if len(whole) <= most:
        return whole
    half = (most - 5) // 2
    start, end = whole[:half], whole[-half:]
    left, right = start.rpartition(" ")[0], end.partition(" ")[2]
    if whole[half] != " " and len(left) > half - _LONGEST_WORD:
        start = left
    if whole[-half - 1] != " " and len(right) > half - _LONGEST_WORD:
        end = right
    return f"{start.rstrip()} ... {end.lstrip()}"


def counted(n: int, word: str) -> str:
    """Return a number of things in words.

    >>> counted(1, "member"), counted(2, "member")
    ('1 member', '2 members')
    """
    return f"{n} {word}{'s' * (n != 1)}"


def read_head(file: Path) -> bytes:
    """Return the first bytes of a file, by which it is known; none of what is no file."""
    if not file.is_file():
        return b""
    with file.open("rb") as stream:
        return stream.read(_HEAD)


def refuse_foreign(target: Path, is_ours: Callable[[bytes], bool], what: str) -> None:
    """Refuse to replace a file that dampen has not written; an empty one holds nothing that could be lost.

    Args:
        target: what is to be written.
        is_ours: whether a file whose first bytes these are is one of dampen's.
        what: dampen writes there, for the message.

    Raises:
        InputError: a file is there already, and is none of dampen's.
    """
    if not exists(target) or target.is_dir():
        return
    with as_input_error(target):
        head = read_head(target)
    if head and not is_ours(head):
        raise InputError(
            f"{shortened(target)} exists and is {what} of dampen's: it is not overwritten; choose another name, or "
            "remove it first"
        )


def _missing(folder: Path) -> list[Path]:
    """Return the folders that have to be made, the innermost first."""
    return [path for path in (folder, *folder.parents) if not path.exists()]


def _reason(e: OSError) -> str:
    code = e.errno or 0
    if code in (errno.ENOSPC, errno.EDQUOT):
        return f"{os.strerror(code)}; free some space, then do the same again"
    if code == errno.EFBIG:
        return f"{os.strerror(code)}; the system allows no file of this size"
    return os.strerror(code) if code else _reason_in_words(str(e) or type(e).__name__)


def _reason_in_words(message: str) -> str:
    """Return what a library has put around the system's own words."""
    number = re.search(r"\(os error (\d+)\)|errno (\d+)|\[Errno (\d+)\]", message)
    if number:
        code = int(next(group for group in number.groups() if group))
        return _reason(OSError(code, os.strerror(code)))
    return shortened(message.splitlines()[0])


def _umask() -> int:
    value = os.umask(0)
    os.umask(value)
    return value


def exists(path: Path) -> bool:
    """Return whether there is a file or folder.

    Raises:
        InputError: the system refuses the name: too long, a null byte.
    """
    try:
        return path.exists()
    except (OSError, ValueError) as e:
        raise InputError(f"{shortened(path)} is no name of a file: {getattr(e, 'strerror', None) or e}") from None


def save_tensors(tensors: "Mapping[str, Tensor]", file: Path, about: Mapping[str, str]) -> None:
    """Write a safetensors file whose bytes follow from what it holds: the entries of its header are in order.

    The library writes them in the order of a hash table, another one in every process.
    """
    from safetensors.torch import save_file

    save_file({name: t.contiguous() for name, t in tensors.items()}, file, dict(about))
    with file.open("r+b") as stream:
        n = int.from_bytes(stream.read(8), "little")
        header = json.loads(stream.read(n))
        header = {name: dict(sorted(of.items())) if name == "__metadata__" else of for name, of in header.items()}
        text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
        if len(text) <= n:
            stream.seek(8)
            stream.write(text.ljust(n))
