"""Runs scripts of system calls in a directory and prints what came of each step: the one language of the tests that compare two trees.

    python3 syscalls.py DIRECTORY < {"name": ["mkdir d 0755", "1001:1002 unlink d/f", ...], ...} > outcomes

A step is a call and its arguments; before it, perhaps, who makes it: UID:GID[,GROUP...].  A ~ before a step says that it only prepares: nothing
is told of it, but it must succeed.  @N stands for a name of N bytes, @path/N for
a path of N bytes.  Each script runs in a fresh directory (mode 0777, umask 022).  An outcome is the result or the errno's
name, and for each path that the script has named so far its attributes and which of its times the step has changed.  atime is told apart only
by the calls that set it.
"""

import ctypes
import errno
import json
import os
import re
import socket
import stat
import sys
import time

libc = ctypes.CDLL(None, use_errno=True)
AT_FDCWD, AT_SYMLINK_NOFOLLOW, AT_SYMLINK_FOLLOW, AT_EMPTY_PATH = -100, 0x100, 0x400, 0x1000
UTIME_NOW, UTIME_OMIT = (1 << 30) - 1, (1 << 30) - 2


class Held(dict):
    """Descriptors by the scripts' names for them."""

    def __missing__(self, key):
        raise OSError(errno.EBADF, "not open")


held = Held()


class Timespec(ctypes.Structure):
    _fields_ = [("sec", ctypes.c_long), ("nsec", ctypes.c_long)]


def raw(name, *args):
    """A call of the C library, as Python's own wrappers check too much."""
    ctypes.set_errno(0)
    result = getattr(libc, name)(*[a.encode("utf-8", "surrogateescape") if isinstance(a, str) else a for a in args])
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def number(text):
    total = 0
    for word in str(text).split("|"):
        if word in ("NOW", "OMIT"):
            total |= {"NOW": UTIME_NOW, "OMIT": UTIME_OMIT}[word]
        elif word.startswith("O_"):
            total |= getattr(os, word)
        else:
            total |= int(word, 8) if re.fullmatch(r"0[0-7]+", word) else int(word)
    return total


def opened(path, flags, mode=0o644):
    fd = raw("open", path, number(flags), number(mode))
    os.close(fd)


def created(path, mode):
    opened(path, "O_CREAT|O_EXCL|O_WRONLY", mode)


def made(path, mode, kind, device=0):
    bits = {"file": stat.S_IFREG, "fifo": stat.S_IFIFO, "char": stat.S_IFCHR, "block": stat.S_IFBLK, "socket": stat.S_IFSOCK}
    raw("mknod", path, bits[kind] | number(mode), ctypes.c_ulong(number(device)))


def bound(path):
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(path)


def utimensat(target, atime, mtime, flags=0):
    """Times as SECONDS.NANOSECONDS, NOW or OMIT."""
    def spec(text):
        if text in ("NOW", "OMIT"):
            return Timespec(0, number(text))
        sec, _, nsec = text.partition(".")
        return Timespec(int(sec), int(nsec or 0))
    pair = (Timespec * 2)(spec(atime), spec(mtime))
    if isinstance(target, int):
        raw("futimens", target, pair)
    else:
        raw("utimensat", AT_FDCWD, target, pair, flags)


def hold(key, path, flags, mode=0o644):
    held[key] = raw("open", path, number(flags), number(mode))


def described(st):
    size = 0 if stat.S_ISDIR(st.st_mode) else st.st_size
    return [oct(st.st_mode), st.st_nlink, st.st_uid, st.st_gid, size, st.st_rdev]


def times(st):
    return [st.st_atime_ns, st.st_mtime_ns]


CALLS = { "open": opened, "create": created, "mkdir": lambda p, mode: raw("mkdir", p, number(mode)), "mkfifo": lambda p,
        mode: raw("mkfifo", p, number(mode)), "mknod": made, "bind": bound, "symlink": lambda target, p: raw("symlink", target, p),
        "readlink": os.readlink, "link": lambda a, b: raw("link", a, b), "linkat": lambda a, b,
        flags: raw("linkat", AT_FDCWD, a, AT_FDCWD, b, number(flags)), "unlink": lambda p: raw("unlink", p), "unlinkat": lambda p,
        flags: raw("unlinkat", AT_FDCWD, p, number(flags)), "rmdir": lambda p: raw("rmdir", p), "rename": lambda a,
        b: raw("rename", a, b), "renameat2": lambda a, b, flags: raw("renameat2", AT_FDCWD, a, AT_FDCWD, b, number(flags)),
        "chmod": lambda p, mode: raw("chmod", p, number(mode)), "chown": lambda p, u, g: raw("chown", p, number(u), number(g)),
        "lchown": lambda p, u, g: raw("lchown", p, number(u), number(g)), "truncate": lambda p,
        n: raw("truncate", p, ctypes.c_long(number(n))), "utimens": lambda p, a, m: utimensat(p, a, m), "lutimens": lambda p, a,
        m: utimensat(p, a, m, AT_SYMLINK_NOFOLLOW), "access": lambda p, mode: raw("access", p, number(mode)), "eaccess": lambda p,
        mode: raw("faccessat", AT_FDCWD, p, number(mode), 0x200), "stat": lambda p: described(os.stat(p)),
        "lstat": lambda p: described(os.lstat(p)), "times": lambda p: times(os.lstat(p)), "list": lambda p: sorted(os.listdir(p)),
        "hold": hold, "close": lambda k: os.close(held[k]) or held.pop(k) and None, "write": lambda k,
        text: os.write(held[k], text.encode()), "pwrite": lambda k, text, at: os.pwrite(held[k], text.encode(), number(at)),
        "read": lambda k, n: os.read(held[k], number(n)).decode(), "pread": lambda k, n,
        at: os.pread(held[k], number(n), number(at)).decode(), "fstat": lambda k: described(os.fstat(held[k])), "fchmod": lambda k,
        mode: os.fchmod(held[k], number(mode)), "fchown": lambda k, u, g: os.fchown(held[k], number(u), number(g)),
        "ftruncate": lambda k, n: raw("ftruncate", held[k], ctypes.c_long(number(n))), "futimens": lambda k, a,
        m: utimensat(held[k], a, m), "fsync": lambda k: os.fsync(held[k]), "flink": lambda k,
        p: raw("linkat", AT_FDCWD, f"/proc/self/fd/{held[k]}", AT_FDCWD, p, AT_SYMLINK_FOLLOW), "fallocate": lambda k, at,
        n: os.posix_fallocate(held[k], number(at), number(n)), "umask": lambda mode: os.umask(number(mode)) and None,
        "getxattr": lambda p, name: os.getxattr(p, name, follow_symlinks=False).hex(), "setxattr": lambda p, name, value,
        flags=0: os.setxattr(p, name, bytes.fromhex(value), number(flags), follow_symlinks=False),
        "listxattr": lambda p: sorted(os.listxattr(p, follow_symlinks=False)), "removexattr": lambda p,
        name: os.removexattr(p, name, follow_symlinks=False), "chdir": os.chdir, }
PATHS = {"hold": (1,), "symlink": (1,), "flink": (1,), "link": (0, 1), "linkat": (0, 1), "rename": (0, 1), "renameat2": (0, 1)}
NO_PATHS = {"umask", "close", "write", "pwrite", "read", "pread", "fstat", "fchmod", "fchown", "ftruncate", "futimens", "fsync",
        "fallocate"}
SETS_ATIME = {"utimens", "lutimens", "futimens"}


def expand(word):
    if word.startswith("@path/"):
        n = int(word[6:])
        return ("./" * n)[:n - 1] + "x" if n % 2 else ("./" * n)[:n - 2] + "xx"
    return re.sub(r"@(\d+)", lambda m: "n" * int(m[1]), word)


def become(who):
    os.seteuid(0)
    os.setegid(0)
    os.setgroups([])
    if who:
        uid, _, gids = who.partition(":")
        gids = [int(g) for g in gids.split(",")]
        os.setgroups(gids[1:])
        os.setegid(gids[0])
        os.seteuid(int(uid))


def wait_for_tick():
    """Until the clock that file systems stamp with has moved on, so that a time that is set anew is another one."""
    before = time.clock_gettime(6)  # CLOCK_REALTIME_COARSE
    while time.clock_gettime(6) <= before:
        time.sleep(0.0005)


def look(paths):
    seen = {}
    for p in paths:
        try:
            seen[p] = os.lstat(p)
        except OSError:
            pass
    return seen


def changes(before, after, with_atime):
    told = {}
    for p, st in after.items():
        old = before.get(p)
        same = old is not None and old.st_ino == st.st_ino
        changed = "new" if not same else "".join( c for c, a, b in (("a", old.st_atime_ns, st.st_atime_ns),
                ("m", old.st_mtime_ns, st.st_mtime_ns), ("c", old.st_ctime_ns, st.st_ctime_ns)) if a != b
                and (c != "a" or (with_atime and not stat.S_ISLNK(st.st_mode))))
        told[p] = described(st) + [changed]
    return told


def run_step(text, paths, outcomes):
    words = text.split(" ")
    who = words.pop(0) if re.match(r"\d+:\d", words[0]) else ""
    call, args = words[0], [expand(w) for w in words[1:]]
    if call not in NO_PATHS:
        for i in PATHS.get(call, (0,)):
            if len(args[i]) < 250 and args[i] not in paths:
                paths.append(args[i])
    before = look(paths)
    wait_for_tick()
    try:
        become(who)
        result = CALLS[call](*args)
    except OSError as e:
        result = errno.errorcode.get(e.errno, e.errno)
    finally:
        become("")
    outcomes.append([text, result, changes(before, look(paths), call in SETS_ATIME)])


def run_script(steps):
    """In the working directory."""
    paths, outcomes = ["."], []
    umask = os.umask(0o022)
    for step in steps:
        if step.startswith("~"):
            call, *args = step[1:].split(" ")
            CALLS[call](*map(expand, args))
        else:
            run_step(step, paths, outcomes)
    os.umask(umask)
    for fd in held.values():
        os.close(fd)
    held.clear()
    return outcomes


def main():
    os.chdir(sys.argv[1])
    scripts, result = json.load(sys.stdin), {}
    top = os.open(".", os.O_RDONLY)
    for i, (name, steps) in enumerate(scripts.items()):
        os.mkdir(f"s{i}")
        os.chmod(f"s{i}", 0o777)
        os.chdir(f"s{i}")
        result[name] = run_script(steps)
        os.fchdir(top)
    json.dump(result, sys.stdout)


if __name__ == "__main__":
    main()
