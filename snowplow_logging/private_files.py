"""Files for their owner alone: made so whatever the umask, and opened through no link."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import tempfile
from typing import Final

__all__ = ["check_private", "open_private", "replace_private"]

_SAFELY: Final = (
    getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)  # a pipe with nobody at its other end is not waited for
    | getattr(os, "O_NOCTTY", 0)
    | getattr(os, "O_BINARY", 0)
)
_IS_LINK: Final = {errno.ELOOP, getattr(errno, "EMLINK", errno.ELOOP)}


def open_private(path: str, flags: int) -> int:
    """Open a file, and make one that only its owner may read where `O_CREAT` asks for it.

    A file that is there already keeps its mode: who gave others access to it meant to.

    Args:
        path: Where it is.
        flags: As `os.open` takes them, but for `O_TRUNC`, which would empty a file before it is
            known to be no other's; `replace_private` writes one anew.

    Returns:
        The file descriptor.

    Raises:
        OSError: It cannot be opened; or a link or something that is no file is in its place; or,
            in a folder that anyone may write to, a file that another user has put there.
    """
    if os.path.islink(path):  # noqa: PTH114 - a str; for systems without O_NOFOLLOW
        raise _refused(path, "is a symbolic link, which is not followed")
    made = False
    try:
        try:
            descriptor = os.open(path, (flags & ~os.O_CREAT) | _SAFELY)
        except FileNotFoundError:
            if not flags & os.O_CREAT:
                raise
            # By O_EXCL nothing that was put there meanwhile is taken for a new file.
            descriptor, made = os.open(path, flags | os.O_EXCL | _SAFELY, 0o600), True
    except FileExistsError:
        return open_private(path, flags)  # another thread or process has just made it
    except OSError as error:
        if error.errno in _IS_LINK:
            raise _refused(path, "is a symbolic link, which is not followed") from None
        if error.errno == errno.ENXIO:
            raise _refused(path, "is not a file") from None
        raise
    try:
        if made and hasattr(os, "fchmod"):
            os.fchmod(descriptor, 0o600)  # a umask may have taken even the owner's right to read
        _check(os.fstat(descriptor), path)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def replace_private(path: str | os.PathLike[str], content: bytes) -> None:
    """Put a file that only its owner may read in the place of one, if there is one: whole at once.

    Args:
        path: Where it is to be. A link in its place is replaced, and not followed.
        content: What it holds.

    Raises:
        OSError: It cannot be written; what was there before is still there.
    """
    folder, name = os.path.split(os.path.abspath(path))  # noqa: PTH100 - `resolve` follows links
    # Under a name that nobody can know beforehand, and so can have put a link at.
    descriptor, new = tempfile.mkstemp(prefix=f"{name}.", suffix=".new", dir=folder)
    try:
        if hasattr(os, "fchmod"):
            os.fchmod(descriptor, 0o600)  # a umask may have taken even that
        with open(descriptor, "wb") as file:  # noqa: PTH123 - it is open
            file.write(content)
        os.replace(new, path)  # noqa: PTH105 - in full, whenever the process is killed
    except BaseException:
        with contextlib.suppress(OSError):
            os.remove(new)  # noqa: PTH107 - it is a str
        raise


def check_private(path: str, *, may_have_links: bool = False) -> None:
    """Check that what is at a path, if anything is, may be opened by others than `open_private`.

    It is not opened: to close a file that SQLite has open as well would let go of SQLite's locks.

    Args:
        path: Where it is.
        may_have_links: Whether the file may have a second name.

    Raises:
        OSError: It may not, as `open_private` has it.
    """
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return
    if stat.S_ISLNK(status.st_mode):
        raise _refused(path, "is a symbolic link, which is not followed")
    _check(status, path, may_have_links=may_have_links)


def _check(status: os.stat_result, path: str, *, may_have_links: bool = False) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise _refused(path, "is not a file")
    if not hasattr(os, "geteuid"):
        return
    folder = os.stat(os.path.dirname(path) or ".")  # noqa: PTH116, PTH120 - the path is a str
    is_linked = status.st_nlink > 1 and not may_have_links
    is_others = status.st_uid != os.geteuid() or is_linked
    if is_others and folder.st_mode & stat.S_IWOTH:
        raise _refused(path, "is another user's, in a folder that anyone may write to")


def _refused(path: str, reason: str) -> OSError:
    return PermissionError(f"{path} {reason}")
