"""A back-end alone, without proxies: what its flow tests share. Loopback counts as trusted unless CONF says otherwise."""
import os
import smtplib
import socket
import ssl
import tempfile

import mt


class BackendCase(mt.ClusterCase):
    CONF = ""      # read after the demo's own back-end configuration
    LIMITS = ""    # more keys of the section limits
    STARTER = []   # more flags of the starter
    USERS = 4
    TRUSTED = '"127.0.0.0/8"'

    @classmethod
    def setUpClass(cls):
        fd, cls.extra = tempfile.mkstemp(suffix=".conf")
        with os.fdopen(fd, "w") as f:
            f.write(f"trusted-proxies = {{{cls.TRUSTED}}}\nlimits {{\n\tfailed-login-delay = 0s\n\tfailed-logins = 100\n"
                    f"{cls.LIMITS}}}\n{cls.CONF}")
        cls.FLAGS = ["--proxies", 0, "--backends", 1, "--users", cls.USERS, "--backend-conf", cls.extra, *cls.STARTER]
        super().setUpClass()
        for i in range(1, cls.USERS + 1):
            cls.cluster.ctl("b1", "account", "set", cls.user(i), "--hash", f"{{PLAIN}}{cls.password(i)}")

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        os.unlink(cls.extra)

    @staticmethod
    def user(i):
        return f"user{i:04}@example.test"

    @staticmethod
    def password(i):
        return f"secret{i:04}"

    @classmethod
    def tls(cls):
        return ssl.create_default_context(cafile=cls.cluster.ca)

    @classmethod
    def connect(cls, service, source=None):
        """A raw TLS connection to a listener with implicit TLS, as a file of lines."""
        host, port = cls.cluster.at("b1", service)
        raw = socket.create_connection((host, port), timeout=20, source_address=(source, 0) if source else None)
        return Lines(cls.tls().wrap_socket(raw, server_hostname=host))

    @classmethod
    def deliver(cls, user, message):
        """One message by LMTP; every line end of message is CRLF."""
        host, port = cls.cluster.at("b1", "lmtp")
        with smtplib.LMTP(host, port) as lmtp:
            lmtp.sendmail("sender@elsewhere.test", [user], message)

    @classmethod
    def secret(cls):
        with open(os.path.join(cls.cluster.dir, "c", "proxy.secret")) as f:
            return f.read().strip()


class Lines:
    """A connection that is read by lines."""

    def __init__(self, sock):
        self.sock = sock
        self.file = sock.makefile("rb")

    def send(self, data):
        self.sock.sendall(data if isinstance(data, bytes) else data.encode() + b"\r\n")

    def line(self):
        return self.file.readline().decode("latin-1").rstrip("\r\n")

    def ask(self, data):
        self.send(data)
        return self.line()

    def lines(self):
        """The rest of a multi-line answer of POP3, raw, dots undone."""
        out = b""
        while True:
            line = self.file.readline()
            if line in (b".\r\n", b""):
                return out
            out += line[1:] if line.startswith(b".") else line

    def close(self):
        self.file.close()
        self.sock.close()
