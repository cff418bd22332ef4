"""A back-end whose disk fills up: temporary errors and nothing else, no damage, what was there stays readable, and deliveries go on when
there is room again. The disk is a tmpfs of 48 MB in a mount namespace of the test's own."""
import base64
import imaplib
import os
import random
import smtplib
import subprocess
import sys
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


if __name__ == "__main__":
    unittest.main()
