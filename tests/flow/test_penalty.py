"""Penalties for failed logins across sessions, with real programs: who waits, who does not, what the operator sees. Loopback addresses
are the clients' addresses: 127.a.b.c each is another client."""
import contextlib
import os
import re
import smtplib
import socket
import ssl
import tempfile

import mt
from backend_case import BackendCase

# A delay that no test waits for: whoever gets an answer has not been delayed.
NEVER = "60s"
LIMITS = """
limits {
	failed-login-delay = 0s
	failed-logins = 100
	penalty-free = 2
	penalty-delay = %s
	penalty-most = 60s
	penalty-waiting = 2
}
"""


def addresses():
    n = 0
    while True:
        n += 1
        yield f"127.77.{n // 250}.{n % 250 + 1}"


class Client:
    """A raw IMAP connection from an address of loopback."""

    def __init__(self, at, source, context, name):
        self.sock = context.wrap_socket(socket.create_connection(at, timeout=20, source_address=(source, 0)), server_hostname=name)
        self.file = self.sock.makefile("rb")
        self.file.readline()

    def send(self, user, password):
        self.sock.sendall(f"a LOGIN {user} {password}\r\n".encode())

    def answer(self):
        while line := self.file.readline():
            if line.startswith(b"a "):
                return line.decode()
        return ""

    def login(self, user, password):
        self.send(user, password)
        return self.answer()

    def close(self):
        self.file.close()
        self.sock.close()


class PenaltyCase(mt.ClusterCase):
    @classmethod
    def setUpClass(cls):
        fd, cls.extra = tempfile.mkstemp(suffix=".conf")
        with os.fdopen(fd, "w") as f:
            f.write(LIMITS % NEVER)
        cls.FLAGS = ["--proxies", 1, "--backends", 1, "--users", 6, "--conf", cls.extra]
        super().setUpClass()
        cls.fresh = addresses()

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        os.unlink(cls.extra)

    def setUp(self):
        self.cluster.ctl("p1", "penalty", "clear")

    def client(self, source):
        host, port = self.cluster.at("p1", "imaps")
        c = Client((host, port), source, ssl.create_default_context(cafile=self.cluster.ca), host)
        self.addCleanup(c.close)
        return c

    def login(self, source, user, password):
        return self.client(source).login(user, password)

    def guess(self, source, user, times, start=0):
        for i in range(times):
            self.assertIn("AUTHENTICATIONFAILED", self.login(source, user, f"guess{start + i}"))

    def waiting(self):
        return self.cluster.metric("p1", "mailtier_auth_penalty_waiting")

    def wait_waiting(self, count):
        mt.wait_for(lambda: self.waiting() == count, 20, f"{count} logins wait")


class Penalties(PenaltyCase):
    def test_the_address_that_failed_waits_and_no_other(self):
        bad, good = next(self.fresh), next(self.fresh)
        self.guess(bad, "user0001@example.test", 3)
        waiting = self.client(bad)
        waiting.send("user0002@example.test", "pass0002")
        self.wait_waiting(1)
        # From elsewhere another user comes in at once; at the proxy of this address, too, over other protocols.
        self.assertRegex(self.login(good, "user0002@example.test", "pass0002"), "^a OK")
        rows = self.cluster.ctl_json("p1", "penalty", "list")["rows"]
        by_name = {r["name"]: r for r in rows}
        self.assertEqual(by_name[bad]["failures"], 3)
        self.assertEqual(by_name[bad]["waiting"], 1)
        self.assertEqual(by_name[bad]["delay_ms"], 60000)
        self.assertEqual(by_name["user0001@example.test"]["failures"], 3)
        self.assertNotIn(good, by_name)
        self.assertEqual([r["name"] for r in self.cluster.ctl_json("p1", "penalty", "list", bad)["rows"]], [bad])
        self.assertEqual([r["name"] for r in self.cluster.ctl_json("p1", "penalty", "list", "USER0001@example.test")["rows"]],
                         ["user0001@example.test"])
        self.assertIn("login waits after failed ones", self.cluster.log("p1"))
        # The operator forgives; who waits already goes on waiting.
        self.cluster.ctl("p1", "penalty", "clear", bad)
        self.assertRegex(self.login(bad, "user0003@example.test", "pass0003"), "^a OK")
        self.assertEqual(self.cluster.ctl("p1", "penalty", "clear", bad, code=None)[0], 1)
        self.cluster.ctl("p1", "penalty", "clear", "user0001@example.test")
        self.assertEqual(self.cluster.ctl("p1", "penalty", "clear", "user0001@example.test", code=None)[0], 1)
        waiting.close()
        self.wait_waiting(0)

    def test_security_a_user_attacked_from_everywhere_logs_in_where_he_is_known(self):
        user, home = "user0004@example.test", next(self.fresh)
        self.assertRegex(self.login(home, user, "pass0004"), "^a OK")
        for i in range(3):
            self.guess(next(self.fresh), user, 1, i)
        # His neighbour behind the same address guesses too.
        self.guess(home, "user0005@example.test", 3)
        stranger = self.client(next(self.fresh))
        stranger.send(user, "pass0004")
        self.wait_waiting(1)
        self.assertRegex(self.login(home, user, "pass0004"), "^a OK")
        self.assertGreater(self.cluster.metric("p1", "mailtier_auth_penalty_known_good_total"), 0)
        stranger.close()
        self.wait_waiting(0)

    def test_a_misconfigured_client_is_not_punished_again_and_again(self):
        phone = next(self.fresh)
        for _ in range(10):
            self.assertIn("AUTHENTICATIONFAILED", self.login(phone, "user0006@example.test", "last-years"))
        self.assertEqual([r["failures"] for r in self.cluster.ctl_json("p1", "penalty", "list", phone)["rows"]], [1])
        self.assertRegex(self.login(phone, "user0006@example.test", "pass0006"), "^a OK")

    def test_too_many_waiting_get_a_temporary_error_at_once(self):
        bad = next(self.fresh)
        self.guess(bad, "nobody@example.test", 3)
        first, second, third = (self.client(bad) for _ in range(3))
        for c in (first, second):
            c.send("user0001@example.test", "x")
        self.wait_waiting(2)
        # A known good address would not; this user is not known here.
        self.assertIn("UNAVAILABLE", third.login("user0001@example.test", "x"))
        self.assertIn(b"BYE", third.file.readline())
        host, port = self.cluster.at("p1", "pop3s")
        raw = socket.create_connection((host, port), timeout=20, source_address=(bad, 0))
        with self.context().wrap_socket(raw, server_hostname=host) as pop:
            pop.sendall(b"USER user0001@example.test\r\nPASS x\r\n")
            self.assertIn(b"-ERR [SYS/TEMP]", b"".join(iter(lambda: pop.recv(4096), b"")))
        for c in (first, second):
            c.close()
        self.wait_waiting(0)

    def context(self):
        return ssl.create_default_context(cafile=self.cluster.ca)

    def test_all_protocols_share_one_account_of_failures(self):
        bad = next(self.fresh)
        host, port = self.cluster.at("p1", "submissions")
        for i, user in enumerate(("nobody1@example.test", "nobody2@example.test")):
            with smtplib.SMTP_SSL(host, port, context=self.context(), timeout=20, source_address=(bad, 0)) as s:
                with self.assertRaises(smtplib.SMTPAuthenticationError):
                    s.login(user, f"smtp{i}")
        self.guess(bad, "nobody3@example.test", 1)
        self.assertEqual([r["failures"] for r in self.cluster.ctl_json("p1", "penalty", "list", bad)["rows"]], [3])
        # Submission waits now: nothing comes but the silence of the delay.
        with smtplib.SMTP_SSL(host, port, context=self.context(), timeout=20, source_address=(bad, 0)) as s:
            s.ehlo()
            s.putcmd("AUTH", "PLAIN AHVzZXIwMDAxQGV4YW1wbGUudGVzdABwYXNzMDAwMQ==")
            self.wait_waiting(1)
            s.close()
        self.wait_waiting(0)


class Domains(mt.ClusterCase):
    """Bare user names get the listener's domain, else default-domain; on both tiers, in every protocol with logins."""

    @classmethod
    def setUpClass(cls):
        cls.files = []
        cls.host = mt.fresh_host()
        for text, services, ports in (("default-domain = elsewhere.test\n", ("imap", "pop3", "submission"), 21001),
                                      ("default-domain = elsewhere.test\n", ("imap", "pop3"), 22001)):
            for i, service in enumerate(services):
                text += (f'listener own-{service} {{\n\tservice = {service}\n\tlisten = {{"{cls.host}:{ports + i}"}}\n\ttls = none\n'
                         "\tallow-clear = yes\n\tdomain = Example.test\n}\n")
            fd, path = tempfile.mkstemp(suffix=".conf")
            with os.fdopen(fd, "w") as f:
                f.write(text)
            cls.files.append(path)
        cls.FLAGS = ["--proxies", 1, "--backends", 1, "--users", 1, "--conf", cls.files[0], "--backend-conf", cls.files[1]]
        super().setUpClass()
        cls.cluster.ctl("b1", "account", "set", "user0001@example.test", "--hash", "{PLAIN}pass0001")

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        for path in cls.files:
            os.unlink(path)

    def talk(self, port, lines):
        """What the server says to lines sent one after another."""
        with socket.create_connection((self.host, port), timeout=20) as s:
            file = s.makefile("rb")
            answers = [file.readline().decode()]
            for line in lines:
                s.sendall(line.encode() + b"\r\n")
                answer = file.readline().decode()
                while answer[3:4] == "-" and answer[:3].isdigit() or answer.startswith("*"):
                    answer = file.readline().decode()
                answers.append(answer)
            return answers[-1]

    def test_a_bare_name_gets_the_listeners_domain(self):
        for port in (21001, 22001):
            self.assertRegex(self.talk(port, ["a LOGIN user0001 pass0001"]), "^a OK")
            self.assertRegex(self.talk(port, ["a LOGIN user0001@example.test pass0001"]), "^a OK")
            self.assertIn("AUTHENTICATIONFAILED", self.talk(port, ["a LOGIN user0001@elsewhere.test pass0001"]))
            self.assertRegex(self.talk(port + 1, ["USER user0001", "PASS pass0001"]), r"^\+OK")
        plain = "AHVzZXIwMDAxAHBhc3MwMDAx"  # user0001, pass0001
        self.assertRegex(self.talk(21003, ["EHLO x", f"AUTH PLAIN {plain}"]), "^235")
        # The other listeners have default-domain.
        host, port = self.cluster.at("p1", "submissions")
        with smtplib.SMTP_SSL(host, port, context=ssl.create_default_context(cafile=self.cluster.ca), timeout=20) as s:
            with self.assertRaises(smtplib.SMTPAuthenticationError):
                s.login("user0001", "pass0001")


class Limits(mt.ClusterCase):
    """Wrong commands and failed logins of one connection, for every service of both tiers."""
    CONF = "limits {\n\tfailed-login-delay = 0s\n\tpenalty-delay = 0s\n\twrong-commands = 7\n\tfailed-logins = 4\n}\n"
    NONSENSE = {"imap": b"x NONSENSE\r\n", "pop3": b"NONSENSE\r\n", "smtp": b"NONSENSE\r\n"}
    LOGIN = {"imap": b"x LOGIN nobody g%d\r\n", "pop3": b"USER nobody\r\nPASS g%d\r\n"}
    PLACES = [("p1", "imap"), ("p1", "imaps"), ("p1", "pop3"), ("p1", "pop3s"), ("p1", "smtp"), ("p1", "submission"), ("p1", "submissions"),
              ("b1", "imap"), ("b1", "imaps"), ("b1", "pop3"), ("b1", "pop3s"), ("b1", "lmtp"), ("b1", "lmtps")]

    @classmethod
    def setUpClass(cls):
        cls.files = []
        for text in (cls.CONF + "smtp {\n\terrors = 7\n}\n", cls.CONF + 'trusted-proxies = {"127.0.0.0/8"}\n'):
            fd, path = tempfile.mkstemp(suffix=".conf")
            with os.fdopen(fd, "w") as f:
                f.write(text)
            cls.files.append(path)
        cls.FLAGS = ["--proxies", 1, "--backends", 1, "--users", 1, "--conf", cls.files[0], "--backend-conf", cls.files[1]]
        super().setUpClass()
        cls.cluster.ctl("b1", "account", "set", "user0001@example.test", "--hash", "{PLAIN}pass0001")

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        for path in cls.files:
            os.unlink(path)

    def open(self, at, service):
        host, port = self.cluster.at(at, service)
        s = socket.create_connection((host, port), timeout=20)
        if service in ("imaps", "pop3s", "submissions", "lmtps"):
            s = ssl.create_default_context(cafile=self.cluster.ca).wrap_socket(s, server_hostname=host)
        self.addCleanup(s.close)
        s.recv(4096)
        return s

    @staticmethod
    def kind(service):
        return "imap" if "imap" in service else "pop3" if "pop3" in service else "smtp"

    def answers(self, s):
        """All that comes until the server closes."""
        out = b""
        try:
            while data := s.recv(65536):
                out += data
        except OSError:
            pass
        return out

    def count(self, kind, got):
        bad = {"imap": b"x BAD", "pop3": b"-ERR This command", "smtp": b"500 "}[kind]
        return sum(line.startswith(bad) for line in got.split(b"\r\n"))

    def test_wrong_commands_end_a_connection(self):
        for at, service in self.PLACES:
            with self.subTest(at=at, service=service):
                s, kind = self.open(at, service), self.kind(service)
                s.sendall(self.NONSENSE[kind] * 7)
                got = self.answers(s)
                self.assertEqual(self.count(kind, got), 7, got)
                self.assertRegex(got.split(b"\r\n")[-2], rb"421 |\* BYE Too many|-ERR Too many")

    def test_wrong_commands_after_login_too(self):
        for service, login, bad in (("imaps", b"x LOGIN user0001@example.test pass0001\r\n", b"x NONSENSE\r\n"),
                                    ("pop3s", b"USER user0001@example.test\r\nPASS pass0001\r\n", b"NONSENSE\r\n")):
            s = self.open("b1", service)
            s.sendall(login + bad * 20)
            got = self.answers(s)
            self.assertRegex(got, rb"x OK|\+OK")
            self.assertEqual(len(re.findall(rb"x BAD|-ERR", got)), 7, got)

    def test_failed_logins_end_a_connection(self):
        for at, service in self.PLACES:
            kind = self.kind(service)
            if kind == "smtp" or not service.endswith("s"):
                continue
            with self.subTest(at=at, service=service):
                s = self.open(at, service)
                s.sendall(b"".join(self.LOGIN[kind] % i for i in range(6)))
                got = self.answers(s)
                self.assertEqual(len(re.findall(rb"AUTHENTICATIONFAILED|-ERR \[AUTH\]", got)), 4, got)
                self.assertIn(b"Too many failed logins", got)
        s = self.open("p1", "submissions")
        got, file = b"", s.makefile("rb")  # line by line: AUTH ends a group (RFC 4954 section 4)
        for command in [b"EHLO x\r\n"] + [b"AUTH PLAIN AG5vYm9keQB4\r\n"] * 6:
            with contextlib.suppress(OSError):
                s.sendall(command)
            while line := file.readline():
                got += line
                if line[3:4] == b" " and not line.startswith(b"220"):
                    break
        self.assertEqual(got.count(b"535 "), 4, got)
        self.assertIn(b"421 4.7.0 Too many failed logins", got)


class BackendPenalties(BackendCase):
    """On the back-end the client's address counts that a trusted proxy told, and never the proxy's own."""
    LIMITS = "penalty-free = 2\n\tpenalty-delay = 60s\n\tpenalty-most = 60s\n"
    HOST = mt.fresh_host()
    CONF = (f'listener told {{\n\tservice = imap\n\tlisten = {{"{HOST}:23001"}}\n\ttls = none\n\tallow-clear = yes\n'
            '\tproxy-protocol = required\n\tproxy-networks = {"127.0.0.0/8"}\n}\n')

    def setUp(self):
        self.cluster.ctl("b1", "penalty", "clear")

    def test_the_address_of_a_proxy_header_counts(self):
        def told(client, password):
            with socket.create_connection((self.HOST, 23001), timeout=20) as s:
                s.sendall(f"PROXY TCP4 {client} {self.HOST} 4711 143\r\na LOGIN nobody@example.test {password}\r\n".encode())
                file = s.makefile("rb")
                file.readline()
                return file.readline().decode()
        for i in range(2):
            self.assertIn("AUTHENTICATIONFAILED", told("192.0.2.77", f"g{i}"))
        self.assertIn("AUTHENTICATIONFAILED", told("192.0.2.78", "g0"))
        rows = {r["name"]: r["failures"] for r in self.cluster.ctl_json("b1", "penalty", "list")["rows"] if r["kind"] == "address"}
        self.assertEqual(rows, {"192.0.2.77": 2, "192.0.2.78": 1})

    def told(self, client):
        c = self.connect("imaps")
        self.addCleanup(c.close)
        c.line()
        if client:
            self.assertRegex(self.ask(c, f'i ID ("x-originating-ip" "{client}")'), "^i OK")
        return c

    def ask(self, c, line):
        tag = line.split()[0]
        c.send(line)
        while answer := c.line():
            if answer.startswith(tag + " "):
                return answer
        return ""

    def test_the_told_address_counts_and_the_proxys_does_not(self):
        user = self.user(1)
        for i in range(3):
            self.assertIn("AUTHENTICATIONFAILED", self.ask(self.told("192.0.2.1"), f"a LOGIN nobody{i}@example.test g{i}"))
        for i in range(8):
            self.assertIn("AUTHENTICATIONFAILED", self.ask(self.told(None), f"a LOGIN other{i}@example.test g{i}"))
        names = [r["name"] for r in self.cluster.ctl_json("b1", "penalty", "list")["rows"] if r["kind"] == "address"]
        self.assertEqual(names, ["192.0.2.1"])
        self.assertRegex(self.ask(self.told(None), f"a LOGIN {user} {self.password(1)}"), "^a OK")
        self.assertRegex(self.ask(self.told("192.0.2.2"), f"a LOGIN {user} {self.password(1)}"), "^a OK")
        waits = self.told("192.0.2.1")
        waits.send(f"a LOGIN {user} {self.password(1)}")
        mt.wait_for(lambda: self.cluster.metric("b1", "mailtier_auth_penalty_waiting") == 1, 20, "one login waits")
        waits.close()
        mt.wait_for(lambda: self.cluster.metric("b1", "mailtier_auth_penalty_waiting") == 0, 20, "nobody waits")


if __name__ == "__main__":
    import unittest
    unittest.main()
