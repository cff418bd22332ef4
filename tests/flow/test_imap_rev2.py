"""IMAP4rev2 (RFC 9051) beside IMAP4rev1, UTF8=ACCEPT, UIDONLY and UNAUTHENTICATE (RFC 8437) through the proxy and directly: what is
offered before and after login, what ENABLE switches, and who may give a connection back."""
import base64
import re
import zlib

import mt
from imap_wire import Wire

OTHER = "127.1.2.3"  # not among the trusted proxies
MAIL = "From: Jørgen <j@example.test>\r\nSubject: Grüße\r\n\r\nHei\r\n".encode()


def plain(n):
    return base64.b64encode(b"\0user%04d@example.test\0pass%04d" % (n, n))


class Rev2(mt.ClusterCase):
    FLAGS = ["--proxies", 1, "--backends", 1, "--users", 4]

    def connect(self, at, source=None):
        wire = Wire(self.cluster.at(at, "imap"), source=source)
        self.addCleanup(wire.close)
        return wire

    def ok(self, wire, command):
        untagged, answer = wire.ask(command)
        self.assertRegex(answer, rb"\AOK", (command, untagged))
        return b"".join(untagged) + answer

    def login(self, wire, n):
        return self.ok(wire, b"AUTHENTICATE PLAIN " + plain(n))

    def test_both_versions_before_and_after_login(self):
        for n, at in enumerate(("p1", "b1"), 1):
            with self.subTest(at):
                wire = self.connect(at)
                for text in (wire.greeting, self.ok(wire, b"CAPABILITY")):
                    self.assertRegex(text, rb"CAPABILITY IMAP4rev1 IMAP4rev2 LITERAL- SASL-IR ")
                    self.assertNotIn(b"LITERAL+", text)
                    self.assertNotIn(b"UNAUTHENTICATE", text)
                for text in (self.login(wire, n), self.ok(wire, b"CAPABILITY")):
                    self.assertRegex(text, rb"IMAP4rev1 IMAP4rev2 .*LITERAL\+.* UTF8=ACCEPT UIDONLY")
                    self.assertNotIn(b"LITERAL-", text)

    def test_rev2_with_utf8_through_the_proxy(self):
        wire, old = self.connect("p1"), self.connect("p1")
        self.login(wire, 1)
        self.login(old, 1)
        self.assertIn(b"* ENABLED IMAP4rev2 UTF8=ACCEPT\r\n", self.ok(wire, b"ENABLE IMAP4rev2 UTF8=ACCEPT"))
        self.ok(wire, 'CREATE "Entwürfe"'.encode())
        self.assertIn('"/" "Entwürfe"\r\n'.encode(), self.ok(wire, b'LIST "" E*'))
        self.assertIn(b'"/" Entw&APw-rfe\r\n', self.ok(old, b'LIST "" E*'))
        self.ok(wire, b'APPEND "Entw\xc3\xbcrfe" UTF8 (~{%d+}\r\n%s)' % (len(MAIL), MAIL))
        self.ok(old, b"APPEND Entw&APw-rfe {%d+}\r\n%s" % (len(MAIL), MAIL))
        text = self.ok(wire, 'SELECT "Entwürfe"'.encode())
        self.assertIn('* LIST (\\HasNoChildren) "/" "Entwürfe"\r\n'.encode(), text)
        self.assertNotRegex(text, rb"RECENT|UNSEEN")
        self.assertRegex(self.ok(wire, 'SEARCH SUBJECT "grüße"'.encode()), rb'\A\* ESEARCH \(TAG "t\d+"\) ALL 1:2\r\n')
        self.assertIn("Grüße".encode(), self.ok(wire, b"FETCH 2 ENVELOPE"))
        self.assertRegex(self.ok(old, b"EXAMINE Entw&APw-rfe"), rb"\* 0 RECENT\r\n(?!.*\* LIST)")
        self.assertRegex(self.ok(old, b"FETCH 1 ENVELOPE"), "\\{7\\}\r\nGrüße".encode())

    def test_uidonly_through_the_proxy(self):
        wire = self.connect("p1")
        self.login(wire, 2)
        self.ok(wire, b"ENABLE UIDONLY")
        self.ok(wire, b"APPEND INBOX {%d+}\r\n%s" % (len(MAIL), MAIL))
        self.ok(wire, b"SELECT INBOX")
        self.assertRegex(wire.ask(b"FETCH 1 FLAGS")[1], rb"\ABAD \[UIDREQUIRED\]")
        self.assertIn(b"* 1 UIDFETCH (FLAGS (\\Deleted", self.ok(wire, b"UID STORE 1 +FLAGS (\\Deleted)"))
        self.assertIn(b"* VANISHED 1\r\n", self.ok(wire, b"EXPUNGE"))

    def test_security_15_nobody_whom_a_proxy_logged_in_gives_the_connection_back(self):
        for at in ("p1", "b1"):  # 127.0.0.1, from where b1 is asked here, is a trusted proxy
            with self.subTest(at):
                wire = self.connect(at)
                self.assertNotIn(b"UNAUTHENTICATE", self.login(wire, 3))
                self.assertNotIn(b"UNAUTHENTICATE", self.ok(wire, b"CAPABILITY"))
                self.assertRegex(wire.ask(b"UNAUTHENTICATE")[1], rb"\ABAD")
                self.ok(wire, b"NOOP")

    def test_one_connection_serves_one_user_after_the_other(self):
        wire = self.connect("b1", OTHER)
        self.assertIn(b" UNAUTHENTICATE SASL-IR", self.login(wire, 3))
        self.ok(wire, b"ENABLE QRESYNC IMAP4rev2")
        self.ok(wire, b"APPEND INBOX (\\Deleted) {%d+}\r\n%s" % (len(MAIL), MAIL))
        self.ok(wire, b"SELECT INBOX")
        # RFC 8437 section 3: pipelined with the next login, one round trip.
        wire.send(b"a UNAUTHENTICATE\r\nb AUTHENTICATE PLAIN " + plain(4) + b"\r\nc STATUS INBOX (MESSAGES)\r\n")
        self.assertEqual(wire.answer(b"a"), ([], b"OK Done\r\n"))
        self.assertRegex(wire.answer(b"b")[1], rb"OK \[CAPABILITY ")
        self.assertEqual(wire.answer(b"c")[0], [b"* STATUS INBOX (MESSAGES 0)\r\n"])
        self.ok(wire, b"UNAUTHENTICATE")
        # Before login it is as it was: its commands, its capabilities, its failures.
        self.assertRegex(wire.ask(b"STATUS INBOX (MESSAGES)")[1], rb"\ABAD")
        self.assertRegex(self.ok(wire, b"CAPABILITY"), rb"LITERAL- (?!.*UNAUTHENTICATE)")
        self.assertRegex(wire.ask(b"UNAUTHENTICATE")[1], rb"\ABAD")
        self.assertRegex(wire.ask(b"LOGIN user0003@example.test wrong")[1], rb"\ANO \[AUTHENTICATIONFAILED\]")
        self.ok(wire, b"LOGIN user0003@example.test pass0003")
        self.assertIn(b"(MESSAGES 1)", self.ok(wire, b"STATUS INBOX (MESSAGES)"))
        sessions = self.cluster.ctl("b1", "session", "list")
        self.assertEqual(sessions.count("user0004"), 0, sessions)
        # A thousand at once nest nothing.
        pair = b"x UNAUTHENTICATE\r\ny AUTHENTICATE PLAIN " + plain(3) + b"\r\n"
        wire.send(pair * 300 + b"z LOGOUT\r\n")
        self.assertRegex(wire.answer(b"z")[1], rb"\AOK")

    def test_compression_ends_with_the_session(self):
        wire = self.connect("b1", OTHER)
        self.login(wire, 4)
        self.ok(wire, b"COMPRESS DEFLATE")
        for finish in (zlib.Z_SYNC_FLUSH, zlib.Z_FINISH):
            pack, unpack = zlib.compressobj(wbits=-15), zlib.decompressobj(wbits=-15)
            behind = b"" if finish == zlib.Z_SYNC_FLUSH else b"b LOGIN user0004@example.test pass0004\r\n"
            wire.send(pack.compress(b"a UNAUTHENTICATE\r\n") + pack.flush(finish) + behind)
            text = b""
            while not text.endswith(b"\r\n"):
                text += unpack.decompress(wire.sock.recv(1))
            self.assertRegex(text, rb"\Aa OK")
            if behind:
                # The rest of the flush: an empty block.
                while b"\x00\x00\xff\xff" not in wire.buffer:
                    wire.buffer += wire.sock.recv(1)
                wire.buffer = b""
                self.assertRegex(wire.answer(b"b")[1], rb"\AOK \[CAPABILITY ")
                break
            while not re.search(rb"\x00\x00\xff\xff\Z", wire.buffer):
                wire.buffer += wire.sock.recv(1)
            wire.buffer = b""
            self.ok(wire, b"LOGIN user0004@example.test pass0004")
            self.assertRegex(self.ok(wire, b"CAPABILITY"), rb"COMPRESS=DEFLATE")
            self.ok(wire, b"COMPRESS DEFLATE")


if __name__ == "__main__":
    import unittest
    unittest.main()
