"""Two proxies behind a real HAProxy, whose configuration is the one of docs/operations.md: a rolling restart by hand-over under load,
and a proxy that drains. Nobody sees an error, no session is dropped, no message is lost or doubled."""
import imaplib
import ipaddress
import os
import poplib
import re
import shutil
import signal
import smtplib
import socket
import ssl
import subprocess
import tempfile
import threading
import time
import unittest

import mt

PASSWORD = "secret"
USERS = 8
BASE = 20000
PAGE = os.path.join(mt.ROOT, "docs", "operations.md")


def user(n):
    return f"user{n:04d}@example.test"


def example(name):
    """A file that the page shows, word for word."""
    with open(PAGE) as f:
        return re.search(rf"<!-- file: {re.escape(name)} -->\n```\n(.*?)```", f.read(), re.S)[1]


class Balancer:
    """HAProxy by the page's example; only addresses and ports are this machine's."""

    def __init__(self, cluster):
        self.folder = tempfile.mkdtemp(prefix="mt-haproxy-")
        # Between the cluster's proxies and its back-ends.
        self.host = str(ipaddress.ip_address(cluster.at("p1", "imap")[0]) + 50)
        text = example("haproxy.cfg")
        hosts = {"203.0.113.10": self.host, "10.0.0.5": cluster.at("p1", "imap")[0], "10.0.0.6": cluster.at("p2", "imap")[0]}
        for there, here in hosts.items():
            text = re.sub(rf"\b{re.escape(there)}:(\d+)", lambda m, here=here: f"{here}:{BASE + int(m[1])}", text)
        text = text.replace("check port 9090", f"check port {cluster.at('p1', 'status')[1]}")
        self.socket = os.path.join(self.folder, "stats.sock")
        self.conf = os.path.join(self.folder, "haproxy.cfg")
        with open(self.conf, "w") as f:
            f.write(f"global\n    stats socket {self.socket}\n{text}")
        self.log = open(os.path.join(self.folder, "log"), "w+")
        self.process = subprocess.Popen([shutil.which("haproxy", path=os.environ["PATH"] + ":/usr/sbin"), "-db", "-f", self.conf],
                                        stdout=self.log, stderr=self.log)

    def servers(self):
        """{"imap/p1": "UP", ...}."""
        with socket.socket(socket.AF_UNIX) as s:
            try:
                s.connect(self.socket)
            except OSError:
                return {}
            s.sendall(b"show stat\n")
            rows = [line.split(",") for line in s.makefile().read().splitlines() if not line.startswith("#")]
        return {f"{r[0]}/{r[1]}": r[17] for r in rows if len(r) > 17 and r[1] not in ("FRONTEND", "BACKEND")}

    def wait(self, name, state, seconds=60):
        mt.wait_for(lambda: {v.split()[0] for k, v in self.servers().items() if k.endswith("/" + name)} == {state}, seconds,
                    f"the balancer sees {name} {state}")

    def stop(self):
        self.process.terminate()
        self.process.wait()
        self.log.close()
        shutil.rmtree(self.folder, ignore_errors=True)


class Load:
    """Clients of all kinds, each in a thread of its own, until stop(). Whatever goes wrong is in `bad`."""

    def __init__(self, host, ca):
        self.host, self.bad, self.rounds, self.threads = host, [], {}, []
        self.stopping = threading.Event()
        self.tls = ssl.create_default_context(cafile=ca)
        self.tls.check_hostname = False
        self.sent = []  # (recipient, id) that got 250

    def start(self, name, work):
        def run():
            while not self.stopping.is_set():
                try:
                    work()
                except Exception as e:  # whatever a client sees
                    self.bad.append(f"{name}: {e!r}")
                    return
                self.rounds[name] += 1
        self.rounds[name] = 0
        self.threads.append(threading.Thread(target=run))
        self.threads[-1].start()

    def wait_rounds(self, count):
        """Each kind of client has come to its end so many times more."""
        before = dict(self.rounds)
        mt.wait_for(lambda: self.bad or all(self.rounds[n] >= before[n] + count for n in before), 120, "all clients get on")

    def stop(self):
        self.stopping.set()
        for t in self.threads:
            t.join()

    # ---- what they do ----

    def imap_login(self, n):
        m = imaplib.IMAP4(self.host, BASE + 143, timeout=60)
        m.starttls(self.tls)
        m.login(user(n), PASSWORD)
        m.select()
        m.noop()
        m.logout()

    def imaps_login(self, n):
        m = imaplib.IMAP4_SSL(self.host, BASE + 993, ssl_context=self.tls, timeout=60)
        m.login(user(n), PASSWORD)
        m.logout()

    def pop3_large(self, n, size):
        p = poplib.POP3_SSL(self.host, BASE + 995, context=self.tls, timeout=60)
        p.user(user(n))
        p.pass_(PASSWORD)
        got = len(b"\r\n".join(p.retr(1)[1]))
        if got < size:
            raise AssertionError(f"{got} octets of {size}")
        p.quit()

    def deliver(self, n, count):
        """One connection, some messages; a pause within a transaction, so that some are in flight at each hand-over."""
        with smtplib.SMTP(self.host, BASE + 25, timeout=60) as s:
            for _ in range(count):
                mid = f"m{len(self.sent)}.{threading.get_ident()}.{time.monotonic_ns()}"
                to = [user(n), user(n % USERS + 1)]  # of both back-ends
                s.ehlo("client.example.net")
                for code, words in [s.mail("a@example.net")] + [s.rcpt(t) for t in to]:
                    if code != 250:
                        raise AssertionError(f"{code} {words}")
                time.sleep(0.05)
                code, words = s.data(f"Message-ID: <{mid}>\r\nSubject: {mid}\r\n\r\nx\r\n")
                if code != 250:
                    raise AssertionError(f"{code} {words}")
                self.sent += [(t, mid) for t in to]


class Idle:
    """A session that waits, as a phone's does."""

    def __init__(self, host, n, tls):
        self.m = imaplib.IMAP4_SSL(host, BASE + 993, ssl_context=tls, timeout=120)
        self.m.login(user(n), PASSWORD)
        self.m.select()
        self.m.send(b"i1 IDLE\r\n")
        if not self.m.readline().startswith(b"+"):
            raise AssertionError("no IDLE")

    def wait_exists(self):
        while b"EXISTS" not in (line := self.m.readline()):
            if not line:
                raise AssertionError("the session was dropped")

    def end(self):
        self.m.send(b"DONE\r\n")
        while not (line := self.m.readline()).startswith(b"i1 OK"):
            if not line:
                raise AssertionError("the session was dropped")
        self.m.logout()


@unittest.skipUnless(shutil.which("haproxy", path=os.environ["PATH"] + ":/usr/sbin"), "haproxy is not installed")
class BehindHaproxy(mt.ClusterCase):
    FLAGS = ["--proxies", 2, "--backends", 2, "--users", USERS, "--password", PASSWORD, "--loops", 2, "--restart"]

    @classmethod
    def setUpClass(cls):
        # The page's, and time for long transfers on a busy machine.
        conf = tempfile.NamedTemporaryFile("w", suffix=".conf")
        conf.write(example("balancer.conf").replace("10.0.0.2", "127.0.0.1") + "drain-limit = 60s\n")
        conf.flush()
        cls.addClassCleanup(conf.close)
        cls.FLAGS = cls.FLAGS + ["--conf", conf.name]
        super().setUpClass()
        cls.balancer = Balancer(cls.cluster)
        cls.addClassCleanup(cls.balancer.stop)
        for p in ("p1", "p2"):
            cls.balancer.wait(p, "UP")

    def stored(self, n):
        """Message-IDs in the user's INBOX, from his back-end itself."""
        m = imaplib.IMAP4(*self.cluster.at(f"b{(n - 1) % 2 + 1}", "imap"), timeout=60)
        m.login(user(n), PASSWORD)
        count = int(m.select()[1][0])
        data = m.fetch("1:*", "BODY.PEEK[HEADER.FIELDS (MESSAGE-ID)]")[1] if count else []
        m.logout()
        return re.findall(rb"<(m\d+\.[^>]+)>", b"".join(part[1] for part in data if isinstance(part, tuple)))

    def load(self):
        load = Load(self.balancer.host, self.cluster.ca)
        self.addCleanup(load.stop)
        load.start("imap", lambda: load.imap_login(1))
        load.start("imaps", lambda: load.imaps_login(2))
        load.start("pop3", lambda: load.pop3_large(3, 2000000))
        load.start("smtp 1", lambda: load.deliver(4, 5))
        load.start("smtp 2", lambda: load.deliver(5, 5))
        return load

    def deliver_large(self):
        with smtplib.SMTP(self.balancer.host, BASE + 25, timeout=60) as s:
            s.sendmail("a@example.net", [user(3)], "Subject: large\r\n\r\n" + ("x" * 70 + "\r\n") * 30000)

    def check(self, load):
        self.assertEqual(load.bad, [])
        for n in range(1, USERS + 1):
            want = sorted(mid.encode() for to, mid in load.sent if to == user(n))
            got = [mid for mid in self.stored(n) if mid in set(want)]
            self.assertEqual(sorted(got), want, f"{user(n)}: each message that got 250 is there, once")
        self.assertGreater(len(load.sent), 20)

    def test_address_of_the_client_comes_through_both(self):
        there = "127.0.0.77"
        with socket.create_connection((self.balancer.host, BASE + 143), 60, source_address=(there, 0)) as s:
            stream = s.makefile("rb")
            stream.readline()
            s.sendall(f"a login {user(8)} {PASSWORD}\r\n".encode())
            while not (line := stream.readline()).startswith(b"a "):
                self.assertTrue(line)
            self.assertTrue(line.startswith(b"a OK"), line)
            rows = sum((self.cluster.ctl_json(p, "session", "list", "--peer", there).get("rows", []) for p in ("p1", "p2")), [])
            self.assertEqual([r["user"] for r in rows], [user(8)])
            self.assertEqual([r["user"] for r in self.cluster.ctl_json("b2", "session", "list", "--peer", there)["rows"]], [user(8)])
        self.assertIn(f"user={user(8)} client={there}", self.cluster.log("b2"))
        # Whoever comes past the balancer is not served.
        with socket.create_connection(self.cluster.at("p1", "imap"), 60, source_address=("127.0.0.78", 0)) as s:
            s.sendall(b"a capability\r\n")
            with self.subTest("without a header"):
                try:
                    self.assertEqual(s.recv(100), b"")
                except ConnectionResetError:
                    pass

    def test_rolling_restart_by_hand_over_under_load(self):
        self.deliver_large()
        load = self.load()
        idle = [Idle(self.balancer.host, n, load.tls) for n in (6, 7, 8, 6)]
        for _ in range(2):
            for name in ("p1", "p2"):
                old = self.cluster.pid(name)
                self.cluster.ctl(name, "handover")
                mt.wait_for(lambda: self.cluster.pid(name) != old, 30, "a new process")
                load.wait_rounds(1)
                self.assertEqual(load.bad, [])
        load.stop()
        self.check(load)
        # Sessions from before the first hand-over are alive in four generations of programs.
        self.assertEqual([int(self.cluster.metric(p, "mailtier_program_generation")) for p in ("p1", "p2")], [3, 3])
        with smtplib.SMTP(self.balancer.host, BASE + 25, timeout=60) as s:
            s.sendmail("a@example.net", [user(6), user(7), user(8)], "Subject: wake up\r\n\r\nx\r\n")
        for i in idle:
            i.wait_exists()
            i.end()
        for name in ("p1", "p2"):
            mt.wait_for(lambda: self.cluster.metric(name, "mailtier_program_predecessors") == 0, 60, "the old ones have ended")

    def test_drain_takes_a_proxy_out_without_an_error(self):
        self.deliver_large()
        load = self.load()
        load.wait_rounds(1)
        old = self.cluster.pid("p1")
        self.cluster.kill("p1", signal.SIGTERM)
        self.balancer.wait("p1", "DOWN")
        self.assertEqual(load.bad, [])
        self.cluster.wait_restarted("p1", old, 90)  # by the starter, as a supervisor would
        load.wait_rounds(1)
        self.balancer.wait("p1", "UP")
        load.wait_rounds(1)
        load.stop()
        self.check(load)
        self.assertIn("listeners are closed", self.cluster.log("p1"))


if __name__ == "__main__":
    unittest.main()
