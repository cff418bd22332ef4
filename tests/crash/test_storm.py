"""Quotas cannot drift: sessions of four users append, copy, move, replace, expunge, rename and delete in their own mailboxes, in each other's and in
public folders, with limits of accounts, trees and folders, while an operator moves accounts between slots, exports and imports, backs up and
restores, and brings deleted mail back; then kill -9, at random moments. After each start `quota verify` finds no drift, `store check` finds nothing, and
what was answered OK to one who only appends is there. `make soak-storm` does it for minutes; MAILTIER_SECONDS and MAILTIER_SEED say how long and what."""
import os
import random
import re
import shutil
import smtplib
import subprocess
import sys
import tempfile
import threading
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "flow"))
import mt  # noqa: E402
from imap_wire import Closed, Wire  # noqa: E402

SECONDS = int(os.environ.get("MAILTIER_SECONDS", "12"))
SEED = int(os.environ.get("MAILTIER_SEED", "1"))
USERS, SESSIONS, OPERATORS = 4, 6, 2
CONF = "slots = 2\nretention = 1d\nquota-warning {\n\tthresholds = {50%}\n\tinterval = 1h\n}\n"
GONE = (OSError, Closed, EOFError)


def user(n):
    return f"user{n:04}@example.test"


def literal(mail):
    return b"{%d+}\r\n%s" % (len(mail), mail)


class Storm(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        fd, cls.extra = tempfile.mkstemp(suffix=".conf")
        with os.fdopen(fd, "w") as f:
            f.write(CONF)
        cls.cluster = mt.Cluster("--proxies", 0, "--backends", 1, "--users", 6, "--password", "pw", "--restart", "--backend-conf", cls.extra)

    @classmethod
    def tearDownClass(cls):
        cls.cluster.stop()
        os.unlink(cls.extra)

    def login(self, n):
        wire = Wire(self.cluster.at("b1", "imap"), timeout=60)
        answer = wire.ask(b"LOGIN %s pw" % user(n).encode())[1]
        if not answer.startswith(b"OK"):
            wire.close()
            raise ConnectionError(answer)
        return wire

    def ctl(self, *words, **kw):
        """(exit status, output); it may end with the back-end."""
        done = subprocess.run([os.path.join(mt.bin_dir(), "mailtierctl"), "-s", self.cluster.at("b1", "ctl"), *words], capture_output=True,
                              timeout=120, check=False, **kw)
        if done.returncode == 70:
            self.wrong.append((words, done.stdout[-300:] + done.stderr[-300:]))
        return done.returncode, done.stdout

    def prepare(self):
        self.ctl("public", "add", "example.test", "News")
        self.ctl("acl", "set", "@example.test", "News", "anyone", "lrswitekx")
        self.ctl("quota", "set", "#public@example.test/News", "--size", "3M", "--count", "500")
        for n in range(1, USERS + 1):
            wire = self.login(n)
            for box in (b"a", b"b", b"a/x", b"Team/one"):
                wire.ask(b"CREATE " + box)
            for other in range(1, USERS + 1):
                wire.ask(b"SETACL a %s lrswitekx" % user(other).encode())
            wire.close()
            self.ctl("quota", "set", user(n) + "/Team", "--size", "200K", "--count", "60")
            self.ctl("quota", "set", user(n) + "/b", "--folder-count", "100")
            self.ctl("account", "set", user(n), "--quota", "4M")
        wire = self.login(6)
        wire.ask(b"CREATE ledger")
        wire.close()

    # ---- the players: each until told to end, and again whenever the back-end comes back ----

    def command(self, dice, wire):
        box = dice.choice([b"INBOX", b"a", b"b", b"a/x", b"Team", b"Team/one", b"Public/News", b"user/%s/a" % user(dice.randint(1, USERS)).encode()])
        mail = literal(b"Subject: %d\r\n\r\n%s\r\n" % (dice.randrange(10**9), b"x" * dice.choice([5, 100, 3000, 20000])))
        name = dice.choice([b"a/x", b"b", b"Team/one"])
        what = dice.choice([
            (b"APPEND %s %s" % (box, b" ".join([mail] * dice.choice([1, 1, 3, 20]))),),
            (b"APPEND %s %s" % (box, mail),),
            (b'APPEND %s CATENATE (URL "/INBOX/;UID=%d" TEXT %s)' % (box, dice.randint(1, 50), mail),),
            (b"SELECT INBOX", b"MOVE 1:%d %s" % (dice.randint(1, 30), box)),
            (b"SELECT " + box, b"MOVE 1:%d INBOX" % dice.randint(1, 30)),
            (b"SELECT " + box, b"COPY 1:%d %s" % (dice.randint(1, 20), dice.choice([b"INBOX", b"Team", b"Public/News"]))),
            (b"SELECT " + box, b"STORE 1:%d +FLAGS (\\Deleted \\Seen k%d)" % (dice.randint(1, 40), dice.randrange(9)), b"EXPUNGE"),
            (b"SELECT " + box, b"REPLACE 1 %s %s" % (dice.choice([box, b"INBOX"]), mail)),
            (b"SELECT " + box, b"FETCH 1:10 (FLAGS BODY[])"),
            (b"RENAME %s %sz" % (name, name), b"RENAME %sz %s" % (name, name)),
            (b"DELETE " + name, b"CREATE " + name),
        ])
        for words in what:
            answer = wire.ask(words)[1]
            if re.search(rb"SERVERBUG|CORRUPTION", answer):
                self.wrong.append((words[:100], answer))

    def deliver(self, dice):
        try:
            with smtplib.LMTP(*self.cluster.at("b1", "lmtp"), timeout=30) as lmtp:
                lmtp.sendmail("s@example.org", [user(dice.randint(1, USERS)) for _ in range(2)], b"Subject: x\r\n\r\n" + b"text\r\n" * dice.randrange(2000))
        except smtplib.SMTPException:
            pass

    def session(self, dice, number):
        wire = self.login(1 + number % USERS)
        for _ in range(dice.randint(5, 60)):
            if self.over.is_set():
                break
            if dice.random() < 0.1:
                self.deliver(dice)
            self.command(dice, wire)
        wire.close()

    def ledger(self, dice, _):
        wire = self.login(6)
        while not self.over.is_set():
            names = [b"%d.%d" % (len(self.kept), i) for i in range(dice.choice([1, 1, 5]))]
            answer = wire.ask(b"APPEND ledger " + b" ".join(literal(b"Subject: %s.\r\n\r\nx\r\n" % n) for n in names))[1]
            if answer.startswith(b"OK"):
                self.kept.extend(names)

    def operator(self, dice, number):
        who, folder = user(dice.randint(1, USERS)), os.path.join(self.dir, f"backup{number}")
        kind = dice.choice(["undelete", "move", "stream", "backup", "restore", "set", "rename", "import"])
        if kind == "undelete":
            self.ctl("account", "undelete", who, "--since", "2m")
        elif kind == "move":
            self.ctl("account", "move", who, "--slot", dice.choice("01"))
        elif kind == "stream":
            status, stream = self.ctl("store", "export", who)
            if status == 0:
                self.ctl("store", "import", "--as", f"copy{number}@example.test", "--replace", input=stream)
        elif kind == "backup":
            self.ctl("store", "backup", folder)
        elif kind == "restore" and os.path.isdir(folder):
            self.ctl("store", "restore", folder, "--account", who, "--mailbox", dice.choice(["INBOX", "a", "Team"]))
        elif kind == "set":
            self.ctl("account", "set", who, "--quota", dice.choice(["3M", "4M", "5M"]))
        elif kind == "rename":
            for words in ((user(5), "other@example.test"), ("other@example.test", user(5))):
                self.ctl("account", "rename", *words)
        elif kind == "import":
            rows = "".join(f"made{number}.{dice.randrange(500)}@example.test,1M\n" for _ in range(30))
            self.ctl("account", "import", "--continue-on-error", "-", input=b"address,quota\n" + rows.encode())

    def play(self, part, number):
        dice = random.Random(f"{SEED} {part.__name__} {number}")
        while not self.over.is_set():
            self.up.wait()
            try:
                part(dice, number)
            except GONE:
                time.sleep(0.02)
            except Exception as e:  # shown by the test, whose thread this is not
                self.wrong.append((part.__name__, repr(e)))
                return

    # ---- the test ----

    def is_up(self):
        try:
            Wire(self.cluster.at("b1", "imap"), timeout=10).close()
            return True
        except GONE:
            return False

    def verify(self):
        self.assertEqual(self.cluster.ctl_json("b1", "quota", "verify")["drift"], 0)
        self.assertEqual(self.cluster.ctl_json("b1", "store", "check")["errors"], 0)
        self.assertEqual(self.wrong, [])

    def test_nothing_drifts(self):
        self.wrong, self.kept = [], []
        self.over, self.up = threading.Event(), threading.Event()
        self.dir = tempfile.mkdtemp(prefix="mt-storm-")
        self.addCleanup(shutil.rmtree, self.dir, True)
        self.prepare()
        self.up.set()
        parts = [(self.session, i) for i in range(SESSIONS)] + [(self.operator, i) for i in range(OPERATORS)] + [(self.ledger, 0)]
        players = [threading.Thread(target=self.play, args=part, daemon=True) for part in parts]
        for player in players:
            player.start()
        dice, end, kills = random.Random(SEED), time.monotonic() + SECONDS, 0
        try:
            while time.monotonic() < end:
                time.sleep(dice.uniform(0.3, 3))
                if dice.random() < 0.25:
                    self.verify()  # beside all that goes on
                old = self.cluster.pid("b1")
                self.up.clear()
                self.cluster.kill("b1")
                self.cluster.wait_restarted("b1", old, 60)
                mt.wait_for(self.is_up, 60, "the back-end is back")
                kills += 1
                self.verify()
                self.up.set()
        finally:
            self.over.set()
            self.up.set()
        for player in players:
            player.join(120)
        self.assertFalse([p for p in players if p.is_alive()], "a session or verb hangs")
        self.verify()
        wire = self.login(6)
        wire.ask(b"EXAMINE ledger")
        text = b"".join(wire.ask(b"FETCH 1:* BODY.PEEK[HEADER.FIELDS (SUBJECT)]")[0])
        wire.close()
        self.assertEqual(set(self.kept) - set(re.findall(rb"(?m)^Subject: (\S+)\.\r$", text)), set(), "answered OK and lost")
        print(f"{kills} kills, {len(self.kept)} messages kept", file=sys.stderr)


if __name__ == "__main__":
    unittest.main()
