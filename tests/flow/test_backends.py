"""Back-ends as a proxy sees them: several hosts, health, the gate, caps, source addresses, drain, reload, loops. Scripted servers where
their behaviour matters, real ones where numbers do."""
import base64
import os
import signal
import smtplib
import socket
import subprocess
import tempfile
import threading
import time
import unittest

import balancer
import mt
from test_proxy_foreign import Server, imap, pop3, right
from test_proxy_login import Line

USER = "user0001@example.test"

FLOW_LONG = True


class Rig(unittest.TestCase):
    """One proxy in front of scripted servers."""

    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="mt-backends-")
        self.addCleanup(lambda: subprocess.run(["rm", "-rf", self.dir]))

    def path(self, name):
        return os.path.join(self.dir, name)

    def write(self, name, text, mode=0o644):
        with open(os.open(self.path(name), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "w") as f:
            f.write(text)

    def server(self, serve=imap, host=None, port=0, **knobs):
        s = Server.__new__(Server)
        knobs.setdefault("login", right())
        s.knobs, s.lines, s.serve, s.accepted, s.login_at = knobs, [], serve, 0, None
        s.listener = socket.create_server((host or mt.fresh_host(), port), backlog=200)
        s.host, s.port = s.listener.getsockname()
        threading.Thread(target=s._accept, daemon=True).start()
        self.addCleanup(s.close)
        return s

    def silent(self, host=None, port=0):
        """A host that takes connections and never says a word: what a stopped program looks like."""
        s = socket.create_server((host or mt.fresh_host(), port), backlog=200)
        self.addCleanup(s.close)
        return s.getsockname()

    def start(self, backends, maps=f"{USER} f1\n", more="", flags=()):
        self.write("users.map", maps, 0o600)
        self.write("more.conf", f"""
default-domain = example.test
loops = 1
listener imap {{ allow-clear = yes }}
listener pop3 {{ allow-clear = yes }}
limits {{ failed-login-delay = 50ms }}
service imap {{ authenticate = backend }}
service pop3 {{ authenticate = backend }}
service submission {{ authenticate = backend }}
{more}""")
        self.write("backends.conf", backends)
        self.cluster = mt.Cluster("--backends", 0, "--map", self.path("users.map"), "--conf", self.path("more.conf"), "--conf",
                                  self.path("backends.conf"), *flags)
        self.addCleanup(self.cluster.stop)

    def login(self, user=USER, password="secret"):
        """(answer, seconds)"""
        begin = time.monotonic()
        with Line(self.cluster.at("p1", "imap")) as c:
            c.line()
            answer = c.ask("a", f"LOGIN {user} {password}")[-1]
        return answer, time.monotonic() - begin

    def hold(self, user=USER):
        c = Line(self.cluster.at("p1", "imap"))
        self.addCleanup(c.close)
        c.line()
        self.assertIn("a OK", c.ask("a", f"LOGIN {user} secret")[-1])
        return c

    def row(self, name="f1"):
        return next(r for r in self.cluster.ctl_json("p1", "backend", "list")["rows"] if r["backend"] == name)

    def wait_row(self, seconds=10, name="f1", **want):
        return mt.wait_for(lambda: all(self.row(name)[k] == v for k, v in want.items()), seconds, f"{name}: {want}; it is {self.row(name)}")

    @staticmethod
    def backend(hosts, port, name="f1", more=""):
        if "connect-timeout" not in more:
            more += "\tconnect-timeout = 3s\n"  # on a busy machine a probe takes its time
        return (f"backend {name} {{\n\thost = {{{', '.join(hosts)}}}\n\timap-port = {port}\n\ttrust = replay\n\ttls = none\n{more}}}\n")


class Nobody(Rig):
    def test_security_07_a_user_without_a_back_end_is_told_from_no_stranger(self):
        f1 = self.server()
        self.start(self.backend([f1.host], f1.port), f"{USER} f1\nnowhere@example.test -\nsender@example.test - send-only\n")
        want = self.login("stranger@example.test")[0]
        self.assertIn("a NO [AUTHENTICATIONFAILED]", want)
        for name in ("nowhere", "sender"):
            self.assertEqual(self.login(name + "@example.test")[0], want)
            with Line(self.cluster.at("p1", "pop3")) as c:
                c.line()
                c.send(f"USER {name}@example.test\r\nPASS secret\r\n")
                c.line()
                self.assertTrue(c.line().startswith("-ERR [AUTH]"))
        with smtplib.SMTP(*self.cluster.at("p1", "submission")) as c:
            c.starttls()
            with self.assertRaises(smtplib.SMTPAuthenticationError) as e:
                c.login("nowhere@example.test", "secret")
            self.assertEqual(e.exception.smtp_code, 535)


class Hosts(Rig):
    def test_the_first_host_that_is_alive_serves(self):
        first = self.server()
        second = self.server(port=first.port)
        self.start(self.backend([first.host, second.host], first.port, more="\tprobe-interval = 200ms\n"))
        self.assertIn("a OK", self.login()[0])
        self.assertTrue(first.login_at)
        self.assertIsNone(second.login_at)
        self.stop(first)
        for _ in range(5):  # from the very first on nobody sees an error
            self.assertIn("a OK", self.login()[0])
        self.assertTrue(second.login_at)
        mt.wait_for(lambda: any(d.startswith(f"{first.host} imap: ") for d in self.row()["down"]), 5, "it is shown as down")
        self.assertEqual(self.row()["imap"], "up")
        again = self.server(host=first.host, port=first.port)
        mt.wait_for(lambda: not [d for d in self.row()["down"] if " imap: " in d], 5, "it is up again")
        self.assertIn("a OK", self.login()[0])
        self.assertTrue(again.login_at)

    def stop(self, server):
        # A thread in accept(2) keeps a closed socket alive: one connection wakes it.
        server.listener.shutdown(socket.SHUT_RDWR)
        server.close()

    def test_a_host_that_hangs_costs_its_share_of_the_time(self):
        host, port = self.silent()
        second = self.server(port=port)
        self.start(self.backend([host, second.host], port, more="\tprobe-interval = 0\n\tconnect-timeout = 500ms\n\tlogin-timeout = 20s\n"))
        for _ in range(3):
            answer, seconds = self.login()
            self.assertIn("a OK", answer)
        mt.wait_for(lambda: self.row()["down"], 5, "three failures took it as down")
        self.assertTrue(second.login_at)

    def test_every_address_of_a_name_is_tried(self):
        server = self.server(host="127.0.0.1")
        # The starter's machine knows localhost as ::1 too, where nobody listens.
        self.start(self.backend(["localhost"], server.port))
        self.assertIn("a OK", self.login()[0])

    def test_targets_of_a_map_in_order(self):
        first, second = self.server(), self.server()
        self.start(self.backend([first.host], first.port, "f1") + self.backend([second.host], second.port, "f2"), maps=f"{USER} f1,f2\n")
        self.assertIn("a OK", self.login()[0])
        self.assertTrue(first.login_at)
        self.cluster.ctl("p1", "backend", "drain", "f1")
        self.assertIn("a OK", self.login()[0])
        self.assertTrue(second.login_at)
        self.stop(second)
        self.wait_row(name="f2", imap="down")
        self.assertIn("a NO [UNAVAILABLE]", self.login()[0])
        self.cluster.ctl("p1", "backend", "resume", "f1")
        self.assertIn("a OK", self.login()[0])


class Health(Rig):
    def test_a_dead_back_end_is_answered_at_once(self):
        server = self.server()
        popper = self.server(pop3, login=right("+OK in", "-ERR [AUTH] no"))
        self.start(self.backend([server.host], server.port, more=f"\tpop3-port = 1\n"))
        self.wait_row(pop3="down", imap="up")
        with Line(self.cluster.at("p1", "pop3")) as c:
            c.line()
            c.send(f"USER {USER}\r\nPASS secret\r\n")
            c.line()
            self.assertTrue(c.line().startswith("-ERR [SYS/TEMP]"))
        self.assertIn("a OK", self.login()[0])
        self.assertEqual(popper.accepted, 0)

    def test_logins_under_way_end_when_the_back_end_hangs(self):
        """A host that stops in the middle of a login: found by a probe, and who waits is told."""
        hang = threading.Event()

        def serve(server, s):
            if hang.is_set():
                time.sleep(30)
            imap(server, s)

        server = self.server(serve, login=lambda user, password: (hang.set(), time.sleep(30))[0])
        self.start(self.backend([server.host], server.port, more="\tprobe-interval = 500ms\n\tlogin-timeout = 60s\n"))
        answer, seconds = self.login()
        self.assertIn("a NO [UNAVAILABLE]", answer)
        self.assertLess(seconds, 10)
        answer, seconds = self.login()
        self.assertIn("a NO [UNAVAILABLE]", answer)
        self.assertLess(seconds, 1)
        self.assertIn("down", self.cluster.log("p1"))

    def test_outcomes_of_logins_take_it_as_down_and_bring_it_back(self):
        server = self.server()
        self.start(self.backend([server.host], server.port, more="\tprobe-interval = 0\n"))
        self.assertIn("a OK", self.login()[0])
        server.knobs["greeting"] = "* BYE overloaded"
        for _ in range(3):
            self.assertIn("a NO [UNAVAILABLE]", self.login()[0])
        self.assertEqual(self.row()["down"], [f"{server.host} imap: the back-end cannot now: greeting: overloaded"])
        accepted = server.accepted
        self.assertIn("a NO [UNAVAILABLE]", self.login()[0])
        self.assertLessEqual(server.accepted, accepted + 1)
        del server.knobs["greeting"]
        mt.wait_for(lambda: "a OK" in self.login()[0], 10, "a trial finds it well")
        self.assertEqual(self.row()["down"], [])
        self.assertEqual(self.cluster.log("p1").count("WARN proxy: back-end is down"), 1)


class Gate(Rig):
    def test_a_cap_holds_and_those_beyond_it_wait_a_moment(self):
        server = self.server()
        self.start(self.backend([server.host], server.port, more="\tconnections = 2\n\twait-timeout = 1s\n"))
        first, second = self.hold(), self.hold()
        self.assertEqual(self.row()["connections"], 2)
        answer, seconds = self.login()
        self.assertIn("a NO [UNAVAILABLE]", answer)
        self.assertGreater(seconds, 0.9)
        self.assertEqual(self.cluster.metric("p1", "mailtier_proxy_backend_turned_away_total"), 1)
        waiting = Line(self.cluster.at("p1", "imap"))
        self.addCleanup(waiting.close)
        waiting.line()
        waiting.send(f"a LOGIN {USER} secret\r\n")
        self.wait_row(waiting=1)
        first.close()
        self.assertIn("a OK", waiting.until("a")[-1])
        second.close()
        waiting.close()
        self.wait_row(connections=0, waiting=0, sessions=0)

    def test_who_leaves_while_waiting_is_forgotten(self):
        server = self.server()
        self.start(self.backend([server.host], server.port, more="\tconnections = 1\n\twait-timeout = 20s\n"))
        self.hold()
        c = Line(self.cluster.at("p1", "imap"))
        c.line()
        c.send(f"a LOGIN {USER} secret\r\n")
        self.wait_row(waiting=1)
        # Reset: a mere end would be a half-closed client, who still reads.
        c.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        c.close()
        self.wait_row(waiting=0)

    def test_a_mail_connection_at_rest_gives_way_to_a_login(self):
        host = mt.fresh_host()
        mailer, imapper = self.server(lmtp, host=host), self.server(host=host)
        self.start(f"backend f1 {{\n\thost = {host}\n\timap-port = {imapper.port}\n\tlmtp-port = {mailer.port}\n\ttrust = replay\n\ttls = none\n"
                   "\tconnections = 1\n\twait-timeout = 0\n}\n", more="smtp { banner-delay = 0 }\n")
        with Line(self.cluster.at("p1", "smtp")) as c:
            c.line()
            for command in ("EHLO me", "MAIL FROM:<a@b.example>", f"RCPT TO:<{USER}>", "DATA", "Subject: x\r\n\r\nx\r\n.", "QUIT"):
                c.send(command + "\r\n")
                answer = c.line()
                while answer[3:4] == "-":
                    answer = c.line()
                self.assertIn(answer[0], "23", answer)
        self.assertEqual(self.row()["connections"], 1)
        held = self.hold()
        self.assertIn("a NO [UNAVAILABLE]", self.login()[0])
        held.close()
        self.wait_row(connections=0)

    def test_source_addresses_in_turn(self):
        peers = []

        def serve(server, s):
            peers.append(s.getpeername()[0])
            imap(server, s)

        server = self.server(serve)
        self.start(self.backend([server.host], server.port, more='\tprobe-interval = 0\n\tsource-addresses = {"127.0.0.61", "127.0.0.62"}\n'))
        for _ in range(4):
            self.assertIn("a OK", self.login()[0])
        self.assertEqual(sorted(peers), ["127.0.0.61"] * 2 + ["127.0.0.62"] * 2)


class Reload(Rig):
    def test_back_ends_come_and_go_and_sessions_stay(self):
        first, second = self.server(), self.server()
        self.start(self.backend([first.host], first.port))
        first.knobs["login"] = second.knobs["login"] = lambda user, password: "OK in"
        held = self.hold()
        self.write("backends.conf", self.backend([first.host], first.port) + self.backend([second.host], second.port, "f2"))
        self.write("users.map", f"{USER} f1\nuser0002@example.test f2\n")
        self.cluster.kill("p1", signal.SIGHUP)
        mt.wait_for(lambda: any(r["backend"] == "f2" for r in self.cluster.ctl_json("p1", "backend", "list")["rows"]), 10, "f2 is there")
        mt.wait_for(lambda: "a OK" in self.login("user0002@example.test")[0], 10, "its users are led there")
        other = self.hold("user0002@example.test")
        self.cluster.ctl("p1", "backend", "drain", "f1")
        self.write("backends.conf", self.backend([second.host], second.port, "f2"))
        self.cluster.kill("p1", signal.SIGHUP)
        mt.wait_for(lambda: len(self.cluster.ctl_json("p1", "backend", "list")["rows"]) == 1, 10, "f1 is gone")
        self.assertIn("a NO [UNAVAILABLE]", self.login()[0])
        for c in (held, other):
            self.assertIn("z OK echo still", c.ask("z", "ECHO still")[-1])

    def test_a_cap_of_a_maps_host_holds_over_a_reload(self):
        server = self.server()
        self.start(f"backend-default {{\n\timap-port = {server.port}\n\thosts = {{127.0.0.0/8}}\n\ttrust = replay\n\ttls = none\n\tconnections = 1\n\twait-timeout = 0\n}}\n",
                   maps=f"{USER} {server.host}\n")
        held = self.hold()
        for n in range(3):
            self.assertIn("a NO [UNAVAILABLE]", self.login()[0], n)
            self.cluster.kill("p1", signal.SIGHUP)
            mt.wait_for(lambda: self.cluster.log("p1").count("configuration read again") > n, 20, "the reload")
        held.close()
        mt.wait_for(lambda: "a OK" in self.login()[0], 20, "the place is free again")

    def test_a_reload_takes_no_proxy_out(self):
        """/ready waits for the first probes alone: with a back-end that hangs, a reload would else take all proxies out for as long."""
        def ready():
            with socket.create_connection(self.cluster.at("p1", "status"), 10) as s:
                s.sendall(b"GET /ready HTTP/1.0\r\n\r\n")
                return s.makefile("rb").read().split(b" ", 2)[1]

        good = self.server()
        host, port = self.silent()
        self.start(self.backend([good.host], good.port) + self.backend([host], port, "f2", more="\tconnect-timeout = 4s\n"))
        mt.wait_for(lambda: ready() == b"200", 20, "the first probes are done")
        self.cluster.kill("p1", signal.SIGHUP)
        mt.wait_for(lambda: "configuration read again" in self.cluster.log("p1"), 20, "the reload")
        self.assertEqual(ready(), b"200")
        self.assertIn("a OK", self.login()[0])

    def test_a_reload_under_load_fails_no_login(self):
        servers = [self.server(login=lambda user, password: "OK in") for _ in range(3)]
        one = self.backend([servers[0].host], servers[0].port)
        more = "".join(self.backend([s.host], s.port, f"f{i}") for i, s in enumerate(servers[1:], 2))
        self.start(one)
        held = [self.hold() for _ in range(20)]
        answers, done = [], threading.Event()

        def client():
            while not done.is_set():
                answers.append(self.login()[0])

        threads = [threading.Thread(target=client) for _ in range(4)]
        for t in threads:
            t.start()
        for i in range(10):
            self.write("backends.conf", one + more if i % 2 == 0 else one)
            before = self.cluster.log("p1").count("configuration read again")
            self.cluster.kill("p1", signal.SIGHUP)
            mt.wait_for(lambda: self.cluster.log("p1").count("configuration read again") > before, 10, "the reload is done")
        done.set()
        for t in threads:
            t.join()
        self.assertGreater(len(answers), 10)
        self.assertEqual([a for a in answers if " OK" not in a], [])
        for c in held:
            self.assertIn("z OK echo still", c.ask("z", "ECHO still")[-1])


def proxied(serve):
    """A server that wants a PROXY header of version 2 first; what it read is in server.headers: (command, family, peer, local, TLVs)."""

    def read(server, s):
        def take(n):
            data = b""
            while len(data) < n:
                more = s.recv(n - len(data))
                if not more:
                    raise OSError("no header")
                data += more
            return data

        head = take(16)
        assert head[:12] == b"\r\n\r\n\0\r\nQUIT\n", head
        body = take(int.from_bytes(head[14:16], "big"))
        peer = local = None
        rest = body
        if head[13] == 0x11:
            peer = (socket.inet_ntoa(body[0:4]), int.from_bytes(body[8:10], "big"))
            local = (socket.inet_ntoa(body[4:8]), int.from_bytes(body[10:12], "big"))
            rest = body[12:]
        tlvs = {}
        while rest:
            n = int.from_bytes(rest[1:3], "big")
            tlvs[rest[0]] = rest[3:3 + n]
            rest = rest[3 + n:]
        server.headers = getattr(server, "headers", []) + [(head[12] & 15, head[13], peer, local, tlvs)]
        serve(server, s)

    return read


def lmtp(server, s):
    f = s.makefile("rb")
    s.sendall(b"220 peer\r\n")
    for raw in f:
        line = raw.decode().rstrip()
        server.lines.append((False, line))
        word = line.split()[0].upper()
        if word == "DATA":
            s.sendall(b"354 go\r\n")
            while f.readline() not in (b".\r\n", b""):
                pass
            s.sendall(b"250 2.0.0 taken\r\n")
        elif word == "QUIT":
            s.sendall(b"221 bye\r\n")
            return
        else:
            s.sendall(b"250-peer\r\n250-XCLIENT ADDR PORT HELO\r\n250 PIPELINING\r\n" if word == "LHLO" else b"250 2.1.0 ok\r\n")


class Identity(Rig):
    """How a back-end learns who the client is."""

    def three(self, identity, wrap=lambda serve: serve):
        servers = [self.server(wrap(imap)), self.server(wrap(pop3), login=right("+OK in", "-ERR no"), greeting="+OK [XCLIENT] hi"),
                   self.server(wrap(lmtp))]
        backends = (f"backend f1 {{\n\thost = {servers[0].host}\n\timap-port = {servers[0].port}\n\ttrust = replay\n\ttls = none\n"
                    f"\tidentity = {identity}\n}}\n" +
                    f"backend f2 {{\n\thost = {servers[1].host}\n\tpop3-port = {servers[1].port}\n\ttrust = replay\n\ttls = none\n"
                    f"\tidentity = {identity}\n}}\n" +
                    f"backend f3 {{\n\thost = {servers[2].host}\n\tlmtp-port = {servers[2].port}\n\ttrust = replay\n\ttls = none\n"
                    f"\tidentity = {identity}\n}}\n")
        self.start(backends, more="smtp { banner-delay = 0 }\nlistener smtp { proxy-protocol = optional proxy-networks = {\"127.0.0.78\"} }\n")
        self.write("users.map", f"{USER} f1\n")
        return servers

    def lead(self, name):
        self.write("users.map", f"{USER} {name}\n")
        self.cluster.ctl("p1", "map", "reload", "--force")

    def all_three(self):
        """One login each, and three messages of one client, who greets anew before the last; from 127.0.0.77."""
        ports = []
        with Line(self.cluster.at("p1", "imap"), source="127.0.0.77") as c:
            c.line()
            ports.append(c.socket.getsockname())
            self.assertIn("a OK", c.ask("a", f"LOGIN {USER} secret")[-1])
        self.lead("f2")
        with Line(self.cluster.at("p1", "pop3"), source="127.0.0.77") as c:
            c.line()
            ports.append(c.socket.getsockname())
            c.send(f"USER {USER}\r\nPASS secret\r\n")
            c.line()
            self.assertTrue(c.line().startswith("+OK"))
        self.lead("f3")
        with Line(self.cluster.at("p1", "smtp"), source="127.0.0.77") as c:
            c.line()
            ports.append(c.socket.getsockname())
            mail = ["MAIL FROM:<a@b.example>", f"RCPT TO:<{USER}>", "DATA", "Subject: x\r\n\r\nx\r\n."]
            for command in ["EHLO me"] + mail * 2 + ["EHLO anew"] + mail:
                c.send(command + "\r\n")
                answer = c.line()
                while answer[3:4] == "-":
                    answer = c.line()
                self.assertIn(answer[0], "23", answer)
        return ports

    def test_by_proxy_v2(self):
        servers = self.three("proxy-v2", proxied)
        ports = self.all_three()
        for server, port, service in zip(servers, ports, ("imap", "pop3", "smtp")):
            with self.subTest(service):
                told = [h for h in server.headers if h[0] == 1]
                self.assertEqual([h[2] for h in told], [port])  # one connection, three messages
                self.assertEqual(told[0][3], self.cluster.at("p1", service))
                self.assertEqual(len(told[0][4][0x05]), 16)  # the session's id
                self.assertNotIn(0x20, told[0][4])
                self.assertTrue([h for h in server.headers if h[0] == 0], "probes speak for themselves")
                self.assertFalse([l for _, l in server.lines if "XCLIENT" in l or "originating" in l], server.lines)
        # A balancer that has one name for several sessions: a connection is its client's all the same.
        before = len([h for h in servers[2].headers if h[0] == 1])
        clients = [f"192.0.2.{n}" for n in range(50, 56)]
        for client in clients:
            with Line(self.cluster.at("p1", "smtp"), source="127.0.0.78") as c:
                c.socket.sendall(balancer.header(client, more=balancer.tlv(5, b"one-name")))
                self.assertTrue(c.line().startswith("220"))
                for command in ("HELO me", "MAIL FROM:<a@b.example>", f"RCPT TO:<{USER}>", "DATA", "Subject: x\r\n\r\nx\r\n."):
                    c.send(command + "\r\n")
                    self.assertIn(c.line()[0], "23")
        self.assertEqual([h[2][0] for h in servers[2].headers if h[0] == 1][before:], clients)

    def test_by_words(self):
        servers = self.three("id-xclient")
        self.all_three()
        self.assertTrue([l for _, l in servers[0].lines if '"x-originating-ip" "127.0.0.77"' in l and '"x-proxy-ttl" "4"' in l])
        self.assertTrue([l for _, l in servers[1].lines if "XCLIENT ADDR=127.0.0.77 " in l and " TTL=4" in l])
        told = [l.split(" HELO=")[1] for _, l in servers[2].lines if l.startswith("XCLIENT ADDR=127.0.0.77 PORT=")]
        self.assertEqual(told, ["me", "anew"])

    def test_security_17_a_header_of_a_client_never_reaches_a_back_end(self):
        servers = self.three("proxy-v2", proxied)
        v2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + bytes((192, 0, 2, 66, 192, 0, 2, 67, 0, 1, 0, 143))
        for header in (b"PROXY TCP4 192.0.2.66 192.0.2.67 1 143\r\n", v2):
            with self.subTest(header), Line(self.cluster.at("p1", "imap"), source="127.0.0.77") as c:
                c.socket.sendall(header)
                c.line()
                c.send(f"a LOGIN {USER} secret\r\nb LOGOUT\r\n")
                c.until("b")
        with Line(self.cluster.at("p1", "imap"), source="127.0.0.77") as c:
            c.line()
            self.assertIn("a OK", c.ask("a", f"LOGIN {USER} secret")[-1])
        told = {h[2][0] for h in servers[0].headers if h[0] == 1}
        self.assertEqual(told, {"127.0.0.77"})
        self.assertNotIn("192.0.2.66", self.cluster.log("p1"))

    def test_security_04_what_a_client_says_of_himself_stays_in_its_field(self):
        """Servers without SASL get names and passwords in commands of theirs; what a client said at EHLO goes into XCLIENT."""
        host = mt.fresh_host()
        mailer = self.server(lmtp)
        imapper = self.server(imap, host=host, caps="IMAP4rev1")
        popper = self.server(pop3, host=host, login=right("+OK in", "-ERR no"), capa="-ERR what")
        self.start(f"backend f1 {{\n\thost = {host}\n\timap-port = {imapper.port}\n\tpop3-port = {popper.port}\n\ttrust = replay\n"
                   "\ttls = none\n}\n" + f"backend f3 {{\n\thost = {mailer.host}\n\tlmtp-port = {mailer.port}\n\ttrust = replay\n\ttls = none\n}}\n",
                   more="smtp { banner-delay = 0 }\n")
        evil = base64.b64encode(f"\0{USER}\0secret\r\nEVIL 1\r\n".encode()).decode()
        with Line(self.cluster.at("p1", "imap")) as c:
            c.line()
            c.ask("a", "AUTHENTICATE PLAIN " + evil)
        with Line(self.cluster.at("p1", "pop3")) as c:
            c.line()
            c.send(f"AUTH PLAIN {evil}\r\n")
            self.assertTrue(c.line().startswith("-ERR"))
        self.lead("f3")
        with Line(self.cluster.at("p1", "smtp")) as c:
            c.line()
            for command in ("EHLO [127.0.0.1]+0D+0AEVIL", "EHLO me ADDR=192.0.2.66", "EHLO a+0D+0AEVIL=1", "EHLO me", "MAIL FROM:<a@b.example>",
                            f"RCPT TO:<{USER}>"):
                c.send(command + "\r\n")
                answer = c.line()
                while answer[3:4] == "-":
                    answer = c.line()
        for server in (imapper, popper, mailer):
            self.assertFalse([l for _, l in server.lines if l.startswith("EVIL") or "ADDR=192.0.2.66" in l], server.lines)

    def test_not_at_all(self):
        servers = self.three("none")
        self.all_three()
        for server in servers:
            self.assertFalse([l for _, l in server.lines if "127.0.0.77" in l or "XCLIENT" in l or " ID (" in l], server.lines)


class OwnBackEnd(unittest.TestCase):
    """Our own back-end behind listeners that want the header: it believes it, and the proxy's login beside it."""

    def test_proxy_v2_between_the_tiers(self):
        with tempfile.NamedTemporaryFile("w", suffix=".conf") as front, tempfile.NamedTemporaryFile("w", suffix=".conf") as back:
            front.write("backend b1 {\n\tidentity = proxy-v2\n\tspare = 0\n}\nsmtp { banner-delay = 0 }\n")
            back.write("".join(f'listener {name} {{\n\tproxy-protocol = required\n\tproxy-networks = {{"127.0.0.1"}}\n}}\n'
                               for name in ("imaps", "pop3s", "lmtps")))
            front.flush()
            back.flush()
            cluster = mt.Cluster("--backends", 1, "--users", 2, "--conf", front.name, "--backend-conf", back.name)
        self.addCleanup(cluster.stop)
        with Line(cluster.at("p1", "imap"), source="127.0.0.78") as c:
            c.line()
            self.assertIn("a OK", c.ask("a", "LOGIN user0001 pass0001")[-1], cluster.report())
        with Line(cluster.at("p1", "pop3"), source="127.0.0.79") as c:
            c.line()
            c.send("USER user0001\r\nPASS pass0001\r\n")
            c.line()
            self.assertTrue(c.line().startswith("+OK"))
        with Line(cluster.at("p1", "smtp"), source="127.0.0.80") as c:
            c.line()
            for command in ("EHLO me", "MAIL FROM:<a@b.example>", "RCPT TO:<user0001@example.test>", "DATA", "Subject: x\r\n\r\nx\r\n."):
                c.send(command + "\r\n")
                answer = c.line()
                while answer[3:4] == "-":
                    answer = c.line()
                self.assertIn(answer[0], "23", answer)
        for service, address in (("imap", "127.0.0.78"), ("pop3", "127.0.0.79"), ("lmtp", "127.0.0.80")):
            mt.wait_for(lambda: [l for l in cluster.log("b1").splitlines() if f" {service}: " in l and address in l], 10,
                        f"{service} with {address} in the back-end's log")
        # The session's id is the same on both tiers.
        session = next(l for l in cluster.log("p1").splitlines() if "client=127.0.0.78" in l).split(" imap: ")[1][:16]
        self.assertIn(session, cluster.log("b1"))


class Loops(Rig):
    """A proxy that is its own back-end: an error and a line of the log, in every protocol."""

    def start_loop(self, more=""):
        host = mt.fresh_host()
        self.write("users.map", f"{USER} f1\n", 0o600)
        self.write("loop.conf", f"""
default-domain = example.test
loops = 1
listener imap {{ allow-clear = yes }}
listener pop3 {{ allow-clear = yes }}
limits {{ failed-login-delay = 50ms }}
service imap {{ authenticate = backend }}
service pop3 {{ authenticate = backend }}
service submission {{ authenticate = backend }}
smtp {{ banner-delay = 0 }}
backend f1 {{
	host = {host}
	imap-port = 20143
	pop3-port = 20110
	lmtp-port = 20025
	delivery = smtp
	trust = replay
	tls = none
	login-timeout = 20s
}}
""")
        self.cluster = mt.Cluster("--backends", 0, "--map", self.path("users.map"), "--conf", self.path("loop.conf"), host=host)
        self.addCleanup(self.cluster.stop)

    def test_no_protocol_goes_in_circles(self):
        self.start_loop()
        answer, seconds = self.login()
        self.assertIn("a NO [UNAVAILABLE]", answer)
        self.assertLess(seconds, 10)
        with Line(self.cluster.at("p1", "pop3")) as c:
            c.line()
            c.send(f"USER {USER}\r\nPASS secret\r\n")
            c.line()
            self.assertTrue(c.line().startswith("-ERR [SYS/TEMP]"))
        with Line(self.cluster.at("p1", "smtp")) as c:
            c.line()
            for command, want in (("EHLO me", "250"), ("MAIL FROM:<a@b.example>", "250"), (f"RCPT TO:<{USER}>", "451")):
                c.send(command + "\r\n")
                answer = c.line()
                while answer[3:4] == "-":
                    answer = c.line()
                self.assertTrue(answer.startswith(want), answer)
        errors = [l for l in self.cluster.log("p1").splitlines() if " ERROR " in l]
        self.assertEqual(["user=" in l for l in errors if "in circles between proxies" in l], [True, True, False], errors)
        # A client can make its own way shorter by that word, and nothing else.
        with Line(self.cluster.at("p1", "pop3")) as c:
            c.line()
            c.send("XCLIENT TTL=99 ADDR=192.0.2.1\r\nXCLIENT TTL=x\r\nXCLIENT TTL=1\r\n")
            self.assertEqual([c.line()[:4] for _ in range(3)], ["-ERR", "-ERR", "+OK "])


if __name__ == "__main__":
    unittest.main()
