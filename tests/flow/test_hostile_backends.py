"""Back-ends that mean ill, or are broken in every way: they accept and say nothing, talk garbage, talk without end, break off in the middle.
Clients get another host or a temporary error, and the proxy stays as it was."""
import socket
import ssl
import threading
import time
import unittest

from test_backends import Rig, USER, proxied
from test_proxy_foreign import imap
from test_proxy_login import Line


def says(text, then_ends=True):
    """A server that says this to everyone, whatever he says."""
    def serve(server, s):
        s.sendall(text)
        if then_ends:
            return
        while s.recv(65536):
            pass
    return serve


def floods(first, piece):
    """One that talks for as long as anybody listens."""
    def serve(server, s):
        s.sendall(first)
        while True:
            s.sendall(piece)
    return serve


def answers(*replies):
    """One reply to each line, the first one before any; then the end."""
    def serve(server, s):
        f = s.makefile("rb")
        for i, reply in enumerate(replies):
            if i and not f.readline():
                return
            s.sendall(reply)
    return serve


def one_message(server, s):
    """Takes a message and ends, so that the next one is not brought over the same connection."""
    f = s.makefile("rb")
    s.sendall(b"220 hi\r\n")
    for raw in f:
        if raw.startswith(b"DATA"):
            s.sendall(b"354 go\r\n")
            while f.readline() not in (b".\r\n", b""):
                pass
        s.sendall(b"250 2.0.0 ok\r\n")
        if raw.startswith(b"DATA"):
            return


EVIL_ANY = {
    "ends at once": says(b""),
    "is silent": says(b"", False),
    "garbage": says(bytes(range(256)) * 64, False),
    "one line without end": floods(b"", b"x" * 65536),
    "nothing but line ends": floods(b"", b"\r\n" * 4096),
    "zeros": floods(b"", bytes(65536)),
}
EVIL_LMTP = {
    **EVIL_ANY,
    "421": says(b"421 4.3.2 not now\r\n", False),
    "554": says(b"554 5.3.2 never\r\n"),
    "greeting without end": floods(b"", b"220-hello\r\n" * 1000),
    "refuses LHLO": answers(b"220 hi\r\n", b"500 what\r\n"),
    "ends at LHLO": answers(b"220 hi\r\n", b""),
    "words without end": floods(b"220 hi\r\n", b"250-XMARK\r\n" * 1000),
    "two greetings and the end": says(b"220 hi\r\n421 bye\r\n"),
    "many refusals in one": says(b"220 hi\r\n" + b"500 no\r\n" * 1000),
}
EVIL_IMAP = {
    # The first login knows of no capabilities, and asks.
    "capabilities without end": floods(b"* OK hi\r\n", b"* CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN\r\n" * 1000),
    **EVIL_ANY,
    "BYE": says(b"* BYE no\r\n"),
    "PREAUTH": says(b"* PREAUTH who knows\r\n", False),
    "greeting without end": floods(b"* OK [CAPABILITY ", b"IMAP4rev1 " * 1000),
}
# Those that have greeted well: no other host is tried, the client is told.
EVIL_LOGIN = {
    "literals": floods(b"* OK hi\r\n", b"* X {4294967295}\r\n" + b"x" * 1000),
    "other tags": floods(b"* OK hi\r\n", b"Z OK done\r\nC OK done\r\n" * 1000),
    "ends at the command": answers(b"* OK hi\r\n", b""),
    "does not know the command": answers(b"* OK hi\r\n", b"A BAD what\r\n"),
    "ends at the login": answers(b"* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] hi\r\n", b""),
    "BYE at the login": answers(b"* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] hi\r\n", b"* BYE no\r\n"),
    "challenges": answers(b"* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] hi\r\n", b"+ \r\n" * 1000),
    "untagged without end": floods(b"* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] hi\r\n", b"* 1 EXISTS\r\n" * 1000),
    "capabilities": floods(b"* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] hi\r\n", b"* CAPABILITY " + b"X" * 8000 + b"\r\n"),
    "never answers": says(b"* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] hi\r\n", False),
}

TIMES = "\tprobe-interval = 0\n\tfailures = 1000\n\tconnect-timeout = 1s\n\tlogin-timeout = 2s\n\tspare = 0\n"


class Hostile(Rig):
    def rig(self, good):
        """Two hosts at one port: the first one is what self.evil says, the second one is well."""
        self.evil = None
        self.first = self.server(lambda server, s: self.evil(server, s))
        self.second = self.server(good, port=self.first.port)
        self.start(f"backend f1 {{\n\thost = {{{self.first.host}, {self.second.host}}}\n\timap-port = {self.first.port}\n\tlmtp-port = "
                   f"{self.first.port}\n\ttrust = replay\n\ttls = none\n{TIMES}}}\n", more="smtp { banner-delay = 0 }\n")
        self.pid = self.cluster.pid("p1")

    def still_well(self):
        self.assertEqual(self.cluster.pid("p1"), self.pid)
        self.assertTrue(self.cluster.is_alive("p1"), self.cluster.report())

    def resident(self):
        with open(f"/proc/{self.pid}/status") as f:
            return next(int(l.split()[1]) for l in f if l.startswith("VmRSS"))

    def mail(self):
        with Line(self.cluster.at("p1", "smtp")) as c:
            c.socket.settimeout(30)
            c.line()
            for command in ("EHLO me", "MAIL FROM:<a@b.example>", f"RCPT TO:<{USER}>", "DATA", "Subject: x\r\n\r\nx\r\n."):
                c.send(command + "\r\n")
                answer = c.line()
                while answer[3:4] == "-":
                    answer = c.line()
                if answer[:1] not in ("2", "3"):
                    return answer
            return answer

    def test_mail_goes_to_the_next_host(self):
        self.rig(one_message)
        for name, serve in EVIL_LMTP.items():
            with self.subTest(name):
                self.evil = serve
                seen = self.first.accepted
                self.assertTrue(self.mail().startswith("250"), self.cluster.report())
                self.assertGreater(self.first.accepted, seen)
                self.still_well()
        self.wait_row(connections=0)

    def test_logins_go_to_the_next_host(self):
        self.rig(imap)
        before = self.resident()
        for name, serve in EVIL_IMAP.items():
            with self.subTest(name):
                self.evil = serve
                seen = self.first.accepted
                with Line(self.cluster.at("p1", "imap")) as c:
                    c.socket.settimeout(30)
                    c.line()
                    self.assertIn("a OK", c.ask("a", f"LOGIN {USER} secret")[-1])
                self.assertGreater(self.first.accepted, seen)
                self.still_well()
        self.wait_row(connections=0, sessions=0, logins=0)
        self.assertLess(self.resident() - before, 64 * 1024)

    def test_the_next_host_is_told_of_this_client(self):
        """While the first host lets one wait, another one logs in by another TLS: each is told as it came."""
        asked, newer = threading.Event(), ssl.create_default_context()
        newer.check_hostname, newer.verify_mode = False, ssl.CERT_NONE
        older = ssl.create_default_context()
        older.check_hostname, older.verify_mode, older.maximum_version = False, ssl.CERT_NONE, ssl.TLSVersion.TLSv1_2

        def silent(server, s):
            asked.set()
            says(b"", False)(server, s)

        first = self.server(silent)
        second, third = self.server(proxied(imap), port=first.port), self.server(proxied(imap))
        section = self.backend([first.host, second.host], first.port, more=TIMES + "\tidentity = proxy-v2\n")
        section += self.backend([third.host], third.port, "f2", more=TIMES + "\tidentity = proxy-v2\n")
        self.start(section, maps=f"{USER} f1\nuser0002@example.test f2\n")
        with Line(self.cluster.at("p1", "imaps"), tls=newer) as one, Line(self.cluster.at("p1", "imaps"), tls=older) as other:
            one.line(), other.line()
            one.send(f"a LOGIN {USER} secret\r\n")
            self.assertTrue(asked.wait(20))
            other.send("a LOGIN user0002@example.test secret\r\n")
            other.until("a")
            self.assertIn("a OK", one.until("a")[-1])
        self.assertIn(b"TLSv1.2", third.headers[-1][4][0x20])
        self.assertIn(b"TLSv1.3", second.headers[-1][4][0x20])

    def test_many_who_wait_are_told_when_it_dies(self):
        server = self.server()
        self.start(self.backend([server.host], server.port, more="\tconnections = 1\n\twait-timeout = 60s\n\tprobe-interval = 300ms\n"))
        self.hold()
        waiting = [Line(self.cluster.at("p1", "imap")) for _ in range(600)]
        for c in waiting:
            self.addCleanup(c.close)
            c.socket.settimeout(60)
            c.line()
            c.send(f"a LOGIN {USER} secret\r\n")
        self.wait_row(30, waiting=600)
        server.listener.shutdown(socket.SHUT_RDWR)
        server.close()
        for c in waiting:
            self.assertIn("a NO [UNAVAILABLE]", c.until("a")[-1])
        self.wait_row(waiting=0, logins=0)

    def test_who_breaks_off_a_login_is_not_now(self):
        self.rig(imap)
        self.evil = imap  # what it can do is known then, and a login is one flight
        with Line(self.cluster.at("p1", "imap")) as c:
            c.line()
            self.assertIn("a OK", c.ask("a", f"LOGIN {USER} secret")[-1])
        for name, serve in EVIL_LOGIN.items():
            with self.subTest(name):
                self.evil = serve
                begin = time.monotonic()
                with Line(self.cluster.at("p1", "imap")) as c:
                    c.socket.settimeout(30)
                    c.line()
                    self.assertIn("a NO [UNAVAILABLE]", c.ask("a", f"LOGIN {USER} secret")[-1])
                self.assertLess(time.monotonic() - begin, 20)
                self.still_well()
        self.wait_row(connections=0, sessions=0, logins=0)


if __name__ == "__main__":
    unittest.main()
