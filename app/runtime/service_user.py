"""Turns into a PostgreSQL program: gives up root first, and ends with the proxy.

This file is run as a script by `command()`, so it imports nothing but the standard library. PostgreSQL refuses to run
as root, so a root proxy runs it as an unprivileged user. That user can't pass a 0700 directory such as /root, where
both the virtual environment and DATA_DIR may lie, and moving either elsewhere would leave state outside DATA_DIR. Hence
on Linux the program keeps one capability, and only if the kernel says that it can't do without: CAP_DAC_READ_SEARCH, or
CAP_DAC_OVERRIDE where a container lacks that one (Docker's default) or umask 077 made the binaries root's alone.
`no_new_privs` keeps the program from ever gaining more.

Capabilities are lost in three places, each of which this works around: setuid() clears them (`PR_SET_KEEPCAPS`), exec
clears them (they are made ambient), and access(2) ignores them for an ordinary user (`SECBIT_NO_SETUID_FIXUP`);
PostgreSQL looks for itself with access(2).

Fails with one line on standard error and status 1: the user can't be taken on (no CAP_SETUID, or a user namespace with
root alone), or it can't reach the files and no capability is to be had (also: any system but Linux).
"""

import ctypes
import os
import signal
import sys
from collections.abc import Callable, Sequence

PR_SET_PDEATHSIG, PR_SET_KEEPCAPS, PR_SET_SECUREBITS, PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT = 1, 8, 28, 38, 47
PR_CAP_AMBIENT_RAISE = 2
SECBIT_NO_SETUID_FIXUP = 1 << 2
CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_SETPCAP = 1, 2, 8
_CAPABILITY_VERSION_3 = 0x20080522


def command(program: Sequence[str], *, uid: int, gid: int, data: str) -> list[str]:
    """The command that becomes `program` as `uid`, which is to reach `data`; `uid` of the caller itself is fine.

    To be spawned by the thread that lives as long as the proxy: its end sends SIGINT to the program.
    """
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), str(uid), str(gid), data, *program]


def main(arguments: Sequence[str]) -> None:
    """Never returns: either the process is the program, or it has ended with the reason."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # of what Python's own handler notes, exec would know nothing
    parent, uid, gid = (int(number) for number in arguments[:3])
    data, program = arguments[3], list(arguments[4:])
    try:
        if uid != os.geteuid():
            _give_up_root(uid, gid, program[0], data)
        if sys.platform == "linux":
            # Last, since a change of user clears it; the parent may have ended before it was set.
            _prctl(PR_SET_PDEATHSIG, signal.SIGINT)
            if os.getppid() != parent:
                sys.exit("the proxy has ended")
        os.execv(program[0], program)
    except OSError as refused:
        sys.exit(f"can't run {program[0]} as uid {uid}: {refused.strerror}")


def _give_up_root(uid: int, gid: int, program: str, data: str) -> None:
    def reaches_files() -> bool:
        return os.access(program, os.X_OK) and os.access(data, os.R_OK | os.X_OK)

    if sys.platform == "linux":
        _prctl(PR_SET_KEEPCAPS, 1)
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)
    needed = 0
    if not reaches_files():
        needed = _capability_that(reaches_files) if sys.platform == "linux" else 0
        if not needed:
            sys.exit(
                f"uid {uid}, as whom root runs it, can't reach {program} and {data}: move both to where it may pass, "
                "such as /opt, grant CAP_DAC_READ_SEARCH and CAP_SETPCAP, or set DATABASE_URL"
            )
    if sys.platform == "linux":
        _set_capabilities(permitted=needed, effective=needed, inheritable=needed)
        if needed:
            _prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, needed.bit_length() - 1)
        _prctl(PR_SET_NO_NEW_PRIVS, 1)


def _capability_that(reaches_files: Callable[[], bool]) -> int:
    """The mask of the weakest capability with which this user reaches the files, 0 if none does."""
    held = _permitted()
    if not held & (1 << CAP_SETPCAP):
        return 0
    _set_capabilities(permitted=held, effective=1 << CAP_SETPCAP, inheritable=0)
    _prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP)
    for mask in (1 << CAP_DAC_READ_SEARCH, 1 << CAP_DAC_OVERRIDE):
        if held & mask:
            _set_capabilities(permitted=held, effective=mask, inheritable=0)
            if reaches_files():
                return mask
    return 0


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Sets(ctypes.Structure):
    """capget(2) gives two of these: capabilities 0 to 31, and those above."""

    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


def _permitted() -> int:
    """The permitted capabilities below 32, among which all are that matter here."""
    sets = (_Sets * 2)()
    _checked(_libc().capget(ctypes.byref(_Header(_CAPABILITY_VERSION_3, 0)), sets))
    return int(sets[0].permitted)


def _set_capabilities(*, permitted: int, effective: int, inheritable: int) -> None:
    sets = (_Sets * 2)(_Sets(effective, permitted, inheritable), _Sets(0, 0, 0))
    _checked(_libc().capset(ctypes.byref(_Header(_CAPABILITY_VERSION_3, 0)), sets))


def _prctl(option: int, *values: int) -> None:
    padded = [ctypes.c_ulong(value) for value in (*values, 0, 0, 0, 0)[:4]]
    _checked(_libc().prctl(ctypes.c_int(option), *padded))


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _checked(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


if __name__ == "__main__":
    main(sys.argv[1:])
