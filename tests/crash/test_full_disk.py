"""A back-end whose disk fills up: temporary errors and nothing else, no damage, what was there stays readable, and deliveries go on when
there is room again. The disk is a tmpfs of 48 MB in a mount namespace of the test's own."""
import base64
import imaplib
import os
import random
import shutil
import smtplib
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "flow"))
import mt  # noqa: E402

USER = "user0001@example.test"


def on_small_disk(path):
    data = os.path.join(path, "c", "b1")
    script = (f"mkdir -p '{data}' && mount -t tmpfs -o size=48m none '{data}' && "
              f"head -c 24m /dev/zero >'{data}/ballast' && exec \"$@\"")
    return ["unshare", "-m", "sh", "-c", script, "sh"]


def message(i, rng):
    lines = base64.encodebytes(rng.randbytes(200000)).decode().replace("\n", "\r\n")
    return f"From: s@example.org\r\nTo: {USER}\r\nSubject: {i}\r\n\r\n{lines}".encode()


class FullDisk(unittest.TestCase):
    def setUp(self):
        if subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
            self.skipTest("no permission for a mount namespace of its own")
        self.cluster = mt.Cluster("--proxies", 1, "--backends", 1, "--users", 2, "--password", "secret", around=on_small_disk)
        self.addCleanup(self.cluster.stop)
        self.rng = random.Random(7)
        self.sent = []

    def send(self, i):
        """The answer's code to the end of data."""
        with smtplib.SMTP(*self.cluster.at("p1", "smtp"), timeout=30) as s:
            try:
                s.sendmail("s@example.org", [USER], message(i, self.rng))
            except smtplib.SMTPDataError as e:
                return e.smtp_code
            except smtplib.SMTPRecipientsRefused as e:
                return list(e.recipients.values())[0][0]
        self.sent.append(i)
        return 250

    def subjects(self):
        m = imaplib.IMAP4(*self.cluster.at("p1", "imap"))
        m.login(USER, "secret")
        m.select("INBOX")
        rows = m.fetch("1:*", "(BODY.PEEK[] BODY[HEADER.FIELDS (SUBJECT)])")[1] if m.response("EXISTS") else []
        m.logout()
        return [int(r[1].split()[1]) for r in rows if isinstance(r, tuple) and r[1].startswith(b"Subject:")]

    def test_a_disk_that_fills_up(self):
        codes = [self.send(i) for i in range(150)]
        self.assertEqual(codes[0], 250)
        full = [c for c in codes if c != 250]
        self.assertGreater(len(full), 3, "the disk never filled up")
        self.assertEqual({c // 100 for c in full}, {4}, full)
        self.assertTrue(self.cluster.is_alive("b1"))
        self.assertEqual(sorted(self.subjects()), sorted(self.sent))
        self.cluster.ctl("b1", "store", "check")
        os.unlink(f"/proc/{self.cluster.pid('b1')}/root{self.cluster.at('b1', 'data')}/ballast")
        mt.wait_for(lambda: self.send(1000 + len(self.sent)) == 250, 20, "deliveries after room came back")
        for i in range(5):
            self.assertEqual(self.send(2000 + i), 250)
        self.assertEqual(sorted(self.subjects()), sorted(self.sent))
        self.cluster.ctl("b1", "store", "check")


class FullLogAndSpool(unittest.TestCase):
    """No room for the log, nor for messages on their way: what needs no room goes on, the rest is told to come later."""

    def setUp(self):
        if subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
            self.skipTest("no permission for a mount namespace of its own")
        self.folder = tempfile.mkdtemp(prefix="mt-full-")
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        confs = []
        for name, more in (("p1", ""), ("b1", f'spool = "{self.folder}"\n')):
            confs.append(tempfile.NamedTemporaryFile("w", suffix=".conf"))
            self.addCleanup(confs[-1].close)
            confs[-1].write(f'log-file = "{self.folder}/{name}.log"\n{more}')
            confs[-1].flush()
        self.cluster = mt.Cluster("--proxies", 1, "--backends", 1, "--users", 2, "--password", "secret", "--conf", confs[0].name,
                                  "--backend-conf", confs[1].name, around=self.small)
        self.addCleanup(self.cluster.stop)

    def small(self, path):
        return ["unshare", "-m", "sh", "-c", f"mount -t tmpfs -o size=4m none '{self.folder}' && exec \"$@\"", "sh"]

    def inside(self, name, file):
        return f"/proc/{self.cluster.pid(name)}/root{self.folder}/{file}"

    def fill(self):
        with open(self.inside("b1", "ballast"), "ab", buffering=0) as f, self.assertRaises(OSError):
            while True:
                f.write(bytes(4096))

    def send(self, size):
        with smtplib.SMTP(*self.cluster.at("p1", "smtp"), timeout=30) as s:
            s.ehlo()
            s.mail("s@example.org")
            self.assertEqual(s.rcpt(USER)[0], 250)
            return s.data(b"Subject: %d\r\n\r\n" % size + b"x" * 70 + b"\r\n" + (b"y" * 70 + b"\r\n") * (size // 72))[0]

    def append(self, size):
        m = imaplib.IMAP4(*self.cluster.at("p1", "imap"), timeout=30)
        m.login(USER, "secret")
        answer = m.append("INBOX", None, None, b"Subject: a\r\n\r\n" + b"z" * size + b"\r\n")
        m.logout()
        return answer[0]

    def test_room_comes_back(self):
        self.assertEqual((self.send(1 << 20), self.append(1 << 20)), (250, "OK"))
        pids = [self.cluster.pid(name) for name in ("p1", "b1")]
        for _ in range(3):
            self.fill()
            self.assertEqual((self.send(1000), self.append(1000)), (250, "OK"))
            self.fill()  # the message before is forgotten, and its room free, when the next one begins
            self.assertEqual((self.send(1 << 20) // 100, self.append(1 << 20)), (4, "NO"))
        os.unlink(self.inside("b1", "ballast"))
        self.assertEqual((self.send(1 << 20), self.append(1 << 20)), (250, "OK"))
        self.assertEqual([self.cluster.pid(name) for name in ("p1", "b1")], pids)
        with open(self.inside("p1", "p1.log")) as f:
            self.assertIn("size=1048", [l for l in f if " smtp: " in l][-1])  # and the log goes on
        self.cluster.ctl("b1", "store", "check")


if __name__ == "__main__":
    unittest.main()
