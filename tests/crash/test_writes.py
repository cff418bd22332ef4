"""Every kind of write, one row each: the back-end is killed before and after the commit, and meets a full disk. Afterwards the account is
whole as it was, or whole as it is wanted, and nothing between; what was answered OK is done; the store checks out. What is wanted is what the same
command makes of another account undisturbed. Needs the faults variant (make VARIANT=faults all)."""
import hashlib
import os
import poplib
import re
import smtplib
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "flow"))
import mt  # noqa: E402
from imap_wire import Closed, Wire, fetch_items  # noqa: E402

PASSWORD = "pw"
MAILS = [b"From: s@example.org\r\nSubject: %d\r\n\r\n%s" % (i, b"text %d\r\n" % i * (1 + 500 * (i % 3))) for i in range(8)]


def literal(mail):
    return b"{%d+}\r\n%s" % (len(mail), mail)


def deliver(case, user):
    with smtplib.LMTP(*case.cluster.at("b1", "lmtp")) as s:
        try:
            s.sendmail("s@example.org", [user], MAILS[7])
        except smtplib.SMTPResponseException as e:
            return e.smtp_code // 100 == 2
        except smtplib.SMTPRecipientsRefused:
            return False
    return True


def pop3_delete(case, user):
    p = poplib.POP3(*case.cluster.at("b1", "pop3"), timeout=60)
    try:
        p.user(user)
        p.pass_(PASSWORD)
        p.dele(1)
        p.dele(3)
        p.quit()
        return True
    except poplib.error_proto:
        return False
    finally:
        p.close()


def ctl(*words):
    def run(case, user):
        return case.cluster.ctl("b1", *(w.replace("USER", user) for w in words), code=None)[0] == 0
    return run


def move_to_another(case, user):
    """export | import under another name, which the state of the account shows as one more."""
    done = subprocess.run([os.path.join(mt.bin_dir("faults" if case.FAULTS else None), "mailtierctl"), "-s", case.cluster.at("b1", "ctl"), "store",
                           "import", "--as", "new-" + user], input=case.exports[user], capture_output=True, timeout=60, check=False)
    return done.returncode == 0


# (name, commands that prepare, the write: an IMAP command or a function that says whether it was done)
ROWS = [
    ("append", [], b"APPEND work (\\Seen $new) " + literal(MAILS[6])),
    ("append several", [], b"APPEND work " + b" ".join(literal(m) for m in MAILS)),
    ("append catenate", [], b"APPEND work CATENATE (TEXT " + literal(b"Subject: x\r\n\r\n") + b' URL "/INBOX;UIDVALIDITY=VALIDITY/;UID=2")'),
    ("replace", [b"SELECT INBOX"], b"REPLACE 2 INBOX " + literal(MAILS[6])),
    ("copy", [b"SELECT INBOX"], b"COPY 1:3 work"),
    ("move", [b"SELECT INBOX"], b"MOVE 1:3 work"),
    ("move to others", [b"SELECT INBOX"], b"MOVE 1:3 Public/In"),
    ("flags", [b"SELECT INBOX"], b"STORE 1:4 +FLAGS.SILENT (\\Flagged \\Seen)"),
    ("new keyword", [b"SELECT INBOX"], b"STORE 1:2 FLAGS ($brand-new)"),
    ("fetch that sees", [b"SELECT INBOX"], b"FETCH 1:2 BODY[]"),
    ("expunge", [b"SELECT INBOX", b"STORE 2:3 +FLAGS (\\Deleted)"], b"EXPUNGE"),
    ("uid expunge", [b"SELECT INBOX", b"STORE 2:3 +FLAGS (\\Deleted)"], b"UID EXPUNGE 3"),
    ("close", [b"SELECT INBOX", b"STORE 2:3 +FLAGS (\\Deleted)"], b"CLOSE"),
    ("create", [], b"CREATE new/below"),
    ("create special", [], b"CREATE chosen (USE (\\Flagged))"),
    ("delete", [], b"DELETE work"),
    ("delete with children", [b"CREATE work/below"], b"DELETE work"),
    ("rename", [b"CREATE work/below"], b"RENAME work moved/work"),
    ("rename INBOX", [], b"RENAME INBOX old"),
    ("subscribe", [], b"SUBSCRIBE work"),
    ("unsubscribe", [b"SUBSCRIBE work"], b"UNSUBSCRIBE work"),
    ("set acl", [], b"SETACL work user0001@example.test lrs"),
    ("delete acl", [b"SETACL work user0001@example.test lrs"], b"DELETEACL work user0001@example.test"),
    ("metadata", [], b'SETMETADATA work (/private/comment "mine" /shared/comment "ours")'),
    ("metadata of the account", [], b'SETMETADATA "" (/private/comment "mine")'),
    ("delivery", [], deliver),
    ("pop3", [], pop3_delete),
    ("account set", [], ctl("account", "set", "USER", "--quota", "7M")),
    ("alias", [], ctl("account", "rename", "USER", "renamed-USER", "--keep-alias")),
    ("account remove", [], ctl("account", "remove", "USER")),
    ("import", [], move_to_another),
]
ROWS = [row for row in ROWS if os.environ.get("MAILTIER_ROW", row[0]) == row[0]]


class Writes(unittest.TestCase):
    FAULTS = True

    def user(self, n):
        return f"user{n:04}@example.test"

    def login(self, user):
        """None: refused for good; waits for a program that is starting."""
        def attempt():
            try:
                wire = Wire(self.cluster.at("b1", "imap"), timeout=60)
                answer = wire.ask(b"LOGIN %s %s" % (user.encode(), PASSWORD.encode()))[1]
                if answer.startswith(b"NO [UNAVAILABLE"):
                    wire.close()
                    return None
                return wire, answer
            except (OSError, Closed):
                return None
        wire, answer = mt.wait_for(attempt, 60, "the back-end answers a login")
        self.addCleanup(wire.close)
        return wire if answer.startswith(b"OK") else None

    def prepare(self, user):
        wire = self.login(user)
        for box, mails in ((b"INBOX", MAILS[:5]), (b"work", MAILS[3:5])):
            if box == b"work":
                self.assertRegex(wire.ask(b"CREATE work")[1], rb"\AOK")
            for mail in mails:
                self.assertRegex(wire.ask(b"APPEND %s %s" % (box, literal(mail)))[1], rb"\AOK")
        wire.close()
        done = subprocess.run([os.path.join(mt.bin_dir("faults" if self.FAULTS else None), "mailtierctl"), "-s", self.cluster.at("b1", "ctl"), "store",
                               "export", user], capture_output=True, timeout=60, check=False)
        self.exports[user] = done.stdout

    def state(self, user, account=None):
        """All that a client can see of an account; with it that of another which the write may have made."""
        wire = self.login(account or user)
        if not wire:
            return "no such account"
        out = {}
        for line in wire.ask(b'LIST "" "*"')[0]:
            attributes, name = re.fullmatch(rb'\* LIST \(([^)]*)\) "/" "?([^"\r]*)"?\r\n', line).groups()
            if name.startswith(b"Public"):  # everybody's
                continue
            box = out[name] = {"list": attributes}
            if b"\\Noselect" in attributes:
                continue
            text = b"".join(wire.ask(b'EXAMINE "%s"' % name)[0])
            box["numbers"] = [int(x) for x in re.search(rb"UIDVALIDITY (\d+).*UIDNEXT (\d+)", text, re.S).groups()]
            items = [fetch_items(u)[1] for u in wire.ask(b"UID FETCH 1:* (FLAGS BODY.PEEK[])")[0] if b" FETCH (" in u[:30]]
            box["messages"] = [(int(i[b"UID"]), tuple(sorted(f for f in i[b"FLAGS"] if f != b"\\Recent")),
                                hashlib.sha256(i[b"BODY[]"][i[b"BODY[]"].find(b"Subject:"):]).hexdigest()) for i in items]
            for command in (b'GETACL "%s"', b'GETMETADATA (DEPTH infinity) "%s" ("/private" "/shared")'):
                box[command] = sorted(wire.ask(command % name)[0])
        wire.ask(b"UNSELECT")
        out["subscribed"] = sorted(wire.ask(b'LSUB "" "*"')[0])
        out["account"] = [wire.ask(b'GETMETADATA (DEPTH infinity) "" ("/private" "/shared")')[0], wire.ask(b"GETQUOTAROOT INBOX")[0]]
        wire.close()
        if not account:
            for other in ("new-" + user, "renamed-" + user):
                if other in self.cluster.ctl("b1", "account", "list"):
                    out[other] = self.state(user, other)
        return out

    def normal(self, state, user):
        """The same for another account: names and UIDVALIDITY are its own."""
        text = re.sub(r"'numbers': \[\d+, ", "'numbers': [", repr(state))
        return text.replace(user, "USER")

    def write(self, row, user):
        """Prepares and writes; whether it was answered with OK."""
        _, before, command = row
        if callable(command):
            try:
                return command(self, user)
            except (OSError, EOFError, smtplib.SMTPException, poplib.error_proto, subprocess.TimeoutExpired):
                return False
        try:
            return self.wires[user].ask(command)[1].startswith(b"OK")
        except (Closed, OSError):
            return False

    def ready(self, row, user):
        """Up to the write; the state before it."""
        if not callable(row[2]):
            self.wires[user] = wire = self.login(user)
            validity = re.search(rb"UIDVALIDITY (\d+)", b"".join(wire.ask(b"STATUS INBOX (UIDVALIDITY)")[0]))[1]
            row = (row[0], row[1], row[2].replace(b"VALIDITY/", validity + b"/"))
            for command in row[1]:
                self.assertRegex(wire.ask(command)[1], rb"\AOK", command)
        return row, self.state(user)

    def wanted(self, row, user):
        row, before = self.ready(row, user)
        self.assertTrue(self.write(row, user), f"{row[0]}: it is not done even undisturbed")
        state = self.state(user)
        self.assertNotEqual(state, before, f"{row[0]}: it changes nothing")
        return self.normal(state, user)

    def start(self, *flags, **kw):
        self.wires, self.exports = {}, {}
        self.cluster = mt.Cluster("--proxies", 0, "--backends", 1, "--users", 3 * len(ROWS) + 1, "--password", PASSWORD, *flags, **kw)
        self.addCleanup(self.cluster.stop)
        self.cluster.ctl("b1", "public", "add", "example.test", "In", "--rights", "lrswite")

    def count(self, user):
        """Messages in INBOX, and in what is everybody's."""
        wire = self.login(user)
        text = b"".join(wire.ask(b"STATUS %s (MESSAGES)" % box)[0][0] for box in (b"INBOX", b"Public/In"))
        wire.close()
        return sum(int(n) for n in re.findall(rb"MESSAGES (\d+)", text))


class Killed(Writes):
    def arm(self, words):
        path = os.path.join(self.faults, "b1")
        with open(path + ".new", "w") as f:
            f.write(words + "\n")
        os.rename(path + ".new", path)

    def kill_amid(self, row, user, words):
        """Whether it was answered with OK before it died."""
        old = self.cluster.pid("b1")
        self.arm(words)
        answered = self.write(row, user)
        mt.wait_for(lambda: self.cluster.pid("b1") != old or not self.cluster.is_alive("b1"), 30, f"{row[0]}: the back-end has died")
        os.unlink(os.path.join(self.faults, "b1"))
        self.cluster.wait_restarted("b1", old, 60)
        return answered

    def test_killed_before_and_after_the_commit(self):
        if not os.path.exists(os.path.join(mt.bin_dir("faults"), "mailtier-backend")):
            self.skipTest("make VARIANT=faults all")
        self.faults = tempfile.mkdtemp(prefix="mt-faults-")
        os.chmod(self.faults, 0o755)
        self.start("--restart", variant="faults", env={"MAILTIER_FAULT_DIR": self.faults})
        for i, row in enumerate(ROWS):
            with self.subTest(row[0]):
                users = [self.user(2 + 3 * i + k) for k in range(3)]
                for user in users:
                    self.prepare(user)
                wanted = self.wanted(row, users[0])
                # Killed before the commit: as it was. After it: as it is wanted. A write in several commits may be anything that a client can see
                # whole: it is done again, and then as it is wanted.
                mine, before = self.ready(row, users[1])
                self.assertFalse(self.kill_amid(mine, users[1], "store-before-commit:kill"), "answered before the commit")
                self.assertEqual(self.state(users[1]), before)
                mine, _ = self.ready(row, users[2])
                count = self.count(users[2]) if row[0] == "move to others" else 0
                self.kill_amid(mine, users[2], "store-before-answer:kill")
                after = self.state(users[2])
                if count:  # two accounts, two commits: a message may be in both, never in neither
                    self.assertGreaterEqual(self.count(users[2]), count)
                if self.normal(after, users[2]) != wanted:
                    self.assertIn(row[0], SEVERAL, f"{self.normal(after, users[2])}\nwanted {wanted}")
                self.cluster.ctl("b1", "store", "check")


# Writes of several commits: after the first of them the rest may be missing.
SEVERAL = ("move to others", "close", "fetch that sees", "pop3", "alias", "import", "account remove")


class Full(Writes):
    """The data file takes no more. The program's own answers are not asked for while it is so, but for the write's."""
    FAULTS = False

    def test_the_disk_is_full(self):
        library = os.path.join(mt.bin_dir(), "..", "tests", "crash", "nospace.so")
        if not os.path.exists(library):
            self.skipTest("make store-tools")
        folder = tempfile.mkdtemp(prefix="mt-nospace-")
        self.addCleanup(os.rmdir, folder)
        os.chmod(folder, 0o755)
        flag = os.path.join(folder, "full")
        self.start(env={"LD_PRELOAD": os.path.abspath(library), "MAILTIER_NOSPACE": flag})
        for i, row in enumerate(ROWS):
            with self.subTest(row[0]):
                users = [self.user(2 + 3 * i + k) for k in range(2)]
                for user in users:
                    self.prepare(user)
                wanted = self.wanted(row, users[0])
                mine, before = self.ready(row, users[1])
                with open(flag, "w"):
                    pass
                try:
                    done = self.write(mine, users[1])
                finally:
                    os.unlink(flag)
                if row[0] != "fetch that sees":  # the texts are there, whatever becomes of \\Seen
                    self.assertFalse(done, "answered with OK, and nothing can have been written")
                self.assertEqual(self.state(users[1]), before)
                if not callable(row[2]):
                    self.assertFalse(self.wires[users[1]].ask(b"NOOP")[1].startswith(b"BAD"))
                self.assertTrue(self.write(mine, users[1]), "there is room again")
                self.assertEqual(self.normal(self.state(users[1]), users[1]), wanted)
                self.cluster.ctl("b1", "store", "check")


if __name__ == "__main__":
    unittest.main()
