"""Hostile clients amid logins: every mechanism left in every step, while the directory stands still and comes back, the configuration is
read anew and the program ends. Run with MAILTIER_VARIANT=asan for what a release build does not show."""
import base64
import os
import random
import shutil
import signal
import socket
import tempfile
import threading
import time
import unittest

import mt
from slapd import SLAPD, Slapd
from test_proxy_login import Line

MECHANISMS = ("PLAIN", "LOGIN", "CRAM-MD5", "DIGEST-MD5", "SCRAM-SHA-1", "SCRAM-SHA-256")


def b64(raw):
    return base64.b64encode(raw).decode()


def answers(mechanism, name, challenge):
    """A client's next line: well formed, and wrong."""
    if mechanism == "PLAIN":
        return b64(b"\0" + name + b"\0wrong")
    if mechanism == "LOGIN":
        return b64(name)
    if mechanism == "CRAM-MD5":
        return b64(name + b" " + b"0" * 32)
    if mechanism == "DIGEST-MD5":
        nonce = challenge.partition(b'nonce="')[2].partition(b'"')[0]
        return b64(b'username="' + name + b'",realm="example.test",nonce="' + nonce + b'",cnonce="c",nc=00000001,qop=auth,'
                   b'digest-uri="imap/x",response=' + b"0" * 32)
    if challenge.startswith(b"r="):
        return b64(b"c=biws," + challenge.split(b",")[0] + b",p=" + base64.b64encode(b"0" * (20 if mechanism.endswith("1") else 32)))
    return b64(b"n,,n=" + name + b",r=abcdefgh")


@unittest.skipUnless(os.path.exists(SLAPD), "slapd is not installed")
class Leavers(mt.ClusterCase):
    @classmethod
    def setUpClass(cls):
        cls.slapd = Slapd(40)
        cls.addClassCleanup(cls.slapd.end)
        cls.configure(cls, 1)
        cls.FLAGS = ["--proxies", 1, "--backends", 2, "--users", 40, "--conf", cls.slapd.path("proxy.conf")]
        super().setUpClass()

    def configure(self, round):
        """Two forms by turns: another connector, another filter of logins, other delays."""
        odd = round % 2
        self.slapd.write("proxy.conf", f"""
default-domain = example.test
connector dir {{ uris = {{"ldap://127.0.0.1:{self.slapd.port}"}} ca = {self.slapd.path('cert.pem')} bind-dn = "cn=proxy,dc=example,dc=test"
    password = {self.slapd.path('password')} base = "dc=example,dc=test" timeout = {1 + odd}s }}
map dir {{ type = ldap-password connector = dir positive-ttl = {odd}s negative-ttl = 0s }}
limits {{ failed-login-delay = {10 * odd}ms failed-logins = 100 penalty-free = 3 penalty-delay = 20ms penalty-most = 100ms penalty-waiting = 100
    wrong-commands = 1000 known-good = {odd}s }}
service imap {{ maps = {{dir}} mechanisms-clear = {{{', '.join(MECHANISMS)}}} }}
service pop3 {{ maps = {{dir}} mechanisms-clear = {{{', '.join(MECHANISMS)}}} }}
service submission {{ maps = {{dir}} mechanisms = {{{', '.join(MECHANISMS)}}} }}
""")

    def hostile(self, seed, stop, wrong):
        chance = random.Random(seed)
        while not stop.is_set():
            service, verb = chance.choice((("imap", "a AUTHENTICATE "), ("pop3", "AUTH ")))
            mechanism, name = chance.choice(MECHANISMS), f"user{chance.randint(1, 60):04}@example.test".encode()
            try:
                with socket.create_connection(self.cluster.at("p1", service), timeout=15) as s:
                    f = s.makefile("rb")
                    f.readline()
                    s.sendall(f"{verb}{mechanism}\r\n".encode())
                    for _ in range(chance.randint(0, 4)):
                        line = f.readline()
                        if not line.startswith(b"+ "):
                            break
                        s.sendall(chance.choice((answers(mechanism, name, base64.b64decode(line[2:].strip())),) * 12
                                                + ("*", "!", "=", "", b64(os.urandom(40)))).encode() + b"\r\n")
                    else:
                        if chance.random() < 0.4:
                            f.readline()
            except OSError:
                pass
            except Exception as e:
                wrong.append(e)

    def logs_in(self, i):
        try:
            with Line(self.cluster.at("p1", "imap")) as c:
                c.line()
                return "a OK" in c.ask("a", f"LOGIN user{i:04}@example.test dir-{i:04}")[-1]
        except OSError:
            return False

    def test_security_08_clients_leave_in_every_step(self):
        stop, wrong = threading.Event(), []
        threads = [threading.Thread(target=self.hostile, args=(seed, stop, wrong)) for seed in range(8)]
        mt.wait_for(lambda: self.logs_in(1), 20, "a first login")
        before = len(os.listdir(f"/proc/{self.cluster.pid('p1')}/fd"))
        for t in threads:
            t.start()
        try:
            for round in range(2, 12):
                self.configure(round)
                self.cluster.kill("p1", signal.SIGHUP)
                if round % 3 == 0:
                    self.slapd.halt()
                time.sleep(0.4)
                self.slapd.go()
            # Whoever behaves comes in, in the middle of it.
            mt.wait_for(lambda: self.logs_in(3), 30, "a login amid hostile ones")
            self.assertEqual(wrong, [])
        finally:
            stop.set()
            for t in threads:
                t.join(60)
        mt.wait_for(lambda: len(os.listdir(f"/proc/{self.cluster.pid('p1')}/fd")) <= before + 4, 30, "descriptors back")
        self.assertEqual(self.cluster.metric("p1", "mailtier_auth_penalty_waiting"), 0)
        results = {k: v for k, v in self.cluster.metrics("p1").items() if k.startswith("mailtier_front_logins_total{service=\"imap\"")}
        for result in ("wrong-credential", "unserved-mechanism"):
            self.assertGreater(results[f'mailtier_front_logins_total{{service="imap",result="{result}"}}'], 0, results)

    def test_z_the_end_comes_amid_logins(self):
        stop, wrong = threading.Event(), []
        threads = [threading.Thread(target=self.hostile, args=(seed, stop, wrong)) for seed in range(100, 108)]
        for t in threads:
            t.start()
        time.sleep(1)
        self.slapd.halt()
        time.sleep(0.3)
        self.cluster.kill("p1", signal.SIGTERM)
        try:
            mt.wait_for(lambda: not self.cluster.is_alive("p1"), 40, "the proxy's end")
        finally:
            self.slapd.go()
            stop.set()
            for t in threads:
                t.join(60)
        mt.wait_for(lambda: any("p1 ended with status" in l for l in self.cluster.lines) or "p1 ended with status" in self.cluster.report(), 10,
                    "the starter's word of it")
        self.assertIn("p1 ended with status 0", self.cluster.report())


SLOW = "{ARGON2ID}$argon2id$v=19$m=65536,t=8,p=1$c2FsdHNhbHQ$" + "A" * 43


class Hashing(mt.ClusterCase):
    """The end comes while slow passwords wait to be hashed, for clients that have gone."""
    @classmethod
    def setUpClass(cls):
        cls.dir = tempfile.mkdtemp(prefix="mt-hashing-")
        cls.addClassCleanup(shutil.rmtree, cls.dir)
        with open(os.open(f"{cls.dir}/users.map", os.O_WRONLY | os.O_CREAT, 0o600), "w") as f:
            f.write(f"user0001@example.test b1 password={SLOW}\n")
        cls.FLAGS = ["--proxies", 1, "--backends", 1, "--users", 2, "--map", f"{cls.dir}/users.map"]
        super().setUpClass()
        cls.cluster.ctl("b1", "account", "set", "user0001@example.test", "--hash", SLOW)

    def flood(self, program):
        for i in range(40):
            with socket.create_connection(self.cluster.at(program, "imap"), timeout=15) as s:
                s.recv(1000)
                s.sendall(f"a LOGIN user0001@example.test wrong{i}\r\n".encode())
        mt.wait_for(lambda: self.cluster.metric(program, "mailtier_net_work_waiting") > 20, 20, "passwords wait")
        self.cluster.kill(program, signal.SIGTERM)
        mt.wait_for(lambda: not self.cluster.is_alive(program), 60, "its end")
        mt.wait_for(lambda: f"{program} ended with status" in self.cluster.report(), 10, "the starter's word of it")
        self.assertIn(f"{program} ended with status 0", self.cluster.report())

    def test_security_08_the_end_comes_amid_hashing(self):
        self.flood("p1")

    def test_security_08_the_end_of_a_back_end_too(self):
        self.flood("b1")


if __name__ == "__main__":
    unittest.main()
