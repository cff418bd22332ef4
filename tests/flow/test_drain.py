"""The end of a program, and a reload, while clients come all the time: nobody who was let in is lost."""
import imaplib
import os
import shutil
import signal
import smtplib
import socket
import ssl
import tempfile
import threading
import time
import unittest

import mt

USERS = 6


class Base(mt.ClusterCase):
    FLAGS = ["--proxies", 1, "--backends", 1, "--users", USERS, "--password", "secret", "--loops", 2, "--restart"]

    def workers(self, count, work):
        """Calls work(i) again and again in threads; (stop(), what went wrong, rounds)."""
        ending, bad, rounds = threading.Event(), [], [0] * count

        def run(i):
            while not ending.is_set():
                try:
                    work(i)
                    rounds[i] += 1
                except Exception as e:
                    bad.append(repr(e))
                    return
        threads = [threading.Thread(target=run, args=(i,)) for i in range(count)]
        for t in threads:
            t.start()

        def stop():
            ending.set()
            for t in threads:
                t.join()
        self.addCleanup(stop)
        return stop, bad, rounds

    def ready(self, name):
        host, port = self.cluster.at(name, "status")
        try:
            with socket.create_connection((host, port), 10) as s:
                s.sendall(b"GET /ready HTTP/1.0\r\n\r\n")
                return s.makefile("rb").read().split(b" ", 2)[1].decode()
        except OSError:
            return "none"


class Drain(Base):
    @classmethod
    def setUpClass(cls):
        conf = tempfile.NamedTemporaryFile("w", suffix=".conf")
        conf.write("ready-delay = 1s\ndrain-limit = 30s\n")
        conf.flush()
        cls.addClassCleanup(conf.close)
        cls.FLAGS = cls.FLAGS + ["--conf", conf.name, "--backend-conf", conf.name]
        super().setUpClass()

    def lost(self, name, service, greeting):
        """Drains the program while clients connect; those who were let in and got no greeting."""
        place = self.cluster.at(name, service)
        outside = []

        def work(i):
            # Half of them come to a queue that is refused already: their second try is a second later.
            try:
                s = socket.create_connection(place, 30)
            except OSError as e:
                outside.append(repr(e))
                time.sleep(0.02)
                return
            with s:
                s.settimeout(60)
                line = s.recv(200)
                if not line.startswith(greeting):
                    raise AssertionError(line)
        stop, bad, rounds = self.workers(40, work)
        mt.wait_for(lambda: min(rounds) > 5 or bad, 60, "all get in")
        old = self.cluster.pid(name)
        self.cluster.kill(name, signal.SIGTERM)
        mt.wait_for(lambda: self.ready(name) == "503", 30, "/ready says no")
        before = list(rounds)
        mt.wait_for(lambda: all(r > b for r, b in zip(rounds, before)) or bad, 60, "clients are still served")
        self.cluster.wait_restarted(name, old, 60)
        mt.wait_for(lambda: self.ready(name) == "200", 60, "it is back")
        before = list(rounds)
        mt.wait_for(lambda: all(r > b for r, b in zip(rounds, before)) or bad, 60, "and serves")
        stop()
        return bad

    def test_nobody_in_a_queue_is_reset_by_the_proxy(self):
        for _ in range(3):
            self.assertEqual(self.lost("p1", "imap", b"* OK"), [])

    def test_nobody_in_a_queue_is_reset_by_the_back_end(self):
        for _ in range(3):
            self.assertEqual(self.lost("b1", "imap", b"* OK"), [])

    def test_sessions_go_on_until_the_limit_and_the_end_is_when_the_last_is_over(self):
        m = imaplib.IMAP4(*self.cluster.at("p1", "imap"), timeout=60)
        before_login = imaplib.IMAP4(*self.cluster.at("p1", "imap"), timeout=60)
        m.login("user0001", "secret")
        old = self.cluster.pid("p1")
        self.cluster.kill("p1", signal.SIGTERM)
        mt.wait_for(lambda: "listeners are closed" in self.cluster.log("p1").rpartition("draining")[2], 30, "closed")
        before_login.login("user0002", "secret")
        for client in (m, before_login):
            self.assertEqual(client.noop()[0], "OK")
            self.assertEqual(self.cluster.pid("p1"), old)
            client.logout()
        self.cluster.wait_restarted("p1", old, 20)


class DrainAndReload(Base):
    """Without probes: a proxy that found a back-end down while that ends would cut the very transaction that is looked at."""

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="mt-drain-")
        cls.addClassCleanup(shutil.rmtree, cls.folder, ignore_errors=True)
        path = os.path.join(cls.folder, "p1.conf")
        with open(path, "w") as f:
            f.write("drain-limit = 30s\nbackend b1 {\n\tprobe-interval = 0s\n}\n")
        with open(os.path.join(cls.folder, "b1.conf"), "w") as f:
            f.write("drain-limit = 30s\n")
        cls.FLAGS = cls.FLAGS + ["--conf", path, "--backend-conf", os.path.join(cls.folder, "b1.conf")]
        super().setUpClass()

    def test_a_reload_while_it_drains(self):
        for name in ("b1", "p1"):
            with self.subTest(name):
                s = smtplib.SMTP(*self.cluster.at("p1", "smtp"), timeout=60)
                self.addCleanup(s.close)
                old = self.cluster.pid(name)
                s.ehlo()
                s.mail("a@example.net")
                self.assertEqual(s.rcpt("user0001@example.test")[0], 250)  # the transaction is open on both tiers
                self.cluster.kill(name, signal.SIGTERM)
                mt.wait_for(lambda: "listeners are closed" in self.cluster.log(name).rpartition("draining")[2], 30, "closed")
                self.cluster.kill(name, signal.SIGHUP)
                mt.wait_for(lambda: "configuration read again" in self.cluster.log(name).rpartition("listeners are closed")[2], 30, "read again")
                self.assertEqual(s.data("Subject: x\r\n\r\nx\r\n")[0], 250)
                self.cluster.wait_restarted(name, old, 60)
                mt.wait_for(lambda: self.ready(name) == "200", 60, "it is back")


class Reload(Base):
    """SIGHUP again and again, with certificates, limits, back-ends and services changing."""

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="mt-reload-")
        cls.addClassCleanup(shutil.rmtree, cls.folder, ignore_errors=True)
        cls.confs = {name: os.path.join(cls.folder, name + ".conf") for name in ("p1", "b1")}
        for path in cls.confs.values():
            open(path, "w").close()
        cls.FLAGS = cls.FLAGS + ["--conf", cls.confs["p1"], "--backend-conf", cls.confs["b1"]]
        super().setUpClass()

    def reload(self, **texts):
        for name, text in texts.items():
            count = self.cluster.log(name).count("configuration read again")
            with open(self.confs[name], "w") as f:
                f.write(text)
            self.cluster.kill(name, signal.SIGHUP)
            mt.wait_for(lambda: self.cluster.log(name).count("configuration read again") > count, 30, f"{name} has read it")

    def text(self, name, n):
        """Another number, and another file of its certificate, each time."""
        kind = "proxy" if name == "p1" else "backend"
        for end in ("pem", "key"):
            shutil.copy2(f"{self.cluster.dir}/c/tls/{kind}.{end}", f"{self.folder}/{kind}{n}.{end}")
        return (f"limits {{\n\twrong-commands = {5 + n}\n}}\ntls default {{\n\tcertificate = \"{self.folder}/{kind}{n}.pem\"\n"
                f"\tkey = \"{self.folder}/{kind}{n}.key\"\n}}\n")

    def test_nothing_is_dropped(self):
        tls = ssl.create_default_context(cafile=self.cluster.ca)
        tls.check_hostname = False
        idle = imaplib.IMAP4_SSL(*self.cluster.at("p1", "imaps"), ssl_context=tls, timeout=60)
        idle.login("user0006", "secret")
        idle.select()

        def work(i):
            if i % 2:
                m = imaplib.IMAP4_SSL(*self.cluster.at("p1", "imaps"), ssl_context=tls, timeout=60)
                m.login(f"user{i + 1:04d}", "secret")
                m.select()
                m.logout()
            else:
                with smtplib.SMTP(*self.cluster.at("p1", "smtp"), timeout=60) as s:
                    s.sendmail("a@example.net", ["user0001@example.test", "user0002@example.test"], "Subject: x\r\n\r\nx\r\n")
        stop, bad, rounds = self.workers(4, work)
        for n in range(6):
            before = list(rounds)
            self.reload(p1=self.text("p1", n), b1=self.text("b1", n))
            mt.wait_for(lambda: all(r > b for r, b in zip(rounds, before)) or bad, 60, "all get on")
        stop()
        self.assertEqual(bad, [])
        self.assertEqual(idle.noop()[0], "OK")
        idle.logout()

    def test_what_needs_a_hand_over_is_said(self):
        self.reload(p1="loops = 3\n", b1="loops = 3\n")
        for name in ("p1", "b1"):
            self.assertRegex(self.cluster.log(name), "WARN .*not by reload: .*loops")
            old = self.cluster.pid(name)
            self.cluster.ctl(name, "handover")
            mt.wait_for(lambda: self.cluster.pid(name) != old, 30, "handed over")
            mt.wait_for(lambda: "started loops=3" in self.cluster.log(name), 30, "with three loops")
        m = imaplib.IMAP4(*self.cluster.at("p1", "imap"), timeout=60)
        m.login("user0001", "secret")
        m.logout()


del Base

if __name__ == "__main__":
    unittest.main()
