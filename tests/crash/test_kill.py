"""kill -9 of a back-end at random moments during 20 parallel deliveries: every message that got 250 is there, whole, once; the store
checks out; quota sums agree. MAILTIER_KILLS says how many times (50)."""
import hashlib
import imaplib
import os
import random
import smtplib
import sys
import threading
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "flow"))
import mt  # noqa: E402

KILLS = int(os.environ.get("MAILTIER_KILLS", "50"))
USERS, SENDERS = 10, 20


def body(key, rng):
    size = rng.choice([200, 2000, 9000, 60000, 300000])
    text = "".join(rng.choice("abcdefghij klmnop") for _ in range(70)) + "\r\n"
    return (f"From: s@example.org\r\nTo: u@example.test\r\nMessage-ID: <{key}>\r\nX-Key: {key}\r\n\r\n" + text * (size // 72 + 1)).encode()


class Sender(threading.Thread):
    """Delivers to one user until told to end; repeats a message that got no 250, as a queue would."""

    def __init__(self, cluster, number):
        super().__init__()
        self.cluster, self.number = cluster, number
        self.rng = random.Random(number)
        self.stop = threading.Event()
        self.accepted = {}

    def run(self):
        n, session = 0, None
        while not self.stop.is_set():
            n += 1
            key = f"{self.number}.{n}@test"
            data = body(key, self.rng)
            while not self.stop.is_set():
                try:
                    if session is None:
                        session = smtplib.SMTP(*self.cluster.at("p1", "smtp"), timeout=20)
                    session.sendmail("s@example.org", [f"user{self.number % USERS + 1:04}@example.test"], data)
                    self.accepted[key] = hashlib.sha256(data.split(b"\r\n\r\n", 1)[1]).hexdigest()
                    break
                except (smtplib.SMTPException, OSError):
                    try:
                        if session:
                            session.close()
                    finally:
                        session = None
                    time.sleep(0.05)


class Kill(unittest.TestCase):
    def test_kill_9_during_deliveries(self):
        cluster = mt.Cluster("--proxies", 1, "--backends", 2, "--users", USERS, "--password", "secret", "--restart")
        self.addCleanup(cluster.stop)
        rng = random.Random(1)
        senders = [Sender(cluster, i) for i in range(SENDERS)]
        for s in senders:
            s.start()
        try:
            for k in range(KILLS):
                time.sleep(rng.uniform(0.05, 0.6))  # the random moment
                name = rng.choice(["b1", "b2"])
                old = cluster.pid(name)
                cluster.kill(name)
                cluster.wait_restarted(name, old)
            time.sleep(1)
        finally:
            for s in senders:
                s.stop.set()
            for s in senders:
                s.join(60)
        found, sizes = self.read_all(cluster)
        accepted = {k: v for s in senders for k, v in s.accepted.items()}
        self.assertGreater(len(accepted), KILLS * 5)
        lost = [k for k in accepted if k not in found]
        self.assertEqual(lost, [], "accepted with 250 and not there")
        self.assertEqual([k for k in accepted if found[k] != [accepted[k]]], [], "damaged, or there twice")
        self.assertEqual([k for k, v in found.items() if len(v) != 1], [], "there twice")
        for name in ("b1", "b2"):
            cluster.ctl(name, "store", "check")
        for user, (count, octets) in sizes.items():
            name = "b1" if self.home(cluster, user) == "b1" else "b2"
            row = cluster.ctl_json(name, "quota", user)
            row = row.get("quota", row)
            row = row[0] if isinstance(row, list) else row
            self.assertEqual((row["messages"], row["bytes"]), (count, octets), user)

    def home(self, cluster, user):
        return cluster.ctl_json("p1", "map", "explain", user)["backend"]

    def read_all(self, cluster):
        found, sizes = {}, {}
        for u in range(1, USERS + 1):
            user = f"user{u:04}@example.test"

            def login():
                try:
                    m = imaplib.IMAP4(*cluster.at("p1", "imap"))
                    m.login(user, "secret")
                    return m
                except (imaplib.IMAP4.error, OSError):
                    return None

            m = mt.wait_for(login, 20, f"login of {user}")
            m.select("INBOX", readonly=True)
            octets = count = 0
            rows = m.fetch("1:*", "(RFC822.SIZE BODY.PEEK[])")[1]
            for r in rows:
                if not isinstance(r, tuple):
                    continue
                head, text = r[1].split(b"\r\n\r\n", 1)
                key = [x for x in head.split(b"\r\n") if x.startswith(b"X-Key: ")][0][7:].decode()
                found.setdefault(key, []).append(hashlib.sha256(text).hexdigest())
                octets += len(r[1])
                count += 1
            sizes[user] = (count, octets)
            m.logout()
        return found, sizes


if __name__ == "__main__":
    unittest.main()
