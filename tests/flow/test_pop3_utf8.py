"""POP3's UTF8 and LANG (RFC 6856) on both tiers: the proxy takes UTF8 before the login and brings it to the back-end, which here gives
messages with 8-bit headers to nobody else (utf8-strict)."""
import os
import smtplib
import socket
import tempfile

import mt
from imap_wire import Wire

MAIL = "From: Jørgen <j@example.test>\r\nSubject: Grüße\r\n\r\nHei\r\n".encode()


class Pop3Utf8(mt.ClusterCase):
    @classmethod
    def setUpClass(cls):
        fd, cls.conf = tempfile.mkstemp(suffix=".conf")
        with os.fdopen(fd, "w") as f:
            f.write("utf8-strict = yes\n")
        cls.FLAGS = ["--proxies", 1, "--backends", 1, "--users", 2, "--backend-conf", cls.conf]
        super().setUpClass()
        with smtplib.LMTP(*cls.cluster.at("b1", "lmtp")) as lmtp:
            lmtp.sendmail("sender@elsewhere.test", ["user0001@example.test"], MAIL)

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        os.unlink(cls.conf)

    def connect(self, at):
        s = socket.create_connection(self.cluster.at(at, "pop3"), timeout=20)
        self.addCleanup(s.close)
        f = s.makefile("rwb")
        self.addCleanup(f.close)
        self.assertTrue(f.readline().startswith(b"+OK"))
        return f

    def ask(self, f, line, lines=False):
        f.write(line + b"\r\n")
        f.flush()
        out = f.readline()
        while lines and out.startswith(b"+OK") and not out.endswith(b"\r\n.\r\n"):
            out += f.readline()
        return out

    def login(self, f):
        self.ask(f, b"USER user0001@example.test")
        self.assertTrue(self.ask(f, b"PASS pass0001").startswith(b"+OK"))

    def test_utf8_reaches_the_back_end(self):
        for at in ("p1", "b1"):
            with self.subTest(at):
                f = self.connect(at)
                self.assertIn(b"\r\nUTF8 USER\r\nLANG\r\n", self.ask(f, b"CAPA", True))
                self.assertTrue(self.ask(f, b"UTF8").startswith(b"+OK"))
                self.login(f)
                self.assertIn(b"\r\nUTF8 USER\r\nLANG\r\n", self.ask(f, b"CAPA", True))
                self.assertIn(MAIL, self.ask(f, b"RETR 1", True))
                self.assertIn("Grüße".encode(), self.ask(f, b"TOP 1 0", True))
                self.assertTrue(self.ask(f, b"UTF8").startswith(b"-ERR"))  # before login alone
                self.ask(f, b"QUIT")

    def test_without_it_the_message_is_refused_and_the_rest_goes_on(self):
        f = self.connect("p1")
        self.login(f)
        self.assertTrue(self.ask(f, b"RETR 1").startswith(b"-ERR [UTF8] "))
        self.assertTrue(self.ask(f, b"TOP 1 0").startswith(b"-ERR [UTF8] "))
        self.assertTrue(self.ask(f, b"STAT").startswith(b"+OK 1 "))
        self.ask(f, b"QUIT")

    def test_lang_on_both_sides_of_the_login(self):
        f = self.connect("p1")
        for _ in range(2):
            self.assertEqual(self.ask(f, b"LANG", True), b"+OK Languages:\r\nen English\r\n.\r\n")
            self.assertTrue(self.ask(f, b"LANG *").startswith(b"+OK en "))
            self.assertTrue(self.ask(f, b"LANG uga").startswith(b"-ERR "))
            if not _:
                self.login(f)
        self.ask(f, b"QUIT")

    def test_append_is_as_strict(self):
        wire = Wire(self.cluster.at("p1", "imap"))
        self.addCleanup(wire.close)
        wire.ask(b"LOGIN user0002@example.test pass0002")
        append = b"APPEND INBOX {%d+}\r\n%s" % (len(MAIL), MAIL)
        self.assertRegex(wire.ask(append)[1], rb"\ANO \[CANNOT\]")
        wire.ask(b"ENABLE UTF8=ACCEPT")
        self.assertRegex(wire.ask(append)[1], rb"\AOK \[APPENDUID")


if __name__ == "__main__":
    import unittest
    unittest.main()
