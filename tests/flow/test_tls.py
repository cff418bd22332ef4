"""TLS as clients see it: versions, certificates by name, tickets at every proxy, client certificates, renewal without losing a session."""
import os
import signal
import socket
import ssl
import subprocess
import tempfile
import unittest

import mt

FLOW_LONG = True


def openssl(*words):
    done = subprocess.run(["openssl", *words], capture_output=True, text=True)
    if done.returncode:
        raise AssertionError(done.stderr)


class Authority:
    """A CA of the test's own, in a folder."""

    def __init__(self, folder, name):
        self.folder, self.base = folder, os.path.join(folder, name)
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30", "-subj",
                f"/CN={name}", "-keyout", self.base + ".key", "-out", self.base + ".pem")

    def issue(self, name, alt, days=30, file=None):
        """file.pem and file.key for a name; days -1: it has expired."""
        base = os.path.join(self.folder, file or name)
        with open(base + ".ext", "w") as f:
            f.write(f"subjectAltName={alt}\nbasicConstraints=CA:FALSE\n")
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={name}", "-keyout",
                base + ".key", "-out", base + ".csr")
        # Debian 12's `openssl x509` takes no dates of the past, but a number of days.
        openssl("x509", "-req", "-in", base + ".csr", "-CA", self.base + ".pem", "-CAkey", self.base + ".key", "-CAcreateserial",
                "-days", str(days), "-extfile", base + ".ext", "-out", base + ".new")
        os.replace(base + ".new", base + ".pem")
        os.chmod(base + ".key", 0o600)
        return base


class TlsCase(mt.ClusterCase):
    SHARES_KEYS = True

    @classmethod
    def setUpClass(cls):
        cls.temporary = tempfile.TemporaryDirectory(prefix="mt-tls-")
        cls.dir = cls.temporary.name
        cls.ca = Authority(cls.dir, "test CA")
        cls.foreign_ca = Authority(cls.dir, "foreign CA")
        cls.ca.issue("first.example.test", "DNS:first.example.test")
        cls.ca.issue("other.example.test", "DNS:other.example.test,DNS:*.wild.example.test")
        cls.client = cls.ca.issue("client", "email:user0001@example.test")
        cls.expired = cls.ca.issue("expired", "email:user0001@example.test", days=-1)
        cls.foreign = cls.foreign_ca.issue("foreign", "email:user0001@example.test")
        cls.keys = os.path.join(cls.dir, "tickets")
        cls.write_keys(os.urandom(80))
        # The proxies, which name no host, still find at the back-end the certificate of the starter's CA.
        confs = [("p.conf", "certificate = first\n\tcertificates = other"), ("b.conf", "certificates = {first, other}")]
        for file, certificates in confs:
            with open(os.path.join(cls.dir, file), "w") as f:
                f.write(cls.conf_text(certificates))
        cls.FLAGS = ["--proxies", 2, "--backends", 1, "--users", 5, "--conf", os.path.join(cls.dir, "p.conf"), "--backend-conf",
                     os.path.join(cls.dir, "b.conf")]
        super().setUpClass()

    @classmethod
    def conf_text(cls, certificates):
        d = cls.dir
        return ((f'ticket-keys = "{cls.keys}"\n' if cls.SHARES_KEYS else "") + f"""
tls first {{ certificate = "{d}/first.example.test.pem"
	key = "{d}/first.example.test.key" }}
tls other {{ certificate = "{d}/other.example.test.pem"
	key = "{d}/other.example.test.key" }}
tls asking {{ certificate = "{d}/first.example.test.pem"
	key = "{d}/first.example.test.key"
	client-ca = "{cls.ca.base}.pem"
	client-certificates = require }}
tls modern {{ certificate = "{d}/first.example.test.pem"
	key = "{d}/first.example.test.key"
	min-version = 1.3 }}
listener pop3 {{ certificate = modern
	tls = implicit }}
listener imaps {{ {certificates} }}
listener pop3s {{ {certificates}
	sni = strict }}
listener imap {{ certificate = asking }}
""")

    @classmethod
    def write_keys(cls, octets):
        with open(cls.keys + ".new", "wb", opener=lambda path, flags: os.open(path, flags, 0o600)) as f:
            f.write(octets)
        os.replace(cls.keys + ".new", cls.keys)

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        cls.temporary.cleanup()

    def context(self, version=None, certificate=None, alpn=None, ciphers=None):
        c = ssl.create_default_context(cafile=self.ca.base + ".pem")
        if version:
            if version < ssl.TLSVersion.TLSv1_2:
                c.set_ciphers("ALL:@SECLEVEL=0")
            c.minimum_version = c.maximum_version = version
        if ciphers:
            c.set_ciphers(ciphers + ":@SECLEVEL=0")
        if certificate:
            c.load_cert_chain(certificate + ".pem", certificate + ".key")
        if alpn:
            c.set_alpn_protocols(alpn)
        return c

    def open(self, at, service, context, name="first.example.test", session=None):
        raw = socket.create_connection(self.cluster.at(at, service), 20)
        self.addCleanup(raw.close)
        wire = context.wrap_socket(raw, server_hostname=name, session=session)
        self.addCleanup(wire.close)
        wire.greeting = wire.recv(1000)   # with TLS 1.3 a refusal, and the ticket, come with what is read first
        if not wire.greeting:
            raise ssl.SSLError("closed")
        return wire


def common_name(wire):
    return dict(x[0] for x in wire.getpeercert()["subject"])["commonName"]


class Handshakes(TlsCase):
    def test_the_name_chooses_the_certificate(self):
        for at in ("p1", "b1"):
            for name, want in (("first.example.test", "first.example.test"), ("other.example.test", "other.example.test"),
                               ("a.wild.example.test", "other.example.test")):
                for service in ("imaps", "pop3s"):
                    with self.subTest(at=at, name=name, service=service):
                        self.assertEqual(common_name(self.open(at, service, self.context(), name)), want)

    def test_an_unknown_name(self):
        loose = self.context()
        loose.check_hostname = False
        for at in ("p1", "b1"):
            with self.assertRaisesRegex(ssl.SSLError, "(?i)unrecognized.name"):
                self.open(at, "pop3s", loose, "nobody.example.test")
        for service, name in (("imaps", "nobody.example.test"), ("imaps", None), ("pop3s", None)):
            self.assertEqual(common_name(self.open("p1", service, loose, name)), "first.example.test")

    def test_security_02_old_versions_and_weak_ciphers_are_refused(self):
        for at, service in (("p1", "imaps"), ("p1", "pop3s"), ("p1", "submissions"), ("b1", "imaps"), ("b1", "lmtps")):
            name = "localhost" if service in ("submissions", "lmtps") else "first.example.test"
            with self.subTest(at=at, service=service):
                for version, ciphers in ((ssl.TLSVersion.TLSv1, None), (ssl.TLSVersion.TLSv1_1, None),
                                         (ssl.TLSVersion.TLSv1_2, "AES128-SHA"), (ssl.TLSVersion.TLSv1_2, "ECDHE+AES+SHA1"),
                                         (ssl.TLSVersion.TLSv1_2, "ECDHE+SHA384:!AESGCM"), (ssl.TLSVersion.TLSv1_2, "aNULL")):
                    context = self.context(version, ciphers=ciphers)
                    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
                    with self.assertRaises(OSError):
                        self.open(at, service, context, name)
                context = self.context()
                context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
                self.assertEqual(self.open(at, service, context, name).version(), "TLSv1.3")
                context = self.context(ssl.TLSVersion.TLSv1_2)
                context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
                self.assertEqual(self.open(at, service, context, name).version(), "TLSv1.2")

    def test_the_floor_can_be_raised(self):
        self.assertEqual(self.open("p1", "pop3", self.context()).version(), "TLSv1.3")
        with self.assertRaises(OSError):
            self.open("p1", "pop3", self.context(ssl.TLSVersion.TLSv1_2))

    def test_security_02_other_protocols_by_alpn(self):
        for at in ("p1", "b1"):
            for service, taken, refused in (("imaps", "imap", ("pop3", "http/1.1", "h2", "smtp")),
                                            ("pop3s", "pop3", ("imap", "http/1.1", "ftp"))):
                with self.subTest(at=at, service=service):
                    wire = self.open(at, service, self.context(alpn=["x", taken]))
                    self.assertEqual(wire.selected_alpn_protocol(), taken)
                    for other in refused:
                        with self.assertRaisesRegex(ssl.SSLError, "(?i)no.application.protocol"):
                            self.open(at, service, self.context(alpn=[other]))

    def start_tls(self, at, context):
        raw = socket.create_connection(self.cluster.at(at, "imap"), 20)
        self.addCleanup(raw.close)
        raw.recv(1000)
        raw.sendall(b"a STARTTLS\r\n")
        self.assertTrue(raw.recv(1000).startswith(b"a OK"))
        wire = context.wrap_socket(raw, server_hostname="first.example.test")
        self.addCleanup(wire.close)
        wire.sendall(b"b NOOP\r\n")
        answer = wire.recv(1000)
        if not answer:
            raise ssl.SSLError("closed")
        return answer

    def test_expired_and_foreign_client_certificates_are_refused(self):
        for at in ("p1", "b1"):
            for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
                with self.subTest(at=at, version=version):
                    self.assertIn(b"b OK", self.start_tls(at, self.context(version, self.client)))
                    for bad in (None, self.expired, self.foreign):
                        with self.assertRaises(OSError):
                            self.start_tls(at, self.context(version, bad))

    def test_a_certificate_is_renewed_without_losing_a_session(self):
        before = self.open("p1", "imaps", self.context(), "other.example.test")
        serial = before.getpeercert()["serialNumber"]
        before.sendall(b'a LOGIN user0002@example.test "pass0002"\r\n')
        self.assertIn(b"a OK", before.recv(2000))
        self.ca.issue("other.example.test", "DNS:other.example.test,DNS:*.wild.example.test")
        self.cluster.kill("p1", signal.SIGHUP)

        def renewed():
            return self.open("p1", "imaps", self.context(), "other.example.test").getpeercert()["serialNumber"] != serial
        mt.wait_for(renewed, 20, "the new certificate")
        before.sendall(b"b NOOP\r\n")
        self.assertIn(b"b OK", before.recv(2000))
        # One that is broken changes nothing.
        path = os.path.join(self.dir, "other.example.test.pem")
        with open(path) as f:
            good = f.read()
        with open(path, "w") as f:
            f.write("no certificate\n")
        self.cluster.kill("p1", signal.SIGHUP)
        mt.wait_for(lambda: "configuration refused" in self.cluster.log("p1"), 20, "the refusal")
        self.assertTrue(renewed())
        with open(path, "w") as f:
            f.write(good)
        before.sendall(b"c NOOP\r\n")
        self.assertIn(b"c OK", before.recv(2000))


class SharedTickets(TlsCase):
    def is_resumed(self, context, session, at="p1", service="imaps", name="first.example.test"):
        return self.open(at, service, context, name, session).session_reused

    def test_every_proxy_resumes_on_the_same_terms_alone(self):
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            with self.subTest(version=version):
                context = self.context(version)
                session = self.open("p1", "imaps", context).session
                self.assertTrue(session.has_ticket)
                self.assertTrue(self.is_resumed(context, session, "p1"))
                self.assertTrue(self.is_resumed(context, session, "p2"))
                self.assertFalse(self.is_resumed(context, session, "p2", "pop3s"))
                self.assertFalse(self.is_resumed(context, session, "p2", name="other.example.test"))
                self.assertFalse(self.is_resumed(context, session, "p1", "pop3s", "other.example.test"))
        self.assertGreater(self.cluster.metric("p2", "mailtier_net_tls_resumed_total"), 0)

    def test_a_ticket_does_not_pass_by_the_asking_for_a_certificate(self):
        context = self.context(ssl.TLSVersion.TLSv1_3)
        session = self.open("p1", "imaps", context).session   # the same service and certificate, without asking
        raw = socket.create_connection(self.cluster.at("p1", "imap"), 20)
        self.addCleanup(raw.close)
        raw.recv(1000)
        raw.sendall(b"a STARTTLS\r\n")
        raw.recv(1000)
        with self.assertRaises(OSError):
            wire = context.wrap_socket(raw, server_hostname="first.example.test", session=session)
            self.addCleanup(wire.close)
            wire.sendall(b"b NOOP\r\n")
            if not wire.recv(1000):
                raise ssl.SSLError("closed")

    def test_keys_are_rotated_without_losing_tickets(self):
        with open(self.keys, "rb") as f:
            old = f.read()[:80]
        new = os.urandom(80)
        context = self.context(ssl.TLSVersion.TLSv1_2)
        session = self.open("p1", "imaps", context).session

        def read_again(times):
            # By the file's date alone, without a signal.
            mt.wait_for(lambda: all(self.cluster.log(p).count("ticket keys read again") >= times for p in ("p1", "p2")), 60,
                        "the keys read again")
        seen = max(self.cluster.log(p).count("ticket keys read again") for p in ("p1", "p2"))
        self.write_keys(old + new)   # first the new key is known everywhere,
        read_again(seen + 1)
        self.assertTrue(self.is_resumed(context, session, "p2"))
        self.write_keys(new + old)   # then it makes the tickets,
        read_again(seen + 2)
        self.assertTrue(self.is_resumed(context, session, "p2"))
        fresh = self.open("p1", "imaps", context).session
        self.write_keys(new)         # and the old one goes.
        read_again(seen + 3)
        self.assertFalse(self.is_resumed(context, session, "p2"))
        self.assertTrue(self.is_resumed(context, fresh, "p2"))
        # What cannot be used is told, and changes nothing.
        self.write_keys(b"too short")
        mt.wait_for(lambda: "ticket keys refused" in self.cluster.log("p2"), 60, "the refusal")
        self.assertTrue(self.is_resumed(context, fresh, "p2"))
        self.write_keys(new)
        read_again(seen + 4)


class OwnTickets(TlsCase):
    SHARES_KEYS = False

    def test_without_shared_keys_only_the_same_proxy_resumes(self):
        context = self.context(ssl.TLSVersion.TLSv1_2)
        session = self.open("p1", "imaps", context).session
        self.assertTrue(self.open("p1", "imaps", context, session=session).session_reused)
        self.assertFalse(self.open("p2", "imaps", context, session=session).session_reused)
        # A reload keeps the keys.
        self.cluster.kill("p1", signal.SIGHUP)
        mt.wait_for(lambda: "configuration read again" in self.cluster.log("p1"), 20, "the reload")
        self.assertTrue(self.open("p1", "imaps", context, session=session).session_reused)


if __name__ == "__main__":
    unittest.main()
