"""Peers that hold the key and behave badly: slow, deaf, greedy or lying.  They speak the protocol themselves, over the unix socket."""

import errno
import json
import os
import pathlib
import socket
import struct
import time

import cluster as cl
import pytest

PING, CANCEL = 2, 3
LOOKUP, GETATTR, SETATTR, MAKE, OPEN, INVAL, DEFINE = 32, 33, 34, 35, 47, 52, 55
PART_OPEN, PART_READ, PART_WRITE, PART_SEAL, PART_LIST, REDUCE = 80, 81, 82, 83, 86, 89
REPLY, MOUNT, ROOT, ATTR_BYTES = 1, 1, 1, 80
BODIES = {1: 64, LOOKUP: ATTR_BYTES, GETATTR: ATTR_BYTES, SETATTR: ATTR_BYTES, MAKE: 200, OPEN: 120, DEFINE: ATTR_BYTES,
          PART_OPEN: 16, PART_READ: 8, PART_SEAL: 8, REDUCE: 16}
HEADER = struct.Struct("<IHHQIIIIQQ")
MIB = 1 << 20


class Peer:
    """One connection.  Peers with the same session are one mount."""

    def __init__(self, node, session=None):
        self.session = session or os.urandom(16)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(20 * cl.SLOWER)
        self.socket.connect(str(node.store) + "/slabfsd.sock")
        self.last_id, self.pushed = 0, []
        assert self.ask(1, bytes(16) + self.session + struct.pack("<II", MOUNT, 0), b"a hostile test")[0] == 0

    def send(self, kind, body=b"", payload=b"", id=None):
        self.last_id += 1
        id = self.last_id if id is None else id
        self.socket.sendall(HEADER.pack(0x31424C53, 1, kind, id, 0, 0, len(body), 0, len(payload), 0) + body + payload)
        return id

    def acknowledge(self, id):
        self.socket.sendall(HEADER.pack(0x31424C53, 1, INVAL, id, 0, REPLY, 0, 0, 0, 0))

    def exactly(self, n):
        data = bytearray()
        while len(data) < n:
            piece = self.socket.recv(n - len(data))
            if not piece:
                raise ConnectionResetError
            data += piece
        return bytes(data)

    def frame(self):
        """type, id, status, flags, body, payload"""
        _, _, kind, id, status, flags, body, _, payload, _ = HEADER.unpack(self.exactly(HEADER.size))
        return kind, id, status, flags, self.exactly(body), self.exactly(payload)

    def answer(self, id):
        """status, body, payload of the reply to a request; pushes on the way are acknowledged and kept."""
        while True:
            kind, got, status, flags, body, payload = self.frame()
            if not flags & REPLY:
                self.pushed.append((struct.unpack_from("<Q", body)[0], payload))
                self.acknowledge(got)
            elif got == id:
                assert status or len(body) == BODIES.get(kind, 0)
                return status, body, payload

    def ask(self, kind, body=b"", payload=b""):
        return self.answer(self.send(kind, body, payload))

    def make(self, name, mode=0o100644, parent=ROOT):
        status, attr, why = self.ask(MAKE, struct.pack("<QIIIIQIIII", parent, mode, 0, 0, 1, 0, 0, len(name), 0, 0), name.encode())
        assert status == 0, why
        return struct.unpack_from("<Q", attr)[0]

    def hold_root(self):
        assert self.ask(GETATTR, struct.pack("<Q", ROOT))[0] == 0

    def gone(self):
        """The daemon has ended the connection."""
        try:
            while self.socket.recv(MIB):
                pass
        except ConnectionError:
            pass
        return True


@pytest.fixture
def node(fresh):
    c = fresh(1, mounts=0)
    yield c.nodes[0]
    assert c.healthy(), c.log_tails()


def part(index=0, object=1 << 50, flags=0):
    return struct.pack("<QQII", object, index, 1, flags)


ALLOC = struct.pack("<QII16s", 0, 0, 0, bytes(16))


def sealed(peer, data, object=1 << 50):
    assert peer.ask(PART_WRITE, part(object=object) + ALLOC + struct.pack("<Q", 0), data)[0] == 0
    assert peer.ask(PART_SEAL, part(object=object) + struct.pack("<II", 0, 0))[0] == 0


def document(shape, chunk):
    return json.dumps({
        "zarr_format": 3, "node_type": "array", "shape": shape, "data_type": "int64",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunk}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}], "fill_value": 0, "attributes": {}}).encode()


def test_a_peer_that_does_not_read(node):
    """It holds the root and has asked for more than its socket takes; others are not held up by telling it of changes."""
    stuck, other = Peer(node), Peer(node)
    sealed(other, bytes(8 * MIB))
    stuck.hold_root()
    for _ in range(4):
        stuck.send(PART_READ, part() + struct.pack("<QII", 0, 8 * MIB, 0))
    stuck.exactly(1)
    start = time.monotonic()
    for i in range(3):
        other.make(f"f{i}")
    assert time.monotonic() - start < 8 * cl.SLOWER
    assert stuck.gone()


def test_a_peer_that_reads_drop_by_drop(node):
    """Each byte that it takes is progress for the socket, but none for those who wait to tell it something."""
    slow, other = Peer(node), Peer(node)
    sealed(other, bytes(8 * MIB))
    slow.hold_root()
    for _ in range(4):
        slow.send(PART_READ, part() + struct.pack("<QII", 0, 8 * MIB, 0))
    slow.exactly(1)
    id = other.send(MAKE, struct.pack("<QIIIIQIIII", ROOT, 0o100644, 0, 0, 1, 0, 0, 1, 0, 0), b"f")
    start = time.monotonic()
    other.socket.settimeout(0.05)
    while True:
        try:
            assert other.answer(id)[0] == 0
            break
        except TimeoutError:
            slow.socket.recv(4096)
            assert time.monotonic() - start < 8 * cl.SLOWER


def test_pushes_come_where_names_are_asked(node):
    """A connection for data of the same mount would acknowledge without dropping anything."""
    data = Peer(node)
    names, other = Peer(node, data.session), Peer(node)
    assert data.ask(PING)[0] == 0
    names.hold_root()
    id = other.send(MAKE, struct.pack("<QIIIIQIIII", ROOT, 0o100644, 0, 0, 1, 0, 0, 3, 0, 0), b"new")
    kind, push, _, flags, body, payload = names.frame()
    assert (kind, flags, payload) == (INVAL, 0, b"new") and struct.unpack_from("<Q", body)[0] == ROOT
    names.acknowledge(push)
    assert other.answer(id)[0] == 0
    assert data.ask(PING)[0] == 0 and not data.pushed


def test_answers_to_the_pushes_of_others(node):
    """They do not count: the one who was asked is cut off when it stays silent."""
    silent, liar, other = Peer(node), Peer(node), Peer(node)
    silent.hold_root()
    for id in range(1, 200):
        liar.acknowledge(id)
    start = time.monotonic()
    id = other.send(MAKE, struct.pack("<QIIIIQIIII", ROOT, 0o100644, 0, 0, 1, 0, 0, 3, 0, 0), b"new")
    for id_pushed in range(1, 200):
        liar.acknowledge(id_pushed)
    assert other.answer(id)[0] == 0
    assert 0.9 < time.monotonic() - start < 8 * cl.SLOWER
    assert silent.gone()


def test_long_reductions_do_not_hold_up_names(node):
    greedy, other = Peer(node), Peer(node)
    question, doc = b"sum", document([1 << 39], [1])
    body = part() + struct.pack("<QQII", 0, 1, len(question), len(doc))
    ids = [greedy.send(REDUCE, body, question + doc) for _ in range(60)]
    start = time.monotonic()
    for i in range(5):
        other.make(f"f{i}")
    sealed(other, b"also partitions")
    assert time.monotonic() - start < 5 * cl.SLOWER
    for id in ids:
        greedy.send(CANCEL, struct.pack("<Q", id), id=0)
    assert {greedy.frame()[2] for _ in ids} == {errno.ECANCELED}


def test_an_array_that_no_reply_could_describe(node):
    """Header and document of an array must fit in the reply to OPEN."""
    peer = Peer(node)
    dir, doc = peer.make("a", 0o40755), document([4], [2])
    big = bytes(2 * MIB - len(doc))
    assert peer.ask(DEFINE, struct.pack("<QIIIIII", dir, len(big), len(doc), 0, 0, 0, 0), big + doc)[0] == errno.EINVAL
    assert peer.ask(DEFINE, struct.pack("<QIIIIII", dir, 0, len(doc), 0, 0, 0, 0), doc)[0] == 0
    assert peer.ask(OPEN, struct.pack("<QII", dir, 0, 0))[0] == 0


def test_strangers_in_all_places(node):
    """Whoever cannot prove itself keeps out neither this machine's mounts nor, for long, anyone else."""
    host, port = node.address.rsplit(":", 1)
    threads = pathlib.Path(f"/proc/{node.process.pid}/task")
    before = len(list(threads.iterdir()))
    strangers = [socket.create_connection((host, int(port))) for _ in range(80)]
    cl.until(lambda: len(list(threads.iterdir())) >= before + 64, what="the daemon to listen to 64 strangers")
    for i in range(5):
        Peer(node).make(f"f{i}")
    for s in strangers:
        s.close()


def test_a_descriptor_of_a_damaged_partition(node):
    """Who writes a part of a block would seal in the damage of the rest."""
    peer = Peer(node)
    sealed(peer, b"sound" * 1000)
    assert peer.ask(PART_SEAL, part(flags=1) + struct.pack("<II", 0, 0))[0] == 0
    (path,) = node.store.glob(f"parts/*/{1 << 50}/0")
    with open(path, "r+b") as f:
        f.write(b"S")
    status, _, why = peer.ask(PART_OPEN, part(flags=1) + ALLOC)
    assert status == errno.EIO and b"checksum mismatch" in why


ALL_ONES = 2**64 - 1


@pytest.mark.parametrize("kind, body, payload, status", [
    (PART_READ, part() + struct.pack("<QII", ALL_ONES, 1, 0), b"", errno.EFBIG),
    (PART_READ, part() + struct.pack("<QII", 0, 2**32 - 1, 0), b"", errno.EINVAL),
    (PART_READ, part(object=0) + struct.pack("<QII", 0, 1, 0), b"", errno.EINVAL),
    (PART_WRITE, part() + ALLOC + struct.pack("<Q", ALL_ONES - 1), b"four", errno.EFBIG),
    (PART_WRITE, part() + struct.pack("<QII16s", 2, 0, 0, bytes(16)) + struct.pack("<Q", 0), b"four", errno.EINVAL),
    (PART_WRITE, part() + struct.pack("<QII16s", 4, 17, 0, bytes(16)) + struct.pack("<Q", 0), b"four", errno.EINVAL),
    (PART_SEAL, part() + struct.pack("<II", 2**28, 0), b"", errno.EINVAL),
    (PART_SEAL, part() + struct.pack("<II", 1, 0), struct.pack("<QQ", 1, ALL_ONES), errno.EFBIG),
    (PART_OPEN, part(flags=0x80) + ALLOC, b"", errno.EINVAL),
    (REDUCE, part() + struct.pack("<QQII", 0, 0, 3, 0), b"sum", errno.EINVAL),
    (REDUCE, part() + struct.pack("<QQII", 0, 1, 2**32 - 1, 4), b"sum", errno.EINVAL),
    (MAKE, struct.pack("<QIIIIQIIII", ROOT, 0o100644, 0, 0, 0, 0, 0, 2**32 - 1, 0, 0), b"x", errno.EINVAL),
    (MAKE, struct.pack("<QIIIIQIIII", ROOT, 0, 0, 0, 0, 0, 0, 1, 0, 0), b"x", errno.EINVAL),
    (LOOKUP, struct.pack("<Q", ALL_ONES), b"x", errno.ESTALE),
    (DEFINE, struct.pack("<QIIIIII", ROOT, 2**32 - 1, 1, 0, 0, 0, 0), b"x", errno.EINVAL),
])
def test_fields_that_lie(cluster1, kind, body, payload, status):
    peer = Peer(cluster1.nodes[0])
    assert peer.ask(kind, body, payload)[0] == status
    assert peer.ask(PING)[0] == 0


def test_another_version_is_told_so(node):
    p = Peer(node)
    p.socket.sendall(HEADER.pack(0x31424C53, 77, PING, 5, 0, 0, 0, 0, 0, 0))
    kind, id, status, flags, _, why = p.frame()
    assert (kind, id, status, flags) == (PING, 5, errno.EPROTONOSUPPORT, REPLY)
    assert b"77" in why
    with pytest.raises(ConnectionResetError):
        p.frame()


def test_another_cluster_is_told_so(node):
    p = Peer.__new__(Peer)
    p.session, p.last_id, p.pushed = os.urandom(16), 0, []
    p.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    p.socket.settimeout(20 * cl.SLOWER)
    p.socket.connect(str(node.store) + "/slabfsd.sock")
    status, _, why = p.ask(1, os.urandom(16) + p.session + struct.pack("<II", MOUNT, 0), b"a stranger")
    assert status == errno.ESTALE and b"cluster" in why


@pytest.mark.parametrize("kind,rest", [(PART_LIST, struct.pack("<II", 1, 0)), (PART_READ, struct.pack("<QII", 0, 10, 0)),
                                       (REDUCE, struct.pack("<QQII", 0, 1, 3, 2))])
def test_another_epoch_is_told_so(node, kind, rest):
    status, _, why = Peer(node).ask(kind, struct.pack("<QQII", 5, 0, 7, 0) + rest, b"sum{}" if kind == REDUCE else b"")
    assert status == errno.ESTALE and b"epoch 7" in why
