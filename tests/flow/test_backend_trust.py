"""What the back-end believes, and from whom: the client's address by ID and XCLIENT, foreign authorisation identities, LMTP. The
peers' addresses are loopback ones; 127.0.0.2 is a trusted proxy here, all others are not."""
import base64
import os
import shutil
import socket
import subprocess
import tempfile
import unittest

import mt
from backend_case import BackendCase, Lines

PROXY = "127.0.0.2"
STRANGER = "127.0.0.3"


def plain(authzid, authcid, password):
    return base64.b64encode(f"{authzid}\0{authcid}\0{password}".encode()).decode()


class TrustCase(BackendCase):
    TRUSTED = f'"{PROXY}"'

    def imap(self, source, i=None):
        c = self.connect("imaps", source)
        c.greeting = c.line()
        if i:
            self.assertIn("a OK", c.ask(f"a LOGIN {self.user(i)} {self.password(i)}"))
        return c

    def tagged(self, c, command):
        """The answers up to the tagged one."""
        c.send(f"t {command}")
        out = []
        while not out or not out[-1].startswith("t "):
            out.append(c.line())
            self.assertTrue(out[-1], out)
        return out

    def pop3(self, source):
        c = self.connect("pop3s", source)
        c.greeting = c.line()
        return c


class Trust(TrustCase):
    def test_a_proxy_acts_for_an_account(self):
        c = self.imap(PROXY)
        self.assertTrue(self.tagged(c, f"AUTHENTICATE PLAIN {plain(self.user(1), 'proxy', self.secret())}")[-1].startswith("t OK [CAPABILITY"))
        self.assertIn(self.user(1), self.cluster.ctl("b1", "session", "list"))
        self.assertIn(f": login user={self.user(1)} service=imap proxy=proxy\n", self.cluster.log("b1"))
        c.close()
        c = self.imap(PROXY, 2)
        self.assertIn(f": login user={self.user(2)} service=imap proxy=none\n", self.cluster.log("b1"))
        c.close()
        c = self.pop3(PROXY)
        self.assertTrue(c.ask(f"AUTH PLAIN {plain(self.user(1), 'proxy', self.secret())}").startswith("+OK"))
        c.close()

    def test_a_proxys_wrong_credential_is_wrong(self):
        c = self.imap(PROXY)
        for line in (plain(self.user(1), "proxy", "wrong"), plain(self.user(1), "other", self.secret()),
                     plain(self.user(1), self.user(2), self.password(2)), plain(self.user(1), "proxy", self.password(1))):
            self.assertIn("[AUTHENTICATIONFAILED]", self.tagged(c, f"AUTHENTICATE PLAIN {line}")[-1])

    def test_an_account_that_is_not_here_is_no_wrong_password(self):
        c = self.imap(PROXY)
        self.assertIn("[AUTHORIZATIONFAILED]",
                      self.tagged(c, f"AUTHENTICATE PLAIN {plain('nobody@example.test', 'proxy', self.secret())}")[-1])
        c = self.pop3(PROXY)
        self.assertIn("[SYS/PERM]", c.ask(f"AUTH PLAIN {plain('nobody@example.test', 'proxy', self.secret())}"))

    def test_a_stranger_cannot_act_for_others_even_with_the_proxys_credential(self):
        c = self.imap(STRANGER)
        for line in (plain(self.user(1), "proxy", self.secret()), plain(self.user(1), self.user(2), self.password(2)),
                     plain("nobody@example.test", "proxy", self.secret())):
            self.assertIn("[AUTHENTICATIONFAILED]", self.tagged(c, f"AUTHENTICATE PLAIN {line}")[-1])
        c = self.pop3(STRANGER)
        self.assertIn("[AUTH]", c.ask(f"AUTH PLAIN {plain(self.user(1), 'proxy', self.secret())}"))

    def test_an_account_may_name_itself(self):
        c = self.imap(STRANGER)
        self.assertIn("t OK", self.tagged(c, f"AUTHENTICATE PLAIN {plain(self.user(1).upper(), self.user(1), self.password(1))}")[-1])
        c = self.imap(STRANGER)
        self.assertIn("t OK", self.tagged(c, f"AUTHENTICATE PLAIN {plain('', 'user0002', self.password(2))}")[-1])

    def test_the_proxys_name_is_no_account(self):
        for source in (PROXY, STRANGER):
            c = self.imap(source)
            self.assertIn("[AUTHENTICATIONFAILED]", self.tagged(c, f"AUTHENTICATE PLAIN {plain('', 'proxy', self.secret())}")[-1])

    def log_of(self, session_of):
        return [line for line in self.cluster.log("b1").splitlines() if session_of in line]

    def test_the_clients_address_is_believed_from_a_proxy(self):
        c = self.imap(PROXY)
        self.tagged(c, 'ID ("x-originating-ip" "192.0.2.77" "x-originating-port" "4444" "x-session-id" "fromtheedge01")')
        self.tagged(c, f"AUTHENTICATE PLAIN {plain(self.user(1), 'proxy', self.secret())}")
        rows = mt.wait_for(lambda: self.log_of("fromtheedge01"), 5, "the session's lines")
        self.assertTrue(any("192.0.2.77" in r for r in rows), rows)
        self.assertIn("192.0.2.77", self.cluster.ctl("b1", "session", "list"))
        c.close()
        c = self.pop3(PROXY)
        self.assertIn("[XCLIENT]", c.greeting)
        self.assertTrue(c.ask("XCLIENT ADDR=192.0.2.78 PORT=4445 SESSION=fromtheedge02").startswith("+OK"))
        c.ask(f"AUTH PLAIN {plain(self.user(2), 'proxy', self.secret())}")
        rows = mt.wait_for(lambda: self.log_of("fromtheedge02"), 5, "the session's lines")
        self.assertTrue(any("192.0.2.78" in r for r in rows), rows)
        c.close()

    def test_a_strangers_word_on_its_address_is_not_believed(self):
        c = self.imap(STRANGER)
        self.tagged(c, 'ID ("x-originating-ip" "192.0.2.79" "x-session-id" "forged0000001")')
        self.assertIn("t OK", self.tagged(c, f"LOGIN {self.user(3)} {self.password(3)}")[-1])
        listed = self.cluster.ctl("b1", "session", "list")
        self.assertIn(STRANGER, listed)
        self.assertNotIn("192.0.2.79", listed)
        self.assertNotIn("forged0000001", listed)
        c.close()
        c = self.pop3(STRANGER)
        self.assertNotIn("XCLIENT", c.greeting)
        c.ask("CAPA")
        self.assertNotIn(b"XCLIENT", c.lines())
        self.assertTrue(c.ask("XCLIENT ADDR=192.0.2.80").startswith("-ERR"))
        self.assertTrue(c.ask(f"USER {self.user(3)}").startswith("+OK"))
        self.assertTrue(c.ask(f"PASS {self.password(3)}").startswith("+OK"))
        self.assertNotIn("192.0.2.80", self.cluster.ctl("b1", "session", "list"))
        c.close()
        self.assertNotIn("192.0.2.79 ", self.cluster.log("b1"))

    def test_after_a_proxys_login_the_peer_is_the_user(self):
        c = self.imap(PROXY)
        self.assertIn("t OK", self.tagged(c, f"AUTHENTICATE PLAIN {plain(self.user(4), 'proxy', self.secret())}")[-1])
        self.tagged(c, 'ID ("x-originating-ip" "192.0.2.81" "x-session-id" "forged0000002")')
        self.assertNotIn("t OK", self.tagged(c, f"AUTHENTICATE PLAIN {plain(self.user(1), 'proxy', self.secret())}")[-1])
        self.assertNotIn("t OK", self.tagged(c, "UNAUTHENTICATE")[-1])
        self.assertFalse([line for line in self.tagged(c, "CAPABILITY") if "UNAUTHENTICATE" in line or "AUTH=" in line])
        listed = self.cluster.ctl("b1", "session", "list")
        self.assertNotIn("192.0.2.81", listed)
        self.assertNotIn("forged0000002", listed)
        c.close()
        c = self.pop3(PROXY)
        self.assertTrue(c.ask(f"AUTH PLAIN {plain(self.user(4), 'proxy', self.secret())}").startswith("+OK"))
        self.assertTrue(c.ask("XCLIENT ADDR=192.0.2.82").startswith("-ERR"))
        self.assertTrue(c.ask(f"AUTH PLAIN {plain(self.user(1), 'proxy', self.secret())}").startswith("-ERR"))
        self.assertTrue(c.ask("NOOP").startswith("+OK"))
        c.close()

    def test_lmtp_answers_proxies_alone(self):
        c = self.connect("lmtps", PROXY)
        self.assertTrue(c.line().startswith("220"))
        c.close()
        c = self.connect("lmtps", STRANGER)
        first = c.line()
        self.assertFalse(first.startswith("220"), first)
        c.close()

    def test_a_disabled_account_cannot_come_in(self):
        self.cluster.ctl("b1", "account", "set", self.user(4), "--disable")
        try:
            c = self.imap(PROXY)
            self.assertIn("t NO", self.tagged(c, f"AUTHENTICATE PLAIN {plain(self.user(4), 'proxy', self.secret())}")[-1])
            self.assertIn("t NO", self.tagged(c, f"LOGIN {self.user(4)} {self.password(4)}")[-1])
        finally:
            self.cluster.ctl("b1", "account", "set", self.user(4), "--enable")


class TrustByCertificate(TrustCase):
    """A network is not enough where names are asked for."""

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp()
        cls.make("ca", "/CN=CA of the proxies", "-x509")
        for name in ("proxy", "other"):
            cls.make(name, f"/CN={name}.example.test", "-x509", "-CA", cls.file("ca.pem"), "-CAkey", cls.file("ca.key"))
        cls.make("self", "/CN=proxy.example.test", "-x509")
        cls.CONF = f'trusted-names = {{"proxy.example.test"}}\ntls default {{\n\tclient-ca = "{cls.file("ca.pem")}"\n}}\n'
        super().setUpClass()

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        shutil.rmtree(cls.folder)

    @classmethod
    def file(cls, name):
        return os.path.join(cls.folder, name)

    @classmethod
    def make(cls, name, subject, *more):
        subprocess.run(["openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", subject,
                        "-keyout", cls.file(name + ".key"), "-out", cls.file(name + ".pem"), *more], check=True, capture_output=True)

    def imap_with(self, certificate):
        host, port = self.cluster.at("b1", "imaps")
        context = self.tls()
        if certificate:
            context.load_cert_chain(self.file(certificate + ".pem"), self.file(certificate + ".key"))
        raw = socket.create_connection((host, port), timeout=20, source_address=(PROXY, 0))
        c = Lines(context.wrap_socket(raw, server_hostname=host))
        c.line()
        return c

    def test_the_certificate_must_have_the_name(self):
        line = plain(self.user(1), "proxy", self.secret())
        self.assertIn("t OK", self.tagged(self.imap_with("proxy"), f"AUTHENTICATE PLAIN {line}")[-1])
        for other in (None, "other"):
            self.assertIn("[AUTHENTICATIONFAILED]", self.tagged(self.imap_with(other), f"AUTHENTICATE PLAIN {line}")[-1])
        with self.assertRaises((OSError, AssertionError)):  # nobody we know has signed it: the handshake fails
            self.tagged(self.imap_with("self"), f"AUTHENTICATE PLAIN {line}")


class Impossible(unittest.TestCase):
    def test_check_refuses_what_cannot_work(self):
        rows = [
            ("proxy p {\n\tcredential = \"SECRET\"\n}\n", "trusted-proxies"),
            ("listener l {\n\tservice = lmtp\n\tlisten = {\"127.0.0.1:2424\"}\n\ttls = none\n}\n", "LMTP answers trusted proxies only"),
            ("listener l {\n\tservice = imap\n\tlisten = {\"127.0.0.1:2424\"}\n}\n", "no section tls default"),
            ("trusted-proxies = {\"10.0.0.0/8\"}\ntrusted-names = {\"p\"}\nlistener l {\n\tservice = imap\n\tlisten = {\"127.0.0.1:2424\"}\n"
             "\ttls = none\n}\n", "no proxy can show its certificate"),
        ]
        for text, want in rows:
            with tempfile.TemporaryDirectory() as d:
                secret = os.path.join(d, "secret")
                with open(os.open(secret, os.O_WRONLY | os.O_CREAT, 0o600), "w") as f:
                    f.write("x\n")
                path = os.path.join(d, "b.conf")
                with open(path, "w") as f:
                    f.write(text.replace("SECRET", secret))
                done = subprocess.run([os.path.join(mt.bin_dir(), "mailtier-backend"), "-c", path, "--check"], capture_output=True, text=True)
                self.assertEqual(done.returncode, 1, done.stdout)
                self.assertIn(want, done.stdout + done.stderr)
                self.assertIn(f"{path}:", done.stdout + done.stderr)
