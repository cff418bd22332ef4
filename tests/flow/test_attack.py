"""Both programs under attack and misuse: garbage, half commands, connections dropped in every state, floods, readers that do not
read, signals under load, a back-end that hangs. After each: the programs live, their descriptors and their memory are as before."""
import os
import random
import re
import signal
import smtplib
import socket
import ssl
import struct
import tempfile
import threading
import time

import mt
from imap_wire import Closed, Wire

LOGIN = b"user%04d@example.test pass%04d"
MIB = 1 << 20
# With the sanitizer its shadow and what it keeps in quarantine (256 MiB) are resident too.
SLACK = 1 if mt.VARIANT == "release" else 24


class AttackCase(mt.ClusterCase):
    CONF = ""
    BACKEND_CONF = ""

    @classmethod
    def setUpClass(cls):
        cls.files = []
        for text in (cls.CONF, cls.BACKEND_CONF):
            fd, path = tempfile.mkstemp(suffix=".conf")
            with os.fdopen(fd, "w") as f:
                f.write(text)
            cls.files.append(path)
        cls.FLAGS = ["--proxies", 1, "--backends", 2, "--users", 8, "--conf", cls.files[0], "--backend-conf", cls.files[1]]
        super().setUpClass()

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        for path in cls.files:
            os.unlink(path)

    def open(self, at, service):
        s = socket.create_connection(self.cluster.at(at, service), timeout=20)
        self.addCleanup(s.close)
        return s

    def login(self, user, at="p1"):
        wire = Wire(self.cluster.at(at, "imap"))
        self.addCleanup(wire.close)
        self.assertRegex(wire.ask(b"LOGIN " + LOGIN % (user, user))[1], rb"\AOK")
        return wire

    def rss(self, name):
        with open(f"/proc/{self.cluster.pid(name)}/statm") as f:
            return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def descriptors(self, name):
        """Without the spare connections between the tiers, which come and go."""
        return len(os.listdir(f"/proc/{self.cluster.pid(name)}/fd"))

    def assert_back(self, before, slack=8, seconds=20):
        mt.wait_for(lambda: all(self.descriptors(n) <= before[n] + slack for n in before), seconds,
                    f"descriptors back at {before}; they are {({n: self.descriptors(n) for n in before})}")

    def counts(self):
        return {n: self.descriptors(n) for n in ("p1", "b1", "b2")}


def reset(s):
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    s.close()


def swallow(s, seconds=5):
    """What the peer says until it closes or is silent."""
    s.settimeout(seconds)
    out = b""
    try:
        while data := s.recv(65536):
            out += data
    except OSError:
        pass
    return out


class Abuse(AttackCase):
    CONF = "limits {\n\tfailed-login-delay = 0s\n}\n"
    BACKEND_CONF = CONF
    LISTENERS = [(at, service) for at, services in (("p1", "smtp submission imap imaps pop3 pop3s status"),
                                                    ("b1", "imap imaps pop3 lmtp lmtps status")) for service in services.split()]

    def test_garbage_of_all_kinds(self):
        dice = random.Random(7)
        before = self.counts()
        pieces = [bytes(dice.randrange(256) for _ in range(3000)), b"\0" * 5000, b"\r\n" * 3000, b"\n" * 3000, b"a" * 300000,
                  b"a " + b"(" * 200000, b"a LOGIN {5}\r\n", b"a LOGIN {4294967296+}\r\n", b"a LOGIN {99999999999999999999}\r\n",
                  b"a SEARCH " + b"NOT " * 50000 + b"\r\n", b'a LOGIN "' + b"\\\\" * 60000, b"AUTH PLAIN " + b"=" * 60000 + b"\r\n",
                  b"EHLO " + b"x" * 60000 + b"\r\n", b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 20000, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
                  b"\x16\x03\x01\xff\xff" + b"\0" * 70000, b"a " * 30000 + b"\r\n", b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n",
                  b"\r\n\r\n\0\r\nQUIT\n!\x11\0\x0c" + b"\x01" * 16]
        for at, service in self.LISTENERS:
            for i, piece in enumerate(pieces):
                s = self.open(at, service)
                try:
                    s.sendall(piece)
                    if i % 3 == 0:
                        s.shutdown(socket.SHUT_WR)
                        swallow(s, 2)
                except OSError:
                    pass
                (reset if i % 2 else socket.socket.close)(s)
        self.assert_back(before)
        self.assertRegex(self.login(1).ask(b"NOOP")[1], rb"\AOK")

    def drop_amid(self, make, count=12):
        """count connections into the state, and away: by reset, by FIN, by half-close."""
        for how in range(3):
            socks = [make() for _ in range(count)]
            for s in socks:
                if how == 0:
                    reset(s)
                elif how == 1:
                    s.close()
                else:
                    s.shutdown(socket.SHUT_WR)
            if how == 2:
                for s in socks:
                    swallow(s, 3)
                    s.close()

    def state(self, at, service, *says, tls=False):
        def make():
            s = self.open(at, service)
            if tls:
                context = ssl.create_default_context(cafile=self.cluster.ca)
                context.check_hostname = False
                s = context.wrap_socket(s)
            for say in says:
                s.sendall(say)
                s.recv(4096)
            return s
        return make

    def test_connections_end_in_every_state(self):
        mail = b"a: b\r\n\r\n" + b"x" * 60000
        login = b"a LOGIN " + LOGIN % (1, 1) + b"\r\n"
        self.login(1).ask(b"APPEND INBOX {%d+}\r\n%s" % (len(mail), mail))
        before = self.counts()
        hello = b"EHLO x.example\r\n"
        envelope = b"MAIL FROM:<a@b.example>\r\nRCPT TO:<user0001@example.test>\r\nRCPT TO:<user0002@example.test>\r\nDATA\r\n"
        lmtp = envelope.replace(b"RCPT TO:<user0002@example.test>\r\n", b"")
        pop = b"USER user0001@example.test\r\n"
        for make in [self.state("p1", "imap"), self.state("p1", "imaps"), self.state("p1", "imap", b"a STARTTLS\r\n"),
                     self.state("p1", "imap", b"a STARTTLS\r\n", b"\x16\x03\x01\x00\x05abcde"), self.state("p1", "imap", b"a LOGIN {5}\r\n"),
                     self.state("p1", "imap", b"a AUTHENTICATE PLAIN\r\n"), self.state("p1", "imap", login), self.state("b1", "imap", login),
                     self.state("p1", "imap", login, b"b APPEND INBOX {60000}\r\n"),
                     self.state("p1", "imap", login, b"b SELECT INBOX\r\n", b"c IDLE\r\n"),
                     self.state("p1", "imap", login, b"b SELECT INBOX\r\n", b"c FETCH 1 BODY[]\r\n"),
                     self.state("p1", "imap", login + b"b SELECT INBOX\r\nc SEARCH TEXT xyz\r\nd UID FETCH 1:* BODY[]\r\n"),
                     self.state("p1", "smtp", hello), self.state("p1", "smtp", hello, b"STARTTLS\r\n"), self.state("p1", "smtp", hello, envelope),
                     self.state("p1", "smtp", hello, envelope + b"half a line"),
                     self.state("p1", "smtp", hello, b"MAIL FROM:<a@b.example>\r\nRCPT TO:<user0001@example.test>\r\nBDAT 5000\r\nabc"),
                     self.state("b1", "lmtp", b"LHLO x.example\r\n", lmtp), self.state("p1", "pop3", pop),
                     self.state("p1", "pop3", pop, b"PASS pass0001\r\n"), self.state("p1", "pop3", pop, b"PASS pass0001\r\nLIST\r\nRETR 1\r\n")]:
            self.drop_amid(make, 4)
        self.assert_back(before)
        # Nothing half was stored, and no POP3 session holds the maildrop.
        wire = self.login(1)
        self.assertRegex(b"".join(wire.ask(b"STATUS INBOX (MESSAGES)")[0]), rb"MESSAGES 1\)")
        s = self.open("p1", "pop3")
        s.recv(4096)
        s.sendall(pop)
        s.recv(4096)
        s.sendall(b"PASS pass0001\r\n")
        self.assertRegex(s.recv(4096), rb"\A\+OK")

    def test_a_flood_of_commands_is_answered_in_order_and_in_bounds(self):
        for at in ("p1", "b1"):
            wire = self.login(1, at)
            wire.ask(b"SELECT INBOX")
            before = {n: self.rss(n) for n in ("p1", "b1")}
            count = 20000

            def flood():
                wire.send(b"".join(b"f%d NOOP\r\n" % i for i in range(count)))

            thread = threading.Thread(target=flood)
            thread.start()
            time.sleep(0.5)  # nobody reads
            for n in before:
                self.assertLess(self.rss(n), before[n] + 8 * MIB * SLACK, n)
            for i in range(count):
                self.assertRegex(wire.response(), rb"\Af%d OK" % i)
            thread.join()

    def test_readers_that_do_not_read_hold_little(self):
        first = self.login(2)
        mail = b"a: b\r\n\r\n" + b"0123456789abcde\n" * (8 * MIB // 16)
        first.ask(b"APPEND INBOX {%d+}\r\n%s" % (len(mail), mail))
        names = ("p1", "b1", "b2")
        before = {n: self.rss(n) for n in names}
        slow = []
        for _ in range(10):
            s = self.open("p1", "imap")
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
            s.sendall(b"a LOGIN " + LOGIN % (2, 2) + b"\r\nb SELECT INBOX\r\n" + b"".join(b"c%d FETCH 1 BODY[]\r\n" % i for i in range(20)))
            slow.append(s)
        time.sleep(1)
        for n in names:
            self.assertLess(self.rss(n), before[n] + 16 * MIB * SLACK, n)
        counts = self.counts()
        for s in slow:
            reset(s)
        # Who takes nothing any more is not waited for.
        mt.wait_for(lambda: self.descriptors("p1") <= counts["p1"] - 20, 3, "the relays' ends")

    def test_a_body_that_stops_holds_little(self):
        before = {n: self.rss(n) for n in ("p1", "b1", "b2")}
        counts = self.counts()
        socks = []
        for _ in range(10):
            s = self.open("p1", "smtp")
            for say, last in ((b"EHLO x.example\r\n", rb"(?m)^250 "),
                              (b"MAIL FROM:<a@b.example>\r\nRCPT TO:<user0003@example.test>\r\nDATA\r\n", rb"(?m)^354 ")):
                s.sendall(say)
                said = b""
                while not re.search(last, said):  # who goes on before is cut off
                    said += s.recv(4096)
            s.sendall(b"a: b\r\n\r\n" + b"x" * 70 + (b"\r\n" + b"y" * 70) * 10000)
            socks.append(s)
        for n in before:
            self.assertLess(self.rss(n), before[n] + 16 * MIB * SLACK, n)
        for s in socks:
            reset(s)
        self.assert_back(counts)
        self.assertRegex(b"".join(self.login(3).ask(b"STATUS INBOX (MESSAGES)")[0]), rb"MESSAGES 0\)")

    def test_many_connections_come_and_go(self):
        counts = self.counts()
        for _ in range(10):
            socks = [self.open("p1", service) for service in ("imap", "smtp", "pop3", "imaps") for _ in range(40)]
            for i, s in enumerate(socks):
                (reset if i % 2 else socket.socket.close)(s)
        self.assert_back(counts)
        before = self.rss("p1")
        for _ in range(10):
            socks = [self.open("p1", "imap") for _ in range(150)]
            for s in socks:
                reset(s)
        self.assert_back(counts)
        self.assertLess(self.rss("p1"), before + 4 * MIB * SLACK)


class Signals(AttackCase):
    CONF = "limits {\n\tfailed-login-delay = 0s\n}\n" + "".join(f"backend b{i} {{\n\tlogin-timeout = 1500ms\n}}\n" for i in (1, 2))

    def starter_words(self):
        with open(self.cluster.errors.name) as f:
            return f.read()

    def test_reload_under_load_disturbs_nobody(self):
        stop, errors, done = threading.Event(), [], [0]

        def work(user):
            try:
                while not stop.is_set():
                    wire = Wire(self.cluster.at("p1", "imap"))
                    for command in (b"LOGIN " + LOGIN % (user, user), b"SELECT INBOX", b"APPEND INBOX {6+}\r\na: b\r\n", b"LOGOUT"):
                        answer = wire.ask(command)[1]
                        if not answer.startswith(b"OK"):
                            raise AssertionError(f"{command}: {answer}")
                    wire.close()
                    done[0] += 1
            except Exception as e:
                errors.append(e)

        threads = [threading.Thread(target=work, args=(u,)) for u in (1, 2, 3)]
        for t in threads:
            t.start()
        for _ in range(8):
            for n in ("p1", "b1", "b2"):
                self.cluster.kill(n, signal.SIGHUP)
            time.sleep(0.15)
        stop.set()
        for t in threads:
            t.join(30)
        self.assertEqual(errors, [])
        self.assertGreater(done[0], 5)
        self.assertTrue(all(self.cluster.is_alive(n) for n in ("p1", "b1", "b2")))

    def test_a_back_end_that_hangs_is_not_now_and_comes_back(self):
        held = self.login(5)  # user 5 lives on b1
        counts = self.descriptors("p1")
        self.cluster.kill("b1", signal.SIGSTOP)
        try:
            begin = time.monotonic()
            wire = Wire(self.cluster.at("p1", "imap"))
            self.addCleanup(wire.close)
            answer = wire.ask(b"LOGIN " + LOGIN % (1, 1))[1]
            self.assertRegex(answer, rb"\ANO \[UNAVAILABLE\]")
            self.assertLess(time.monotonic() - begin, 5)
            self.login(2)  # on the other back-end
            pop = self.open("p1", "pop3").makefile("rwb", buffering=0)
            pop.readline()
            for say in (b"USER user0001@example.test\r\n", b"PASS pass0001\r\n"):
                pop.write(say)
                line = pop.readline()
            self.assertRegex(line, rb"\A-ERR \[SYS/TEMP\]")
            pop.close()
            with smtplib.SMTP(*self.cluster.at("p1", "smtp"), timeout=60) as smtp:
                smtp.ehlo("x.example")
                smtp.mail("a@b.example")
                begin = time.monotonic()
                self.assertEqual(smtp.rcpt("user0001@example.test")[0] // 100, 4)
                self.assertLess(time.monotonic() - begin, 10)
                self.assertEqual(smtp.rcpt("user0002@example.test")[0], 250)
        finally:
            self.cluster.kill("b1", signal.SIGCONT)
        mt.wait_for(lambda: Wire(self.cluster.at("p1", "imap")).ask(b"LOGIN " + LOGIN % (1, 1))[1].startswith(b"OK"), 15, "logins on b1")
        self.assertRegex(held.ask(b"NOOP")[1], rb"\AOK")
        mt.wait_for(lambda: self.descriptors("p1") <= counts + 12, 15, "descriptors back")

    def test_z_drain_under_load_ends_in_order(self):
        stop, wrong = threading.Event(), []

        def work(user):
            while not stop.is_set():
                try:
                    wire = Wire(self.cluster.at("p1", "imap"), timeout=10)
                    if wire.ask(b"LOGIN " + LOGIN % (user, user))[1].startswith(b"OK"):
                        wire.ask(b"APPEND INBOX {6+}\r\na: b\r\n")
                    wire.close()
                except (Closed, OSError):
                    pass
                except Exception as e:
                    wrong.append(e)

        threads = [threading.Thread(target=work, args=(u,)) for u in (3, 4)]
        idle = self.login(6)
        for t in threads:
            t.start()
        time.sleep(0.3)
        self.cluster.kill("p1", signal.SIGTERM)
        mt.wait_for(lambda: not self.cluster.is_alive("p1"), 15, "the proxy's end")
        stop.set()
        for t in threads:
            t.join(30)
        self.assertEqual(wrong, [])
        with self.assertRaises((Closed, OSError)):
            idle.ask(b"NOOP")
        mt.wait_for(lambda: "p1 ended with status" in self.starter_words(), 10, "the starter's word of it")
        self.assertIn("p1 ended with status 0", self.starter_words())
        for n in ("b1", "b2"):
            self.cluster.ctl(n, "store", "check")


if __name__ == "__main__":
    import unittest
    unittest.main()
