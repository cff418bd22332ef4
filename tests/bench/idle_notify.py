#!/usr/bin/env python3
"""How long it takes from an APPEND that is sent to the EXISTS that another session of the account sees in IDLE: straight at a back-end, and
through a proxy. tests/bench/idle_notify.py [TIMES]; prints milliseconds."""
import os
import socket
import statistics
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "flow"))
import mt  # noqa: E402
from imap_wire import Wire  # noqa: E402

MAIL = b"From: a@b.example\r\nSubject: x\r\n\r\n" + b"x" * 70 + b"\r\n"


def measure(where, times):
    writer, idler = Wire(where), Wire(where)
    for wire in (writer, idler):
        wire.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        wire.ask(b"LOGIN user0001@example.test pw")
    idler.ask(b"SELECT INBOX")
    idler.send(b"i IDLE\r\n")
    idler.response()
    seen, answered = [], []
    for i in range(times):
        begin = time.perf_counter()
        writer.send(b"a%d APPEND INBOX {%d+}\r\n%s\r\n" % (i, len(MAIL), MAIL))
        while not idler.response().endswith(b"EXISTS\r\n"):
            pass
        seen.append((time.perf_counter() - begin) * 1000)
        writer.answer(b"a%d" % i)
        answered.append((time.perf_counter() - begin) * 1000)
    writer.close()
    idler.close()
    return seen, answered


def main():
    times = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    cluster = mt.Cluster("--proxies", 1, "--backends", 1, "--users", 1, "--password", "pw")
    try:
        for name, at in (("back-end", "b1"), ("proxy", "p1")):
            seen, answered = measure(cluster.at(at, "imap"), times)
            print(f"{name}: EXISTS seen after {statistics.median(seen):.2f} ms (least {min(seen):.2f}, p90 {sorted(seen)[times * 9 // 10]:.2f}); "
                  f"APPEND answered after {statistics.median(answered):.2f} ms")
    finally:
        cluster.stop()


if __name__ == "__main__":
    main()
