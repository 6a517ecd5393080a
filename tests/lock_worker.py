"""A process that locks files as it is told: JSON on stdin and stdout, one line a command.  An errno comes back as a negative number."""

import fcntl
import json
import os
import signal
import struct
import sys

FLOCK = "hh4xqqi4x"
COMMANDS = {(False, False): fcntl.F_SETLK, (False, True): fcntl.F_SETLKW, (True, False): 37, (True, True): 38}
GETLK, OFD_GETLK = fcntl.F_GETLK, 36
TYPES = {"r": fcntl.F_RDLCK, "w": fcntl.F_WRLCK, "u": fcntl.F_UNLCK}
NAMES = {v: k for k, v in TYPES.items()}


def interrupted(number, frame):
    raise InterruptedError(4, "interrupted")


def setlk(fd, kind, start=0, length=0, wait=False, ofd=False):
    fcntl.fcntl(fd, COMMANDS[ofd, wait], struct.pack(FLOCK, TYPES[kind], os.SEEK_SET, start, length, 0))
    return 0


def getlk(fd, kind, start=0, length=0, ofd=False):
    answer = fcntl.fcntl(fd, OFD_GETLK if ofd else GETLK, struct.pack(FLOCK, TYPES[kind], os.SEEK_SET, start, length, 0))
    kind, whence, start, length, pid = struct.unpack(FLOCK, answer)
    return [NAMES[kind], start, length, pid]


def flock(fd, op):
    fcntl.flock(fd, op)
    return 0


def child(fd):
    """The pid of a child that has inherited fd, and ends when it is killed."""
    pid = os.fork()
    if pid == 0:
        while True:
            signal.pause()
    return pid


def add(fd, n, ofd):
    """n times: locks, adds one to the number in the file, unlocks."""
    for _ in range(n):
        setlk(fd, "w", wait=True, ofd=ofd)
        value = int(os.pread(fd, 20, 0) or b"0")
        os.pwrite(fd, b"%20d" % (value + 1), 0)
        setlk(fd, "u", ofd=ofd)
    return n


def reap(pid):
    os.kill(pid, signal.SIGKILL)
    return os.waitpid(pid, 0)[0]


CALLS = {"open": lambda path, flags=os.O_RDWR | os.O_CREAT: os.open(path, flags, 0o644), "close": os.close, "dup": os.dup,
         "setlk": setlk, "getlk": getlk, "flock": flock, "child": child, "reap": reap, "add": add, "unlink": os.unlink,
         "pread": lambda fd, n, at: os.pread(fd, n, at).decode(), "pwrite": lambda fd, text, at: os.pwrite(fd, text.encode(), at),
         "size": lambda fd: os.fstat(fd).st_size, "pid": os.getpid}


def main():
    signal.signal(signal.SIGUSR1, interrupted)
    for line in sys.stdin:
        name, *args = json.loads(line)
        try:
            answer = CALLS[name](*args)
        except OSError as error:
            answer = -error.errno
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
