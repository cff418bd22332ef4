"""Exactly once: transactions over one and two back-ends, one of which dies at a chosen point; a client that repeats what got no
250; afterwards every mailbox holds the message once. And the same bytes sent twice on purpose arrive twice. Needs the faults
variant of the programs (make VARIANT=faults)."""
import imaplib
import os
import smtplib
import ssl
import subprocess
import tempfile
import threading
import time
import unittest
import urllib.request

import mt

PASSWORD = "secret"
USERS = 20


def address(n):
    return f"user{n:04d}@example.test"


ALL = [address(n) for n in range(1, USERS + 1)]
ODD = ALL[0::2]   # of the first back-end, in both of its slots
ONE = ALL[:1]


@unittest.skipUnless(os.path.exists(os.path.join(mt.bin_dir("faults"), "mailtier-proxy")), "make VARIANT=faults all")
class ExactlyOnce(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.faults = tempfile.mkdtemp(prefix="mt-faults-")
        os.chmod(cls.faults, 0o755)
        cls.cluster = mt.Cluster("--proxies", 2, "--backends", 2, "--users", USERS, "--password", PASSWORD, variant="faults",
                                 env={"MAILTIER_FAULT_DIR": cls.faults})
        cls.started = {}
        cls.token = 0

    @classmethod
    def tearDownClass(cls):
        for p in cls.started.values():
            p.kill()
            p.wait()
        cls.cluster.stop()

    def run(self, result=None):
        before = len(result.failures) + len(result.errors)
        super().run(result)
        if len(result.failures) + len(result.errors) > before:
            print(self.cluster.report())

    # ---- programs ----

    def fault(self, name, words):
        path = os.path.join(self.faults, name)
        with open(path + ".new", "w") as f:
            f.write(words + "\n")
        os.rename(path + ".new", path)

    def no_fault(self, name):
        try:
            os.unlink(os.path.join(self.faults, name))
        except FileNotFoundError:
            pass

    def is_dead(self, name):
        if name in self.started:
            return self.started[name].poll() is not None
        return not self.cluster.is_alive(name)

    def kill(self, name):
        if name in self.started:
            self.started[name].kill()
            self.started[name].wait()
        else:
            self.cluster.kill(name)
        mt.wait_for(lambda: self.is_dead(name), 10, f"{name} is dead")

    def start(self, name):
        self.no_fault(name)
        program = "mailtier-proxy" if name[0] == "p" else "mailtier-backend"
        env = {**os.environ, "MAILTIER_FAULT_FILE": os.path.join(self.faults, name)}
        with open(self.cluster.at(name, "log"), "ab") as log:
            self.started[name] = subprocess.Popen([os.path.join(mt.bin_dir("faults"), program), "-c", self.cluster.at(name, "conf")],
                                                  stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env)
        host, port = self.cluster.at(name, "status")

        def ready():
            try:
                return urllib.request.urlopen(f"http://{host}:{port}/ready", timeout=5).status == 200
            except OSError:
                return False
        mt.wait_for(ready, 30, f"{name} is ready again")
        for proxy in ("p1", "p2"):
            mt.wait_for(lambda p=proxy: self.takes_all(p), 30, f"{proxy} reaches both back-ends again")

    def takes_all(self, proxy):
        try:
            with smtplib.SMTP(*self.cluster.at(proxy, "smtp"), timeout=60) as s:
                s.ehlo("client.example")
                s.mail("sender@example.net")
                return all(s.rcpt(r)[0] == 250 for r in ALL[:2])
        except (smtplib.SMTPException, OSError):
            return False

    # ---- the client: keeps what got no 250 ----

    def attempt(self, proxy, recipients, body):
        """The recipients that have it now."""
        host, port = self.cluster.at(proxy, "smtp")
        try:
            with smtplib.SMTP(host, port, timeout=60) as s:
                s.ehlo("client.example")
                s.mail("sender@example.net")
                taken = [r for r in recipients if s.rcpt(r)[0] == 250]
                if not taken:
                    return []
                code, _ = s.data(body)
                return taken if code == 250 else []
        except (smtplib.SMTPException, OSError):
            return []

    def repeat_until_done(self, recipients, body, seconds=40):
        rest, end, turn = list(recipients), time.monotonic() + seconds, 0
        while rest:
            self.assertLess(time.monotonic(), end, f"never delivered to {rest}")
            done = self.attempt(f"p{turn % 2 + 1}", rest, body)
            rest = [r for r in rest if r not in done]
            turn += 1
            if rest:
                time.sleep(0.1)

    def message(self):
        type(self).token += 1
        token = f"t{self.token}-{os.getpid()}"
        return token, f"Subject: {token}\r\nMessage-ID: <{token}@client.example>\r\n\r\n".encode() + b"line of text\r\n" * 3000

    # ---- what is there ----

    def counts(self, recipients, token):
        context = ssl.create_default_context(cafile=self.cluster.ca)
        context.check_hostname = False
        result = {}
        for r in recipients:
            m = mt.wait_for(lambda: self.logged_in(r, context), 20, f"{r} logs in")
            n = int(m.select(readonly=True)[1][0])
            data = m.fetch("1:*", "(BODY.PEEK[HEADER.FIELDS (SUBJECT)])")[1] if n else []
            result[r] = sum(1 for d in data if isinstance(d, tuple) and f"Subject: {token}\r\n".encode() in d[1])
            m.logout()
        return result

    def logged_in(self, user, context):
        """None: the proxy has not seen yet that the back-end is there again."""
        m = imaplib.IMAP4_SSL(*self.cluster.at("p1", "imaps"), ssl_context=context, timeout=30)
        try:
            m.login(user, PASSWORD)
        except imaplib.IMAP4.error as e:
            m.shutdown()
            if b"[UNAVAILABLE]" not in e.args[0]:
                raise
            return None
        return m

    def assert_once(self, recipients, token, want=1):
        got = self.counts(recipients, token)
        self.assertEqual(got, {r: want for r in recipients})

    def dies_at(self, point, recipients, down_during_repeat=False):
        token, body = self.message()
        self.fault("b1", f"{point}:kill")
        self.assertEqual(self.attempt("p1", recipients, body), [], f"250 although b1 died at {point}")
        mt.wait_for(lambda: self.is_dead("b1"), 10, f"b1 died at {point}")
        done = []
        if down_during_repeat:
            done = self.attempt("p2", recipients, body)
        self.start("b1")
        self.repeat_until_done([r for r in recipients if r not in done], body)
        self.assert_once(recipients, token)

    def test_two_backends(self):
        for point in ("lmtp-after-rcpt", "lmtp-amid-body", "lmtp-before-commit", "lmtp-before-answer"):
            for down in (False, True):
                with self.subTest(point=point, down=down):
                    if point == "lmtp-after-rcpt":
                        self.dies_at_rcpt(down)
                    else:
                        self.dies_at(point, ALL, down)

    def dies_at_rcpt(self, down):
        """Killed after it has accepted recipients, while the client still names others."""
        token, body = self.message()
        host, port = self.cluster.at("p1", "smtp")
        with smtplib.SMTP(host, port, timeout=60) as s:
            s.ehlo("client.example")
            s.mail("sender@example.net")
            taken = [r for r in ALL if s.rcpt(r)[0] == 250]
            self.assertEqual(taken, ALL)
            self.kill("b1")
            try:
                code = s.data(body)[0]
            except smtplib.SMTPDataError as e:  # refused at DATA already
                code = e.smtp_code
            self.assertEqual(code, 451)
        done = self.attempt("p2", ALL, body) if down else []
        self.start("b1")
        self.repeat_until_done([r for r in ALL if r not in done], body)
        self.assert_once(ALL, token)

    def test_one_leg_two_slots(self):
        for point in ("lmtp-amid-body", "lmtp-before-commit", "lmtp-between-slots", "lmtp-before-answer"):
            with self.subTest(point=point):
                self.dies_at(point, ODD)

    def test_one_recipient(self):
        for point in ("lmtp-amid-body", "lmtp-before-commit", "lmtp-before-answer"):
            with self.subTest(point=point):
                self.dies_at(point, ONE)

    def test_after_the_other_leg_has_answered(self):
        token, body = self.message()
        self.fault("b1", "lmtp-before-commit:sleep:1:3000")
        sender = threading.Thread(target=lambda: self.assertEqual(self.attempt("p1", ALL, body), []))
        sender.start()
        mt.wait_for(lambda: self.counts([ALL[1]], token)[ALL[1]] == 1, 10, "b2 has stored it")
        self.kill("b1")
        sender.join()
        self.start("b1")
        self.repeat_until_done(ALL, body)
        self.assert_once(ALL, token)

    def test_the_proxy_dies_between_two_answers(self):
        token, body = self.message()
        self.fault("p1", "smtp-after-leg:kill")
        self.assertEqual(self.attempt("p1", ALL, body), [])
        mt.wait_for(lambda: self.is_dead("p1"), 10, "p1 died")
        self.start("p1")
        self.repeat_until_done(ALL, body)
        self.assert_once(ALL, token)

    def test_sent_twice_on_purpose(self):
        token, body = self.message()
        host, port = self.cluster.at("p1", "smtp")
        with smtplib.SMTP(host, port, timeout=60) as s:
            s.ehlo("client.example")
            for _ in range(2):
                s.mail("sender@example.net")
                for r in ALL:
                    self.assertEqual(s.rcpt(r)[0], 250)
                self.assertEqual(s.data(body)[0], 250)
            self.assert_once(ALL, token, 2)
            self.assertEqual(self.attempt("p2", ALL, body), ALL)
        self.assertEqual(self.attempt("p1", ALL, body), ALL)
        self.assert_once(ALL, token, 4)

    def test_sent_at_the_same_time_on_purpose(self):
        token, body = self.message()
        results = []
        threads = [threading.Thread(target=lambda p=p: results.append(self.attempt(f"p{p % 2 + 1}", ALL, body))) for p in range(6)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        self.assertEqual(results, [ALL] * 6)
        self.assert_once(ALL, token, 6)


if __name__ == "__main__":
    unittest.main()
