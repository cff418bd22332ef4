"""Back-ends of other makers behind the proxy: Dovecot, Cyrus, Postfix; by replay and by proxy-auth; TLS both ways; who the client is."""
import imaplib
import os
import poplib
import smtplib
import socket
import subprocess
import tempfile
import time
import unittest

import mt
import peers

USER = "user0001@example.test"

FLOW_LONG = True


class Rig(unittest.TestCase):
    """A proxy, one back-end section f1, certificates."""
    USERS = [USER]

    @classmethod
    def setUpClass(cls):
        cls.dir = tempfile.mkdtemp(prefix="mt-third-")
        os.chmod(cls.dir, 0o755)
        cls.certs = peers.Certificates(cls.dir)
        cls.peer = cls.cluster = None
        cls.addClassCleanup(subprocess.run, ["rm", "-rf", cls.dir])
        cls.start_peer()
        cls.addClassCleanup(cls.peer.stop)
        cls.certs.make("client", "DNS:proxy.example.test")

    @classmethod
    def write(cls, name, text, mode=0o644):
        with open(os.open(os.path.join(cls.dir, name), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "w") as f:
            f.write(text)
        return os.path.join(cls.dir, name)

    def proxy(self, trust="proxy-auth", tls="starttls", ports=None, more="", checks="map", also="", ca="ca.pem"):
        """A proxy for this test."""
        p = ports or self.peer.ports
        secret = self.write("secret", "ours\n", 0o600)
        maps = self.write("users.map", "".join(f"{u} f1 password={{PLAIN}}secret\n" for u in self.USERS), 0o600)
        own = "" if trust == "replay" else f'\tuser = proxy\n\tcredential = "{secret}"\n'
        conf = self.write("more.conf", f"""
default-domain = example.test
loops = 1
listener imap {{ allow-clear = yes }}
listener pop3 {{ allow-clear = yes }}
limits {{ failed-login-delay = 50ms }}
smtp {{ banner-delay = 0 }}
""" + "".join(f"service {s} {{ authenticate = {checks} }}\n" for s in ("imap", "pop3", "submission")) + f"""
backend f1 {{
	host = {self.peer.host}
	imap-port = {p.get('imap', 1)}
	pop3-port = {p.get('pop3', 1)}
	lmtp-port = {p.get('lmtp', 1)}
	trust = {trust}
	tls = {tls}
	connect-timeout = 5s
	ca = "{self.certs.path(ca)}"
{own}{more}}}
{also}""")
        self.cluster = mt.Cluster("--backends", 0, "--map", maps, "--conf", conf)
        self.addCleanup(self.cluster.stop)

    def client_certificate(self):
        return f'\tcertificate = "{self.certs.path("client.pem")}"\n\tkey = "{self.certs.path("client.key")}"\n'

    def imap(self, source="127.0.0.91", password="secret"):
        m = Sourced(*self.cluster.at("p1", "imap"), source)
        self.addCleanup(m.sock.close)
        m.login(USER, password)
        return m

    def pop3(self, password="secret"):
        p = SourcedPop(*self.cluster.at("p1", "pop3"))
        self.addCleanup(p.close)
        p.user(USER)
        p.pass_(password)
        return p

    def mail(self, subject):
        with smtplib.SMTP(*self.cluster.at("p1", "smtp"), timeout=30, source_address=("127.0.0.92", 0)) as s:
            s.sendmail("a@b.example", [USER], f"Subject: {subject}\r\n\r\nHello.\r\n..two dots\r\n")

    def round_trip(self):
        """A message in by LMTP, read by IMAP and POP3."""
        subject = f"trip {time.monotonic()}"
        self.mail(subject)
        m = self.imap()
        m.select("INBOX")
        mt.wait_for(lambda: m.noop() and m.search(None, "SUBJECT", f'"{subject}"')[1][0], 20, "the message is there")
        m.logout()
        p = self.pop3()
        self.assertIn(f"Subject: {subject}".encode(), p.retr(p.stat()[0])[1])
        p.quit()

    def peer_log(self, *words):
        return mt.wait_for(lambda: next((l for l in self.peer.log().splitlines() if all(w in l for w in words)), None), 10,
                           f"{words} in the peer's log\n{self.peer.log()[-3000:]}")

    def refused(self, words):
        """Users are told to come later, at once, and one line of the log says why; no line a user."""
        with self.assertRaisesRegex(imaplib.IMAP4.error, "UNAVAILABLE"):
            self.imap()
        with self.assertRaisesRegex(imaplib.IMAP4.error, "UNAVAILABLE"):
            self.imap()
        lines = [l for l in self.cluster.log("p1").splitlines() if "back-end is down" in l and "WARN" in l and "protocol=imap" in l]
        self.assertEqual(len(lines), 1, lines)
        self.assertRegex(lines[0], words)


class Sourced(imaplib.IMAP4):
    """From an address of its own."""

    def __init__(self, host, port, source):
        self.source = source
        super().__init__(host, port)

    def _create_socket(self, timeout):
        return socket.create_connection((self.host, self.port), 30, source_address=(self.source, 0))


class SourcedPop(poplib.POP3):
    def _create_socket(self, timeout):
        return socket.create_connection((self.host, self.port), 30, source_address=("127.0.0.93", 0))


class WithDovecot(Rig):
    @classmethod
    def start_peer(cls):
        cls.certs.make("server", "DNS:store.example.test,IP:127.0.0.1")
        cls.peer = peers.Dovecot(cls.USERS, (cls.certs.path("server.pem"), cls.certs.path("server.key")))

    NAME = '\tserver-name = "store.example.test"\n'

    def test_by_proxy_auth_over_starttls(self):
        self.proxy(more=self.NAME)
        self.round_trip()
        with self.assertRaisesRegex(imaplib.IMAP4.error, "AUTHENTICATIONFAILED"):
            self.imap(password="wrong")
        # ID and XCLIENT: its log has the client's address, not the proxy's.
        self.peer_log("imap-login", "Login", f"user=<{USER}>", "rip=127.0.0.91", "TLS")
        self.peer_log("pop3-login", "Login", f"user=<{USER}>", "rip=127.0.0.93", "TLS")

    def test_by_replay(self):
        self.proxy(trust="replay", checks="backend", more=self.NAME)
        self.round_trip()
        with self.assertRaisesRegex(imaplib.IMAP4.error, "AUTHENTICATIONFAILED"):
            self.imap(password="wrong")
        with self.assertRaisesRegex(poplib.error_proto, "AUTH"):
            self.pop3(password="wrong")

    def test_by_proxy_v2(self):
        ports = {s: self.peer.ports[s + "-haproxy"] for s in ("imap", "pop3", "lmtp")}
        self.proxy(ports=ports, more=self.NAME + "\tidentity = proxy-v2\n")
        self.round_trip()
        for login, address in (("imap-login", "127.0.0.91"), ("pop3-login", "127.0.0.93")):
            self.peer_log(login, "Login", f"user=<{USER}>", "rip=" + address, "lip=" + self.cluster.at("p1", "imap")[0])

    def test_a_certificate_for_another_name_or_by_nobody_we_know(self):
        self.proxy(more='\tserver-name = "other.example.test"\n')
        self.refused("hostname mismatch|TLS.*name")
        self.cluster.stop()
        self.certs.make("stranger", "DNS:stranger", signed=False)
        self.proxy(more=self.NAME, ca="stranger.pem")
        self.refused("certificate")


class WithStrictDovecot(WithDovecot):
    """It wants to see a certificate of whoever logs in."""

    @classmethod
    def start_peer(cls):
        cls.certs.make("server", "DNS:store.example.test")
        cls.peer = peers.Dovecot(cls.USERS, (cls.certs.path("server.pem"), cls.certs.path("server.key")), client_ca=cls.certs.path("ca.pem"))

    NAME = property(lambda self: WithDovecot.NAME + self.client_certificate())
    test_by_proxy_v2 = test_by_replay = test_a_certificate_for_another_name_or_by_nobody_we_know = None

    def test_without_a_certificate_nobody_is_let_in(self):
        self.proxy(more=WithDovecot.NAME)
        with self.assertRaisesRegex(imaplib.IMAP4.error, "UNAVAILABLE"):
            self.imap()


class WithExpiredDovecot(Rig):
    @classmethod
    def start_peer(cls):
        cls.certs.make("server", "DNS:store.example.test", days=-1)
        cls.peer = peers.Dovecot(cls.USERS, (cls.certs.path("server.pem"), cls.certs.path("server.key")))

    def test_a_certificate_that_has_run_out(self):
        self.proxy(more=WithDovecot.NAME)
        self.refused("expired")


class WithCyrus(Rig):
    """Its lmtpd takes no TLS: mail goes by a section and a map of its own."""

    @classmethod
    def start_peer(cls):
        cls.certs.make("server", "DNS:store.example.test")
        cls.peer = peers.Cyrus(cls.USERS, (cls.certs.path("server.pem"), cls.certs.path("server.key")), cls.certs.path("ca.pem"))

    def test_by_proxy_auth_over_starttls(self):
        self.proxy(more=WithDovecot.NAME + self.client_certificate(), also=self.mail_section())
        self.round_trip()

    def test_by_replay(self):
        self.proxy(trust="replay", checks="backend", more=WithDovecot.NAME, also=self.mail_section())
        self.round_trip()
        with self.assertRaisesRegex(imaplib.IMAP4.error, "AUTHENTICATIONFAILED"):
            self.imap(password="wrong")

    def mail_section(self):
        mail = self.write("mail.map", "".join(f"{u} mail\n" for u in self.USERS), 0o600)
        return (f'service smtp {{ maps = {{mail}} }}\nmap mail {{\n\tfile = "{mail}"\n}}\nbackend mail {{\n\thost = {self.peer.host}\n'
                f"\tlmtp-port = {self.peer.ports['lmtp']}\n\ttls = none\n\ttrust = replay\n}}\n")


class WithPostfix(Rig):
    """delivery = smtp, to a server that wants to see a certificate."""

    @classmethod
    def start_peer(cls):
        cls.certs.make("server", "DNS:store.example.test")
        cls.peer = peers.Postfix((cls.certs.path("server.pem"), cls.certs.path("server.key")), cls.certs.path("ca.pem"))

    def test_mail_goes_there_by_smtp(self):
        self.proxy(ports={"lmtp": self.peer.ports["smtp"]}, more=WithDovecot.NAME + self.client_certificate() + "\tdelivery = smtp\n")
        for subject in ("first", "second"):
            self.mail(subject)
        mt.wait_for(lambda: len(self.peer.messages()) == 2, 30, f"two messages in the maildir\n{self.peer.log()}")
        for text in self.peer.messages():
            # XCLIENT: its trace field has the client's address, not the proxy's.
            self.assertRegex(text, r"Received: from [^\n]*\[127\.0\.0\.92\]")
            self.assertIn("\n..two dots", text)

    def test_without_a_certificate_it_takes_nothing(self):
        before = len(self.peer.messages())
        self.proxy(ports={"lmtp": self.peer.ports["smtp"]}, more=WithDovecot.NAME + "\tdelivery = smtp\n")
        with self.assertRaises(smtplib.SMTPException):
            self.mail("third")
        self.assertEqual(len(self.peer.messages()), before)


if __name__ == "__main__":
    unittest.main()
