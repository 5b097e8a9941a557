# class: escape
# kind: both
# must: reject
# note: a private pair of sockets must not lead anywhere: addresses, descriptors, other kinds, other flags
import array, ctypes, os, socket
a, b = socket.socketpair()
got = []
def attempt(name, call):
    try:
        got.append((name, call()))
    except (OSError, AttributeError):
        pass
rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0]))]
attempt("rights", lambda: a.sendmsg([b"x"], rights))
attempt("message", lambda: b.recvmsg(1))
attempt("urgent", lambda: a.send(b"x", socket.MSG_OOB))
attempt("address", lambda: a.sendto(b"x", "\0canary"))
attempt("connect", lambda: a.connect("\0canary"))
attempt("bind", lambda: a.bind("\0canary"))
attempt("listen", lambda: a.listen())
attempt("option", lambda: a.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 24))
attempt("peer", lambda: a.getsockopt(socket.SOL_SOCKET, 17, 12))
attempt("datagrams", lambda: socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM))
attempt("packets", lambda: socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET))
attempt("socket", lambda: socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
libc = ctypes.CDLL(None, use_errno=True)
for family in range(2, 46):
    attempt(family, lambda: 1 // (libc.socketpair(family, 1, 0, (ctypes.c_int * 2)()) == 0) if 0 else
            (_ for _ in ()).throw(OSError) if libc.socketpair(family, 1, 0, (ctypes.c_int * 2)()) else 1)
if got:
    raise RuntimeError(f"GOT {got}")
raise SystemExit("held")
