"""Who may connect to a listener and whose word on clients counts: PROXY headers, access rules, flow control, on both tiers."""
import os
import re
import signal
import socket
import ssl
import tempfile
import unittest

import mt
from balancer import CERT_CONN, CERT_SESS, SSL, Wire, header, line, local, tls, tlv

BALANCER, BALANCER_2, STRANGER = "127.99.0.1", "127.99.0.2", "127.98.0.1"
NETWORKS = "\tproxy-networks = {127.99.0.0/16}\n"
OPTIONAL = "\tproxy-protocol = optional\n" + NETWORKS
REQUIRED = "\tproxy-protocol = required\n" + NETWORKS

PROXY = f"""
access = {{"deny 192.0.2.200-192.0.2.203"}}
limits {{ failed-login-delay = 0s penalty-delay = 1ms penalty-most = 100ms }}
certificate-user = cn
service imap {{ mechanisms = {{EXTERNAL, PLAIN, LOGIN}} }}
service smtp {{ access = {{"deny 192.0.2.66", "allow 192.0.2.201"}} }}
listener imap {{ allow-clear = no
{OPTIONAL}}}
listener imaps {{
{OPTIONAL}}}
listener pop3 {{ allow-clear = no
{REQUIRED}}}
listener smtp {{ access = {{"allow 192.0.2.202"}}
{OPTIONAL}}}
listener submission {{ allow-clear = no
{REQUIRED}}}
listener pop3s {{ peer-connections = 2 }}
listener submissions {{ new-connections = 3
	new-interval = 1h }}
"""
BACKEND = f"""
listener imap {{ allow-clear = no
{OPTIONAL}}}
listener pop3 {{ allow-clear = no
{REQUIRED}}}
listener lmtp {{
{REQUIRED}}}
"""
GREETINGS = {"imap": b"* OK", "pop3": b"+OK", "smtp": b"220 ", "submission": b"220 ", "lmtp": b"220 "}


class ListenerCase(mt.ClusterCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory(prefix="mt-listen-")
        cls.more = {"p1": os.path.join(cls.folder.name, "proxy.conf"), "b1": os.path.join(cls.folder.name, "backend.conf")}
        for name, text in (("p1", PROXY), ("b1", BACKEND)):
            with open(cls.more[name], "w") as f:
                f.write(text)
        cls.FLAGS = ["--proxies", 1, "--backends", 1, "--users", 5, "--conf", cls.more["p1"], "--backend-conf", cls.more["b1"]]
        super().setUpClass()
        cls.context = ssl.create_default_context(cafile=cls.cluster.ca)

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        cls.folder.cleanup()

    def open(self, at, service, source, first=b"", tls_too=False):
        wire = Wire(self.cluster.at(at, service), source, first, self.context if tls_too else None, "localhost")
        self.addCleanup(wire.close)
        return wire

    def refused(self, at, reason):
        return sum(v for k, v in self.cluster.metrics(at).items()
                   if k.startswith("mailtier_net_connections_refused_total") and f'reason="{reason}"' in k)

    @staticmethod
    def annoy(wire):
        """Senseless commands, until the connection is closed and the log says whose it was."""
        try:
            wire.send(b"x nonsense\r\n" * 40)
        except OSError:
            pass
        wire.rest()

    def wait_logged(self, at, pattern):
        mt.wait_for(lambda: re.search(pattern, self.cluster.log(at)), 20, f"{pattern} in the log of {at}")


class AnyAddress(unittest.TestCase):
    def test_a_star_is_every_address_of_both_families(self):
        port = mt.fresh_port()
        with tempfile.NamedTemporaryFile("w", suffix=".conf") as conf:
            conf.write(f"listener any {{ service = imap listen = *:{port} }}\n")
            conf.flush()
            cluster = mt.Cluster("--proxies", 1, "--backends", 1, "--users", 1, "--conf", conf.name)
            self.addCleanup(cluster.stop)
            for host in ("127.0.0.1", "127.77.1.2", "::1"):
                with self.subTest(host), socket.create_connection((host, port), 10) as s:
                    self.assertTrue(s.recv(100).startswith(b"* OK"))


class ProxyProtocol(ListenerCase):
    def test_the_client_is_whom_the_balancer_tells(self):
        services = [("p1", "imap"), ("p1", "pop3"), ("p1", "smtp"), ("p1", "submission"), ("b1", "imap"), ("b1", "pop3")]
        for n, (at, service) in enumerate(services):
            for k, make in enumerate((line, header)):
                client = f"192.0.2.{100 + n}" if k == 0 else f"2001:db8:{n}:1::7"
                first = make(client, "198.51.100.7" if k == 0 else "2001:db8::1")
                with self.subTest(at=at, service=service, client=client):
                    wire = self.open(at, service, BALANCER, first)
                    self.assertTrue(wire.line().startswith(GREETINGS[service]))
                    self.annoy(wire)
                    self.wait_logged(at, f"client={re.escape(client)}")

    def test_tls_follows_the_header(self):
        wire = self.open("p1", "imaps", BALANCER, header("192.0.2.7"), tls_too=True)
        self.assertTrue(wire.line().startswith(b"* OK"))
        self.assertIn(b"x OK", wire.ask('LOGIN user0001@example.test "pass0001"')[-1])
        self.wait_logged("p1", "user0001.*client=192.0.2.7")
        # The word goes on to the back-end: its session is the client's.
        self.assertIn("192.0.2.7", self.cluster.ctl("b1", "session", "list"))

    def test_a_header_is_not_guessed(self):
        for at, service in (("p1", "pop3"), ("p1", "submission"), ("b1", "pop3"), ("b1", "lmtp")):
            with self.subTest(at=at, service=service):
                before = self.refused(at, "proxy-header")
                for source, first in ((STRANGER, b""), (STRANGER, line("192.0.2.1")), (BALANCER, b"QUIT\r\n"),
                                      (BALANCER, b"PROXY TCP4 192.0.2.1\r\n"), (BALANCER, b"\x16\x03\x01\x02\0\1\0\1")):
                    self.assertEqual(self.open(at, service, source, first).rest(), b"")
                self.assertEqual(self.refused(at, "proxy-header"), before + 5)

    def test_one_header_and_no_more(self):
        wire = self.open("p1", "imap", BALANCER, line("192.0.2.1") + line("192.0.2.2"))
        self.assertTrue(wire.line().startswith(b"* OK"))
        self.assertIn(b"BAD", wire.line())

    def test_health_checks_speak_for_the_balancer(self):
        wire = self.open("p1", "imap", BALANCER_2, local())
        self.assertTrue(wire.line().startswith(b"* OK"))
        self.annoy(wire)
        self.wait_logged("p1", f"client={BALANCER_2}")

    def test_tls_that_ended_at_the_balancer_counts(self):
        wire = self.open("p1", "imap", BALANCER, header("192.0.2.8", more=tls()))
        greeting = wire.line()
        self.assertNotIn(b"LOGINDISABLED", greeting)
        self.assertIn(b"x OK", wire.ask('LOGIN user0002@example.test "pass0002"')[-1])
        # Without TLS there the same listener takes no password.
        wire = self.open("p1", "imap", BALANCER, header("192.0.2.8", more=tls(client=0)))
        self.assertIn(b"LOGINDISABLED", wire.line())
        self.assertNotIn(b"x OK", wire.ask('LOGIN user0002@example.test "pass0002"')[-1])
        wire = self.open("p1", "imap", BALANCER, header("192.0.2.8"))
        self.assertIn(b"LOGINDISABLED", wire.line())
        wire = self.open("b1", "imap", BALANCER, header("192.0.2.8", more=tls()))
        self.assertNotIn(b"LOGINDISABLED", wire.line())

    def external(self, source, more):
        """How a login by certificate ends whose name the header tells."""
        wire = self.open("p1", "imap", source, header("192.0.2.30", more=more))
        wire.line()
        return wire.ask("AUTHENTICATE EXTERNAL =")[-1]

    def test_security_07_a_told_certificate_counts_when_it_was_verified(self):
        name = "user0001@example.test"
        self.assertIn(b"x OK", self.external(BALANCER, tls(client=SSL | CERT_CONN, name=name)))
        self.assertIn(b"x OK", self.external(BALANCER, tls(client=SSL | CERT_SESS, name=name)))
        for source, more in ((BALANCER, tls(client=SSL | CERT_CONN, verify=1, name=name)),   # shown, and bad
                             (BALANCER, tls(client=SSL, name=name)),                         # none was shown
                             (BALANCER, tls(client=CERT_CONN, name=name)),                   # not over TLS
                             (BALANCER, tls(client=SSL | CERT_CONN)),                        # no name
                             (BALANCER, tls(client=SSL | CERT_CONN, name="nobody@example.test")),
                             (STRANGER, tls(client=SSL | CERT_CONN, name=name))):
            self.assertNotIn(b"x OK", self.external(source, more))

    def test_the_balancers_id_is_the_sessions(self):
        self.annoy(self.open("p1", "imap", BALANCER, header("192.0.2.31", more=tlv(5, b"edge-4711"))))
        self.wait_logged("p1", "edge-4711: .*client=192.0.2.31")
        self.annoy(self.open("p1", "smtp", BALANCER, header("192.0.2.32", more=tlv(5, b"edge-4712"))))
        self.wait_logged("p1", "edge-4712: .*client=192.0.2.32")
        # One that could forge a line of the log is not taken.
        self.annoy(self.open("p1", "imap", BALANCER, header("192.0.2.33", more=tlv(5, b"x\ny z"))))
        self.wait_logged("p1", "[0-9a-zA-Z_-]{16}: .*client=192.0.2.33")

    def test_security_07_a_strangers_header_is_input(self):
        """From a peer outside proxy-networks it tells nothing: neither who the client is nor that there is TLS."""
        told = header("192.0.2.123", more=tls(client=SSL | CERT_CONN, name="user0001"))
        for first in (told, line("192.0.2.123")):
            wire = self.open("p1", "imap", STRANGER, first)
            self.assertIn(b"LOGINDISABLED", wire.line())
            wire.send(b"\r\nx LOGIN user0001@example.test pass0001\r\n")
            wire.send(b"y LOGOUT\r\n")
            self.assertNotIn(b"x OK", wire.rest())
        wire = self.open("b1", "imap", STRANGER, told)
        self.assertIn(b"LOGINDISABLED", wire.line())
        wire.close()
        self.annoy(self.open("p1", "smtp", STRANGER, line("192.0.2.123")))
        self.wait_logged("p1", f"client={re.escape(STRANGER)}")
        for at in ("p1", "b1"):
            self.assertNotIn("192.0.2.123", self.cluster.log(at))

    def test_security_01_starttls_injection_behind_a_header(self):
        for at, service, begin, inject in (("p1", "imap", b"a STARTTLS\r\n", b"b NOOP\r\n"),
                                           ("p1", "pop3", b"STLS\r\n", b"CAPA\r\n"),
                                           ("p1", "submission", b"EHLO x\r\nSTARTTLS\r\n", b"NOOP\r\n"),
                                           ("b1", "imap", b"a STARTTLS\r\n", b"b NOOP\r\n")):
            with self.subTest(at=at, service=service):
                wire = self.open(at, service, BALANCER, header("192.0.2.9") + begin + inject)
                answer = wire.rest()
                self.assertNotIn(b"b OK", answer)
                self.assertNotIn(b"UIDL", answer)
        # And with nothing behind it, TLS begins as it should.
        wire = self.open("p1", "imap", BALANCER, header("192.0.2.9"))
        wire.line()
        self.assertIn(b"x OK", wire.ask("STARTTLS")[-1])
        wire.start_tls(self.context, "localhost")
        self.assertIn(b"x OK", wire.ask('LOGIN user0003@example.test "pass0003"')[-1])

    def test_hostile_headers_leave_nothing_open(self):
        body = b"\xc0\0\2\1\xc6\x33\x64\x07\x9c\x40\0\x8f"
        sign = b"\r\n\r\n\0\r\nQUIT\n"
        for first in (sign + b"\x21\x11\xff\xff", sign + b"\x21\x11\0\x0b" + body, sign + b"\x31\x11\0\x0c" + body,
                      header("192.0.2.1", more=tlv(2, b"a\r\nb")), header("192.0.2.1", more=tlv(3, b"\0\1\2\3")),
                      header("192.0.2.1", more=b"\x20\xff\xff"), b"PROXY TCP4 " + b"1" * 200):
            self.assertEqual(self.open("p1", "imap", BALANCER, first).rest(), b"")
        # Cut short and left: the deadline ends it.
        wire = self.open("p1", "imap", BALANCER, b"PROXY TCP4 192.0.2.1 ")
        self.assertEqual(wire.rest(), b"")


class Slow(ListenerCase):
    """Many who begin and do not go on: headers octet by octet, handshakes that never come. They are ended, and count for nobody."""

    @classmethod
    def setUpClass(cls):
        global PROXY
        whole = PROXY
        PROXY = whole.replace("listener imaps {", "listener imaps { peer-connections = 20\n").replace("limits {", "limits { tls-timeout = 3s")
        try:
            super().setUpClass()
        finally:
            PROXY = whole

    def gauge(self, service):
        return self.cluster.metric("p1", f'mailtier_net_connections_open{{listener="{service}"}}')

    def test_headers_octet_by_octet(self):
        text = b"PROXY TCP4 192.0.2.1 198.51.100.7 1 993\r"
        slow = []
        for i in range(500):
            s = socket.create_connection(self.cluster.at("p1", "imaps"), 20, source_address=(f"127.99.1.{1 + i % 200}", 0))
            self.addCleanup(s.close)
            slow.append(s)
        mt.wait_for(lambda: self.gauge("imaps") >= 500, 20, "all are there")
        for octet in text:
            for s in slow:
                try:
                    s.send(bytes([octet]))
                except OSError:
                    pass  # its time is over
        # Those whose header comes whole are served meanwhile, and the slow ones do not count against the client whom they name.
        wire = self.open("p1", "imaps", BALANCER, line("192.0.2.1"), tls_too=True)
        self.assertTrue(wire.line().startswith(b"* OK"))
        wire.close()
        mt.wait_for(lambda: self.gauge("imaps") == 0, 30, "all have been ended")
        self.assertGreaterEqual(self.refused("p1", "proxy-header"), 500)

    def test_handshakes_that_never_come_are_given_back(self):
        for round in range(3):
            held = []
            for _ in range(20):
                s = socket.create_connection(self.cluster.at("p1", "imaps"), 20, source_address=("127.98.0.9", 0))
                held.append(s)
                if round == 1:
                    s.sendall(b"\x16\3\1\2\0\1")  # a ClientHello that stops
                elif round == 2:
                    s.sendall(b"GET / HTTP/1.0\r\n\r\n")
            if round < 2:
                mt.wait_for(lambda: self.gauge("imaps") == 20, 20, "as many as a peer may")
                before = self.refused("p1", "peer-connections")
                with self.assertRaises(OSError):
                    self.open("p1", "imaps", "127.98.0.9", tls_too=True)
                self.assertGreater(self.refused("p1", "peer-connections"), before)
            mt.wait_for(lambda: self.gauge("imaps") == 0, 30, "the deadline ends them")
            for s in held:
                s.close()
        wire = self.open("p1", "imaps", "127.98.0.9", tls_too=True)
        self.assertTrue(wire.line().startswith(b"* OK"))
        wire.close()


class AccessRules(ListenerCase):
    def told(self, service, client):
        return self.open("p1", service, BALANCER, line(client)).line()

    def test_listener_over_service_over_global(self):
        before = self.refused("p1", "rule")
        for client, is_in in (("192.0.2.65", True), ("192.0.2.66", False),   # the service's
                              ("192.0.2.200", False), ("192.0.2.203", False),  # the whole program's
                              ("192.0.2.201", True),   # the service lets in what the program denies
                              ("192.0.2.202", True),   # so does the listener
                              ("192.0.2.204", True)):
            with self.subTest(client=client):
                self.assertEqual(self.told("smtp", client) != b"", is_in)
        self.assertEqual(self.told("imap", "192.0.2.201"), b"")   # other services have the program's rules alone
        self.assertNotEqual(self.told("imap", "192.0.2.66"), b"")
        self.assertEqual(self.refused("p1", "rule"), before + 4)
        self.assertIn("connections are refused listener=", self.cluster.log("p1"))

    def test_rules_change_by_reload_and_sessions_stay(self):
        held = self.open("p1", "imaps", STRANGER, tls_too=True)
        held.line()
        self.assertIn(b"x OK", held.ask('LOGIN user0004@example.test "pass0004"')[-1])
        with open(self.more["p1"], "w") as f:
            f.write(PROXY.replace("service imap {", f'service imap {{ access = {{"deny {STRANGER}"}}\n\t'))
        self.cluster.kill("p1", signal.SIGHUP)
        mt.wait_for(lambda: "configuration read again" in self.cluster.log("p1"), 20, "the reload")
        mt.wait_for(lambda: self.open("p1", "imap", STRANGER).line() == b"", 20, "the new rule")
        self.assertNotEqual(self.open("p1", "smtp", STRANGER).line(), b"")
        self.assertIn(b"x OK", held.ask("NOOP")[-1])


class FlowControl(ListenerCase):
    def test_connections_of_one_peer(self):
        wires = [self.open("p1", "pop3s", STRANGER, tls_too=True) for _ in range(2)]
        for w in wires:
            self.assertTrue(w.line().startswith(b"+OK"))
        with self.assertRaises(OSError):
            self.open("p1", "pop3s", STRANGER, tls_too=True)
        self.assertTrue(self.open("p1", "pop3s", "127.98.0.2", tls_too=True).line().startswith(b"+OK"))
        wires[0].close()
        mt.wait_for(lambda: self.is_taken("pop3s"), 20, "room for one more")
        self.assertGreaterEqual(self.refused("p1", "peer-connections"), 1)

    def is_taken(self, service):
        try:
            return self.open("p1", service, STRANGER, tls_too=True).line() != b""
        except OSError:
            return False

    def test_new_connections_of_an_interval(self):
        for _ in range(3):
            wire = self.open("p1", "submissions", STRANGER, tls_too=True)
            self.assertTrue(wire.line().startswith(b"220 "))
            wire.close()
        with self.assertRaises(OSError):
            self.open("p1", "submissions", "127.98.0.3", tls_too=True)
        self.assertGreaterEqual(self.refused("p1", "new-connections"), 1)


if __name__ == "__main__":
    unittest.main()
