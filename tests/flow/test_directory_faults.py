"""A directory of 10,000 users that fails in every way: stopped while many log in, and in the middle of connect, TLS, bind, search and
write; wrong credentials, bad entries. For each: what the client sees, the metric, the one log line. Skipped without slapd."""
import concurrent.futures
import imaplib
import json
import os
import re
import select
import socket
import subprocess
import sys
import threading
import time
import unittest

import mt
from slapd import BASE, SLAPD, Slapd

sys.path.insert(0, os.path.join(mt.ROOT, "tests", "bench"))
import measure  # noqa: E402

USERS = 10000
ACCOUNTS = 40  # of them have mailboxes: the demo makes user0001 and on
TIMEOUT = 2  # the connector's
MORE = f"""
dn: uid=list,{BASE}
objectClass: inetOrgPerson
objectClass: inetLocalMailRecipient
cn: x
sn: x
mail: user0040@example.test
mailLocalAddress: list@example.test
mailHost: b2, b1
userPassword: list

dn: uid=twin1,{BASE}
objectClass: inetOrgPerson
cn: x
sn: x
mail: twin@example.test
userPassword: twin

dn: uid=twin2,{BASE}
objectClass: inetOrgPerson
cn: x
sn: x
mail: twin@example.test
userPassword: twin

dn: uid=nohost,{BASE}
objectClass: inetOrgPerson
cn: x
sn: x
mail: nohost@example.test
userPassword: nohost

dn: uid=badhost,{BASE}
objectClass: inetOrgPerson
objectClass: inetLocalMailRecipient
cn: x
sn: x
mail: badhost@example.test
mailHost: b1,b9
userPassword: badhost

dn: uid=star,{BASE}
objectClass: inetOrgPerson
objectClass: inetLocalMailRecipient
cn: x
sn: x
mail: (st*r)@example.test
mailHost: b1
userPassword: star
"""
CONF = """
limits {{ failed-login-delay = 0s penalty-delay = 1ms penalty-most = 100ms }}
connector dir {{
    uris = {{"ldap://127.0.0.1:{relay}"}}
    tls = {tls}
    ca = {dir}/cert.pem
    bind-dn = "cn=proxy,{base}"
    password = {dir}/password
    base = "{base}"
    timeout = {timeout}s
    connect-timeout = 1s
    health-interval = 1s
    connections = {connections}
    in-flight = 1000
}}
connector wrong {{
    uris = {{"ldap://127.0.0.1:{port}"}}
    ca = {dir}/cert.pem
    bind-dn = "cn=proxy,{base}"
    password = {dir}/wrong
    base = "{base}"
    health-interval = 1s
}}
map dir {{ type = ldap-password connector = dir domains = {{example.test}} positive-ttl = 1s }}
map wrong {{ type = ldap-password connector = wrong domains = {{wrong.test}} }}
map file {{ type = file file = {dir}/users domains = {{files.test}} }}
service imap {{ maps = {{dir, wrong, file}} }}
service smtp {{ maps = {{dir}} }}
service pop3 {{ maps = {{file}} }}
"""
BIND, SEARCH, EXTENDED, HANDSHAKE = 0x60, 0x63, 0x77, 0x16

FLOW_LONG = True


class Relay:
    """Stands between proxy and slapd, passes octets on, and stops slapd at the stage that is set: when a client is taken, at its request
    for TLS, its handshake, its bind, its search; or `write`: nothing is read from clients any more. No threads but one."""

    def __init__(self, slapd):
        self.slapd, self.stage = slapd, None
        self.listener = socket.socket()
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        self.listener.bind(("127.0.0.1", 0))
        self.listener.listen(16)
        self.port = self.listener.getsockname()[1]
        self.pairs = {}  # client -> server and back
        self.clients = set()
        self.wake, self.waker = socket.socketpair()
        self.lock = threading.Lock()
        self.is_over = False
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def set(self, stage, cut):
        """cut: connections that are open end, so that new ones are made."""
        with self.lock:
            self.stage = stage
            if cut:
                for s in list(self.clients):
                    self._end(s)
        self.waker.send(b"x")

    def end(self):
        self.is_over = True
        self.waker.send(b"x")
        self.thread.join()
        for s in list(self.pairs) + [self.listener, self.wake, self.waker]:
            s.close()

    def _end(self, s):
        other = self.pairs.pop(s, None)
        self.pairs.pop(other, None)
        for x in (s, other):
            self.clients.discard(x)
            if x:
                x.close()

    def _stop_at(self, data):
        """The stage that these octets of a client begin."""
        if data[0] == HANDSHAKE:
            return "tls"
        if data[0] != 0x30 or len(data) < 8:
            return None
        at = 2 + (data[1] & 0x7F if data[1] & 0x80 else 0)
        at += 2 + data[at + 1]
        return {BIND: "bind", SEARCH: "search", EXTENDED: "starttls"}.get(data[at] if at < len(data) else 0)

    def _accept(self):
        client, _ = self.listener.accept()
        if self.stage == "connect":
            self._halt()
        server = socket.create_connection(("127.0.0.1", self.slapd.port))
        self.pairs[client], self.pairs[server] = server, client
        self.clients.add(client)

    def _halt(self):
        if self.stage and not self.slapd.is_halted:
            self.slapd.halt()
            self.slapd.is_halted = True

    def _pass(self, s):
        try:
            data = s.recv(65536)
            if data and s in self.clients and self.stage and self._stop_at(data) == self.stage:
                self._halt()
            if data:
                self.pairs[s].sendall(data)
        except OSError:
            data = b""
        if not data:
            self._end(s)

    def _run(self):
        while not self.is_over:
            with self.lock:
                clients = self.clients if self.stage != "write" else set()
                wanted = [self.wake, self.listener] + [s for s in self.pairs if s not in self.clients or s in clients]
            ready, _, _ = select.select(wanted, [], [], 5)
            with self.lock:
                for s in ready:
                    if s is self.wake:
                        s.recv(100)
                    elif s is self.listener:
                        self._accept()
                    elif s in self.pairs:
                        self._pass(s)


@unittest.skipUnless(os.path.exists(SLAPD), "slapd is not installed")
class Faults(mt.ClusterCase):
    TLS = "none"
    CONNECTIONS = 2

    @classmethod
    def setUpClass(cls):
        cls.slapd = Slapd(USERS, MORE, secure=False)
        cls.slapd.is_halted = False
        cls.addClassCleanup(cls.slapd.end)
        cls.relay = Relay(cls.slapd)
        cls.addClassCleanup(cls.relay.end)
        cls.slapd.write("wrong", "nonsense\n")
        cls.slapd.write("users", "".join(f"user{i:04}@files.test b1 account=user{i:04}@example.test password={{PLAIN}}dir-{i:04}\n"
                                         for i in range(1, ACCOUNTS, 2)) + f"# end {ACCOUNTS // 2}\n")
        cls.slapd.write("proxy.conf", CONF.format(port=cls.slapd.port, relay=cls.relay.port, dir=cls.slapd.dir, base=BASE, tls=cls.TLS,
                                                  timeout=TIMEOUT, connections=cls.CONNECTIONS))
        cls.FLAGS = ["--proxies", 1, "--backends", 2, "--users", ACCOUNTS, "--conf", cls.slapd.path("proxy.conf")]
        super().setUpClass()

    def setUp(self):
        self.wait_up()

    def tearDown(self):
        self.go()
        self.wait_up()

    def wait_up(self):
        mt.wait_for(lambda: self.status("dir")["usable"], 20, "the connector is up")

    def go(self):
        self.relay.set(None, False)
        if self.slapd.is_halted:
            self.slapd.is_halted = False
            self.slapd.go()

    def status(self, name):
        return next(r for r in self.cluster.ctl_json("p1", "map", "status")["rows"] if r["map"] == name)

    def metric(self, name, labels):
        return self.cluster.metrics("p1").get(f"{name}{{{labels}}}", 0)

    def questions(self):
        return {k: self.metric("mailtier_directory_questions_total", f'connector="dir",answer="{k}"')
                for k in ("found", "none", "timeout", "broken", "down")}

    def imap(self, user, password):
        """The tagged answer of LOGIN."""
        m = imaplib.IMAP4(*self.cluster.at("p1", "imap"))
        try:
            typ, data = m._simple_command("LOGIN", m._quote(user), m._quote(password))
            return typ + " " + data[-1].decode()
        finally:
            m.shutdown()

    def assert_in(self, user, password):
        answer = self.imap(user, password)
        self.assertTrue(answer.startswith("OK"), f"{user}: {answer}")

    def logged(self, words, since=0):
        return len(re.findall(words, self.cluster.log("p1")[since:]))

    def longest_turn(self):
        return max(v for k, v in self.cluster.metrics("p1").items() if k.startswith("mailtier_net_loop_turn_longest_microseconds"))


class Entries(Faults):
    def one_line(self, words):
        mt.wait_for(lambda: self.logged(words), 10, words)
        self.assertEqual(self.logged(words), 1, words)

    def test_ten_thousand_users(self):
        self.assertIn("OK", self.imap("user0001@example.test", "dir-0001"))  # {SSHA}
        self.assertIn("OK", self.imap("user0002@example.test", "dir-0002"))  # in clear
        self.assertEqual(self.cluster.ctl_json("p1", "map", "explain", "user10000@example.test", "--service", "imap")["backend"], "b2")

    def test_a_list_of_hosts(self):
        explained = self.cluster.ctl_json("p1", "map", "explain", "list@example.test", "--service", "smtp")
        self.assertEqual(explained["backend"], "b2,b1")
        self.assertEqual(explained["account"], "user0040@example.test")
        steps = json.dumps(explained)
        self.assertIn("(mailLocalAddress=list@example.test)", steps)
        self.assertIn("back-end b2, then back-end b1", steps)
        self.assertIn(f"uid=list,{BASE}", steps)

    def test_security_06_two_entries(self):
        self.assertIn("[UNAVAILABLE]", self.imap("twin@example.test", "twin"))
        self.one_line("ERROR directory: more than one entry fits: not now map=dir user=twin@example.test")

    def test_no_host(self):
        self.assertIn("[AUTHORIZATIONFAILED]", self.imap("nohost@example.test", "nohost"))

    def test_a_bad_host(self):
        self.assertIn("[UNAVAILABLE]", self.imap("badhost@example.test", "badhost"))
        self.one_line("ERROR mapping: bad value of the host attribute, not now map=dir user=badhost@example.test value=b9")

    def test_security_06_names_are_no_filters(self):
        before = self.questions()
        for name in ("*", "user0001)(uid=*", "(st*r", "st*r)", "(st*r)(uid=*", "\\28st*r\\29", "user000?"):
            self.assertIn("AUTHENTICATIONFAILED", self.imap(f"{name}@example.test", "star"), name)
        self.assertGreaterEqual(self.questions()["none"] - before["none"], 5)
        self.assertIn("NO", self.imap("(st*r)@example.test", "wrong"))
        # It has no mailbox, but its password is right, and the map leads to b1.
        self.assertEqual(self.cluster.ctl_json("p1", "map", "explain", "(st*r)@example.test", "--service", "imap")["backend"], "b1")

    def test_a_wrong_service_password(self):
        self.assertIn("[UNAVAILABLE]", self.imap("user0001@wrong.test", "dir-0001"))
        self.assertEqual(self.metric("mailtier_directory_up", 'connector="wrong"'), 0)
        self.assertEqual(self.metric("mailtier_directory_server", 'connector="wrong"'), -1)
        self.assertGreater(self.metric("mailtier_directory_connect_failures_total", 'connector="wrong"'), 0)
        mt.wait_for(lambda: self.metric("mailtier_directory_connect_failures_total", 'connector="wrong"') > 2, 20, "it is tried again")
        self.one_line("ERROR directory: connector is down connector=wrong: .*Invalid credentials")
        self.assert_in("user0001@example.test", "dir-0001")


class Stages(Faults):
    """slapd stops in the middle of something."""

    def stage(self, stage, cut):
        self.cluster.ctl("p1", "map", "flush")
        self.assert_in("user0001@example.test", "dir-0001")
        time.sleep(1.1)  # positive-ttl
        since = len(self.cluster.log("p1"))
        before = self.questions()
        self.relay.set(stage, cut)
        begin = time.monotonic()
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            strangers = [pool.submit(self.imap, f"user{n:04}@example.test", f"dir-{n:04}") for n in (3, 5, 7)]
            known = pool.submit(self.imap, "user0001@example.test", "dir-0001")
            others = [pool.submit(self.imap, "user0009@files.test", "dir-0009")]
            self.assertTrue(others[0].result().startswith("OK"))
            self.assertLess(time.monotonic() - begin, TIMEOUT)
            for s in strangers:
                self.assertIn("[UNAVAILABLE]", s.result())
            self.assertLess(time.monotonic() - begin, TIMEOUT + 3)
            self.assertTrue(known.result().startswith("OK"), known.result())
        mt.wait_for(lambda: not self.status("dir")["usable"], 20, "the connector is down")
        self.assertEqual(self.metric("mailtier_directory_up", 'connector="dir"'), 0)
        after = self.questions()
        self.assertGreaterEqual(sum(after[k] - before[k] for k in ("timeout", "broken", "down")), 3)
        # Now nobody waits.
        begin = time.monotonic()
        self.assertIn("[UNAVAILABLE]", self.imap("user0011@example.test", "dir-0011"))
        self.assertTrue(self.imap("user0001@example.test", "dir-0001").startswith("OK"))
        self.assertLess(time.monotonic() - begin, TIMEOUT)
        self.go()
        begin = time.monotonic()
        self.wait_up()
        self.assert_in("user0011@example.test", "dir-0011")
        self.assertLess(time.monotonic() - begin, 10)
        self.assertEqual(self.logged("ERROR directory: connector is down connector=dir", since), 1)
        self.assertEqual(self.logged("INFO directory: connector is up connector=dir", since), 1)
        return self.cluster.log("p1")[since:]

    def test_connect(self):
        self.stage("connect", cut=True)

    def test_bind(self):
        self.assertIn("bind: Timed out", self.stage("bind", cut=True))

    def test_search(self):
        self.assertIn("no answer in time", self.stage("search", cut=False))


class StagesOfTls(Stages):
    TLS = "starttls"
    test_bind = test_search = None

    def test_connect(self):
        self.assertIn("StartTLS: Timed out", self.stage("starttls", cut=True))

    def test_tls(self):
        self.assertIn("TLS", self.stage("tls", cut=True))


class Write(Faults):
    """The server does not read any more, until the proxy's socket takes nothing."""
    CONNECTIONS = 1

    def test_write(self):
        self.assert_in("user0001@example.test", "dir-0001")
        time.sleep(1.1)
        since = len(self.cluster.log("p1"))
        self.relay.set("write", cut=False)
        load = subprocess.Popen([os.path.join(measure.OUT, "load"), "--host", self.cluster.host, "--port", str(self.cluster.at("p1", "imap")[1]),
                                 "--conns", "900", "--users", "9000", "--first-user", "1000", "--total", "900",
                                 "E* OK", "Sa LOGIN user%u@example.test dir-%u", "Ea NO [UNAVAILABLE]"],
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        begin = time.monotonic()
        self.assertTrue(self.imap("user0009@files.test", "dir-0009").startswith("OK"))
        self.assertTrue(self.imap("user0001@example.test", "dir-0001").startswith("OK"))
        out, errors = load.communicate(timeout=60)
        self.assertEqual(load.returncode, 0, errors)
        self.assertEqual(json.loads(out)["rounds"], 900)
        self.assertLess(time.monotonic() - begin, 30)
        self.go()
        self.wait_up()
        self.assert_in("user0011@example.test", "dir-0011")
        self.assertLessEqual(self.logged("ERROR directory: connector is down connector=dir", since), 1)


class Storm(Faults):
    """SIGSTOP while many log in."""

    def load(self, service, *steps, users=(1, 20), conns=4, seconds=8):
        return subprocess.Popen([os.path.join(measure.OUT, "load"), "--host", self.cluster.host, "--port", str(self.cluster.at("p1", service)[1]),
                                 "--conns", str(conns), "--users", str(users[1]), "--first-user", str(users[0]), "--seconds", str(seconds),
                                 *steps], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def storm(self):
        since = len(self.cluster.log("p1"))
        for n in range(1, 21):
            self.assert_in(f"user{n:04}@example.test", f"dir-{n:04}")
        loads = {"known users": self.load("imap", "E* OK", "Sa LOGIN user%u@example.test dir-%u", "Ea OK", conns=8),
                 "another domain": self.load("imap", "E* OK", "Sa LOGIN user0001@files.test dir-0001", "Ea OK", conns=2),
                 "another chain": self.load("pop3", "E+OK", "SUSER user0003@files.test", "E+OK", "SPASS dir-0003", "E+OK", conns=2)}
        time.sleep(2)
        self.slapd.halt()
        self.slapd.is_halted = True
        begin = time.monotonic()
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            for answer in pool.map(lambda n: self.imap(f"user{n:04}@example.test", f"dir-{n:04}"), range(101, 109)):
                self.assertIn("[UNAVAILABLE]", answer)
        self.assertLess(time.monotonic() - begin, TIMEOUT + 3)
        mt.wait_for(lambda: not self.status("dir")["usable"], 20, "the connector is down")
        self.go()
        begin = time.monotonic()
        self.wait_up()
        self.assert_in("user0021@example.test", "dir-0021")
        self.assertLess(time.monotonic() - begin, 10)
        total = 0
        for name, load in loads.items():
            out, errors = load.communicate(timeout=60)
            self.assertEqual(load.returncode, 0, f"{name}: {errors}{out}")
            result = json.loads(out)
            self.assertLess(result["max_ms"], (TIMEOUT + 1.5) * 1000, f"{name}: {result}")
            total += result["per_second"]
            if name != "known users":  # of whom those wait whose answer was just to be renewed
                self.assertLess(result["max_ms"], 1500, f"{name}: {result}")
        self.assertEqual(self.logged("ERROR directory: connector is down connector=dir", since), 1)
        self.assertGreater(self.metric("mailtier_directory_cache_stale_total", 'map="dir"'), 0)
        print(f"{total:.0f} logins/s, longest turn {self.longest_turn() / 1000:.1f} ms", file=sys.stderr)

    def test_stopped_under_load(self):
        turns = []
        for _ in range(3):  # other programs of a busy machine make turns longer; ours would do so each time
            self.storm()
            turns.append(self.longest_turn() / 1000)
            if turns[-1] <= 50 or mt.VARIANT != "release":
                return
            self.cluster.stop()
            type(self).cluster = mt.Cluster(*self.FLAGS)
            self.wait_up()
        if os.getloadavg()[0] > 2 * os.cpu_count():
            self.skipTest(f"the machine is too busy to tell: turns of {turns} ms")
        self.fail(f"the longest turns of a loop took {turns} ms")


def setUpModule():
    measure.build_tools()


del Faults

if __name__ == "__main__":
    unittest.main()
