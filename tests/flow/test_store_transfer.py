"""Accounts that go from one back-end to another, as streams through pipes, and clients that hold a cache of them meanwhile."""
import glob
import imaplib
import json
import os
import re
import shutil
import smtplib
import ssl
import subprocess
import tempfile
import threading
import time

import mt
from sync_clients import Mbsync, Qresync

USER = "user0001@example.test"
MESSAGES = 40


def message(i, box="INBOX", size=200):
    return (f"From: sender@example.org\r\nTo: {USER}\r\nSubject: message {i}\r\nMessage-ID: <{i}.{box.replace('/', '.')}@example.org>\r\n"
            f"Date: Fri, 20 Nov 2026 12:00:{i % 60:02} +0000\r\n\r\nThis is number {i}.\r\n" + ("x" * 70 + "\r\n") * (size // 72))


class TransferCase(mt.ClusterCase):
    FLAGS = ["--proxies", 0, "--backends", 2, "--users", 2, "--password", "secret"]

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.tls = ssl.create_default_context(cafile=cls.cluster.ca)
        cls.tls.check_hostname = False
        cls.tls.verify_mode = ssl.CERT_NONE
        for b in ("b1", "b2"):
            if cls.cluster.ctl(b, "account", "show", USER, code=None)[0] == 0:
                cls.home = b
                cls.other = "b2" if b == "b1" else "b1"
        cls.cluster.ctl(cls.home, "account", "set", USER, "--hash", "{PLAIN}secret")

    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="mt-transfer-")
        self.addCleanup(shutil.rmtree, self.dir, True)

    def imap(self, backend, user=USER):
        m = imaplib.IMAP4_SSL(*self.cluster.at(backend, "imaps"), ssl_context=self.tls)
        m.login(user, "secret")
        return m

    def command(self, backend, *words):
        return [os.path.join(mt.bin_dir(), "mailtierctl"), "-s", self.cluster.places[backend, "ctl"], *words]

    def certificate(self):
        """All certificates of the cluster: mbsync compares with the very one that a back-end shows."""
        path = os.path.join(self.dir, "certificates")
        with open(path, "w") as out:
            for name in sorted(glob.glob(os.path.join(os.path.dirname(self.cluster.ca), "*.pem"))):
                with open(name) as f:
                    out.write(f.read())
        return path

    def deleted(self, backend, user):
        """What could be undeleted; within one second in any order."""
        rows = self.cluster.ctl_json(backend, "account", "deleted", user).get("rows", [])
        return sorted((r["mailbox"], r["mailbox_gone"], r["uid"], r["bytes"], r["deleted"]) for r in rows)

    def check(self, backend):
        self.assertEqual(self.cluster.ctl_json(backend, "store", "check")["errors"], 0)

    def fill(self, m):
        m.create("Lists")
        m.create("Lists/C")
        m.subscribe("Lists/C")
        for i in range(MESSAGES):
            m.append("INBOX", "(\\Seen $Label1)" if i % 3 == 0 else "", None, message(i).encode())
        for i in range(10):
            m.append("Lists/C", "\\Flagged", None, message(i, "Lists/C", 300_000 if i == 3 else 200).encode())
        m.select("INBOX")
        m.copy("2:4", "Archive")
        m.store("7,9", "+FLAGS", "\\Deleted")
        m.expunge()


class Transfer(TransferCase):
    def test_1_moves_to_another_back_end_under_clients_with_caches(self):
        m = self.imap(self.home)
        self.fill(m)
        here, there = self.cluster.at(self.home, "imaps"), self.cluster.at(self.other, "imaps")
        q = Qresync(USER, "secret", self.tls)
        q.sync(here)
        mbsync = Mbsync(self.dir, USER, "secret", self.certificate()) if Mbsync.is_there() else None
        if mbsync:
            mbsync.sync(here)
        # what both do not know yet when the account goes
        m.select("INBOX")
        m.store("1:5", "+FLAGS", "\\Answered")
        m.store("20,21", "+FLAGS", "\\Deleted")
        m.expunge()
        m.append("INBOX", "", None, message(1000).encode())
        before = m.status("INBOX", "(MESSAGES UIDNEXT UIDVALIDITY HIGHESTMODSEQ MAILBOXID)")[1]
        ids = m.fetch("1:*", "(UID EMAILID THREADID SAVEDATE INTERNALDATE MODSEQ)")[1]
        out = subprocess.Popen(self.command(self.home, "store", "export", USER), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        into = subprocess.run(self.command(self.other, "store", "import"), stdin=out.stdout, capture_output=True, timeout=60)
        out.stdout.close()
        self.assertEqual((out.wait(timeout=60), into.returncode), (0, 0), (out.stderr.read(), into.stderr))
        out.stderr.close()
        self.check(self.other)
        n = self.imap(self.other)
        n.select("INBOX")
        self.assertEqual(n.status("INBOX", "(MESSAGES UIDNEXT UIDVALIDITY HIGHESTMODSEQ MAILBOXID)")[1], before)
        self.assertEqual(n.fetch("1:*", "(UID EMAILID THREADID SAVEDATE INTERNALDATE MODSEQ)")[1], ids)
        self.assertEqual(n.list()[1], m.list()[1])
        self.assertEqual(n.lsub()[1], m.lsub()[1])
        old = {name: box[0] for name, box in q.boxes.items()}
        q.sync(there)
        self.assertEqual({name: box[0] for name, box in q.boxes.items()}, old)
        self.assertEqual(q.fetched, 1)
        if mbsync:
            content = mbsync.sync(there)[0]
            ids = [x[1] for x in content if x[0] == "INBOX"]
            self.assertEqual(len(ids), MESSAGES - 4 + 1)
            self.assertEqual(len(ids), len(set(ids)))
            self.assertEqual(mbsync.sync(there)[0], content)
        # UIDs go on where they were
        n.append("INBOX", "", None, message(1001).encode())
        q.sync(there)
        self.assertEqual(q.fetched, 1)
        m.logout()
        n.logout()

    def test_2_refuses_what_is_there_and_what_is_cut(self):
        path = os.path.join(self.dir, "a")
        user = "user0002@example.test"
        home = self.home if self.cluster.ctl(self.home, "account", "show", user, code=None)[0] == 0 else self.other
        self.cluster.ctl(home, "account", "set", user, "--hash", "{PLAIN}secret")
        m = self.imap(home, user)
        m.append("INBOX", "", None, message(1).encode())
        m.logout()
        self.cluster.ctl(home, "store", "export", user, path)
        self.assertEqual(os.stat(path).st_mode & 0o777, 0o600)
        code, words = self.cluster.ctl(home, "store", "export", user, path, code=None)
        self.assertEqual(code, 1)
        self.assertIn("File exists", words)
        code, words = self.cluster.ctl(home, "store", "import", path, code=None)
        self.assertEqual(code, 1)
        self.assertIn("exists already", words)
        with open(path, "rb") as f:
            whole = f.read()
        for name, data, words in (("cut", whole[:-10], "was cut"), ("bit", whole[:300] + bytes([whole[300] ^ 1]) + whole[301:], "is damaged"),
                                  ("not", b"From here\n" * 10, "is no account's"), ("empty", b"", "is no account's")):
            with open(os.path.join(self.dir, name), "wb") as f:
                f.write(data)
            code, said = self.cluster.ctl(home, "store", "import", os.path.join(self.dir, name), "--as", "new@example.test", code=None)
            self.assertIn(code, (1, 64))
            self.assertIn(words, said)
        self.assertEqual(self.cluster.ctl(home, "account", "show", "new@example.test", code=None)[0], 1)
        self.cluster.ctl(home, "store", "import", path, "--replace")
        self.cluster.ctl(home, "store", "import", path, "--as", "new@example.test", "--slot", 1)
        self.check(home)

    def test_3_a_slow_or_gone_reader_harms_nobody(self):
        out = subprocess.Popen(self.command(self.home, "store", "export", USER), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.addCleanup(out.stderr.close)
        started = time.monotonic()
        m = self.imap(self.home)
        m.append("INBOX", "", None, message(2000).encode())
        m.logout()
        self.assertLess(time.monotonic() - started, 10)
        out.stdout.close()
        self.assertNotEqual(out.wait(timeout=30), 0)
        self.check(self.home)

    def deliver(self, backend, i):
        """Until it is taken, as a sender does; how often it was put off."""
        for tries in range(500):
            try:
                with smtplib.LMTP(*self.cluster.at(backend, "lmtp")) as lmtp:
                    lmtp.sendmail("s@elsewhere.test", [USER], message(i))
                return tries
            except (smtplib.SMTPRecipientsRefused, smtplib.SMTPDataError) as e:
                code = e.smtp_code if isinstance(e, smtplib.SMTPDataError) else next(iter(e.recipients.values()))[0]
                self.assertEqual(code // 100, 4, e)
                time.sleep(0.01)
        raise AssertionError("never taken")

    def test_4_moves_between_slots_while_mail_comes(self):
        shown = self.cluster.ctl_json(self.home, "account", "show", USER)
        where = self.cluster.at(self.home, "imaps")
        m = self.imap(self.home)
        m.select("INBOX")
        before = m.status("INBOX", "(UIDVALIDITY MAILBOXID)")[1]
        q = Qresync(USER, "secret", self.tls)
        q.sync(where)
        have = len(q.boxes["INBOX"][2])
        slot = shown["slot"]
        for round_ in range(4):
            mover = subprocess.Popen(self.command(self.home, "account", "move", USER, "--slot", str(1 - slot)),
                                     stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            for i in range(10):
                self.deliver(self.home, 3000 + round_ * 10 + i)
            out = mover.communicate(timeout=60)[0]
            self.assertEqual(mover.returncode, 0, out)
            slot = 1 - slot
            self.assertEqual(self.cluster.ctl_json(self.home, "account", "show", USER)["slot"], slot)
            q.sync(where)
            self.assertEqual(len(q.boxes["INBOX"][2]), have + 10 * (round_ + 1))
        with self.assertRaises(imaplib.IMAP4.abort):  # its session was of the old one
            for _ in range(10):
                m.noop()
                time.sleep(0.1)
        n = self.imap(self.home)
        self.assertEqual(n.status("INBOX", "(UIDVALIDITY MAILBOXID)")[1], before)
        n.select("INBOX")
        subjects = [x[1].strip() for x in n.fetch("1:*", "(BODY.PEEK[HEADER.FIELDS (SUBJECT)])")[1] if isinstance(x, tuple)]
        for i in range(3000, 3040):
            self.assertEqual(subjects.count(f"Subject: message {i}".encode()), 1)
        n.logout()
        self.check(self.home)

    def test_45_what_is_shared_goes_along_both_ways(self):
        """Between slots, and by an import in the place of the account: rights, \\Seen and annotations of guests here, and its own in
        others' mailboxes; nothing of the old number is left."""
        b, guest = self.home, "guest@example.test"
        self.cluster.ctl(b, "account", "add", guest, "--hash", "{PLAIN}secret")
        self.addCleanup(self.cluster.ctl, b, "account", "remove", guest, code=None)
        m, g = self.imap(b), self.imap(b, guest)
        m.create("Shared")
        g.create("Theirs")
        for i in range(6):
            m.append("Shared", "", None, message(5000 + i).encode())
            g.append("Theirs", "", None, message(5100 + i).encode())
        m.setacl("Shared", guest, "lrsw")
        g.setacl("Theirs", USER, "lrswi")
        for who, box in ((g, f"user/{USER}/Shared"), (m, f"user/{guest}/Theirs")):
            who.select(box)
            who.store("2:3", "+FLAGS", "\\Seen")
            self.assertEqual(who.xatom("SETMETADATA", box, '(/private/comment "mine")')[0], "OK")
            who.unselect()

        def look():
            out = []
            for user, box in ((guest, f"user/{USER}/Shared"), (USER, f"user/{guest}/Theirs")):
                s = self.imap(b, user)
                out.append((s.status(box, "(MESSAGES UNSEEN)")[1], s.myrights(box)[1]))
                s.xatom("GETMETADATA", box, "/private/comment")
                out.append(s.untagged_responses.get("METADATA"))
                s.logout()
            return out

        before = look()
        self.assertIn(b"UNSEEN 4", before[0][0][0])
        self.assertIn(b"mine", b"".join(x if isinstance(x, bytes) else x[1] for x in before[3]))
        m.logout()
        g.logout()
        path = os.path.join(self.dir, "stream")
        for step in ("move", "move", "replace"):
            slot = self.cluster.ctl_json(b, "account", "show", USER)["slot"]
            if step == "move":
                self.cluster.ctl(b, "account", "move", USER, "--slot", str(1 - slot))
            else:
                self.cluster.ctl(b, "store", "export", USER, path)
                self.cluster.ctl(b, "store", "import", path, "--replace", "--slot", str(slot))
            self.assertEqual(look(), before, step)
            mt.wait_for(lambda: self.cluster.ctl_json(b, "store", "stat")["intents"] == 0, 20, "nothing of the old one is left")
            self.check(b)
            self.assertEqual(self.cluster.ctl_json(b, "quota", "verify")["drift"], 0)
        g = self.imap(b, guest)
        self.assertEqual(len(g.getacl("Theirs")[1][0].split(b"user0001")), 2)  # once
        g.logout()

    def test_47_deleted_mail_comes_along_and_comes_back(self):
        """To another slot, through a stream, to the other back-end: the same list each time, and undelete gives what it would have given."""
        b, user, copy = self.home, "deleter@example.test", "copy@example.test"
        self.cluster.ctl(b, "account", "add", user, "--hash", "{PLAIN}secret")
        m = self.imap(b, user)
        for i in range(8):
            m.append("INBOX", "", '"01-Nov-2026 10:00:00 +0000"', message(6000 + i, size=300_000 if i == 4 else 200).encode())
        m.create("Work/Old")
        m.select("INBOX")
        m.copy("1:2", "Work/Old")
        m.copy("3", "Archive")  # whose bytes are kept and shown
        m.select("Work/Old")
        m.store("1", "+FLAGS", "$Note")
        m.unselect()
        m.delete("Work/Old")
        m.select("INBOX")
        m.store("3:5", "+FLAGS", "(\\Flagged \\Deleted $Mine)")
        exported = None

        def export(to, *words):
            out = subprocess.Popen(self.command(at, "store", "export", user), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
            into = subprocess.run(self.command(to, "--json", "store", "import", *words), stdin=out.stdout, capture_output=True, timeout=60)
            out.stdout.close()
            self.assertEqual((out.wait(timeout=60), into.returncode), (0, 0), into.stderr)
            return json.loads(into.stdout)

        m.expunge()
        at = b
        exported = export(b, "--as", copy)  # at once: what the reaper has not come to is kept, too
        self.assertEqual(exported["kept"], 5)
        m.logout()
        mt.wait_for(lambda: len(self.deleted(b, user)) == 5, 20, "five deleted messages")
        before, quota = self.deleted(b, user), self.cluster.ctl_json(b, "quota", user)
        self.assertEqual([r[:3] for r in before], [("INBOX", False, 3), ("INBOX", False, 4), ("INBOX", False, 5), ("Work/Old", True, 1), ("Work/Old", True, 2)])
        self.assertEqual(self.deleted(b, copy), before)
        self.check(b)
        slot = self.cluster.ctl_json(b, "account", "show", user)["slot"]
        moved = self.cluster.ctl_json(b, "account", "move", user, "--slot", str(1 - slot))
        self.assertEqual((moved["kept"], moved["kept_bytes"]), (5, sum(r[3] for r in before)))
        self.assertEqual(self.deleted(b, user), before)
        self.assertEqual(export(self.other)["kept"], 5)
        self.cluster.ctl(b, "account", "remove", user)
        at = self.other
        self.assertEqual(self.deleted(at, user), before)
        self.assertEqual(export(at, "--replace")["kept"], 5)
        self.assertEqual(self.deleted(at, user), before)
        for key in ("messages", "bytes"):
            self.assertEqual(self.cluster.ctl_json(at, "quota", user)[key], quota[key])

        def come_back(backend, name):
            back = self.cluster.ctl_json(backend, "account", "undelete", name)
            self.assertEqual((back["messages"], back["over_quota"], back["lost"]), (5, 0, 0))
            n = self.imap(backend, name)
            found = []
            for box in ("INBOX", "Recovered/Work/Old"):
                n.select(box)
                found += sorted(re.sub(rb"^\d+ \(UID \d+ ", b"", x[0]) + x[1] for x in
                                n.fetch("1:*", "(UID INTERNALDATE FLAGS BODY.PEEK[])")[1] if isinstance(x, tuple))
            n.select("INBOX")
            self.assertEqual(n.search(None, "FLAGGED KEYWORD $Mine UNDELETED")[1], [b"6 7 8"])
            n.select("Recovered/Work/Old")
            self.assertEqual(len(n.search(None, "KEYWORD $Note")[1][0].split()), 1)
            n.logout()
            self.assertEqual(self.deleted(backend, name), [])
            self.check(backend)
            self.assertEqual(self.cluster.ctl_json(backend, "quota", "verify")["drift"], 0)
            return found

        self.assertEqual(come_back(at, user), come_back(b, copy))
        for where, name in ((at, user), (b, copy)):
            self.cluster.ctl(where, "account", "remove", name)

    def test_5_hold_for_the_last_moments(self):
        self.cluster.ctl(self.home, "account", "hold", USER)
        with smtplib.LMTP(*self.cluster.at(self.home, "lmtp")) as lmtp:
            with self.assertRaises((smtplib.SMTPRecipientsRefused, smtplib.SMTPDataError)) as caught:
                lmtp.sendmail("s@elsewhere.test", [USER], message(4000))
        self.assertIn("4", str(caught.exception)[:60])
        m = self.imap(self.home)
        self.assertEqual(m.select("INBOX")[0], "OK")
        self.assertEqual(m.store("1", "+FLAGS", "\\Answered")[0], "NO")
        self.assertEqual(m.append("INBOX", "", None, message(4001).encode())[0], "NO")
        path = os.path.join(self.dir, "held")
        exported = self.cluster.ctl_json(self.home, "store", "export", USER, path)
        self.assertGreater(exported["messages"], 0)
        self.assertEqual(self.cluster.ctl("b1" if self.home == "b1" else "b2", "account", "hold", USER, code=None)[0], 1)
        self.cluster.ctl(self.home, "account", "release", USER)
        self.assertEqual(m.append("INBOX", "", None, message(4001).encode())[0], "OK")
        m.logout()

    def test_55_removed_under_its_hold(self):
        """As the move to another back-end ends: nothing of it is left, and the reaper goes on."""
        name = "held@example.test"
        self.cluster.ctl(self.home, "account", "add", name, "--hash", "{PLAIN}secret")
        m = self.imap(self.home, name)
        m.append("INBOX", "", None, message(4500).encode())
        m.logout()
        self.cluster.ctl(self.home, "account", "hold", name)
        self.cluster.ctl(self.home, "account", "remove", name)
        mt.wait_for(lambda: self.cluster.ctl_json(self.home, "store", "stat")["intents"] == 0, 20, "nothing of it is left")
        self.check(self.home)

    def test_6_mail_that_comes_while_the_account_moves_to_another_back_end(self):
        """As operations.md says it: hold, export into import, the map's change, remove. Senders go on all the time, as proxies would lead them."""
        home, taken, at = self.home, [], [self.home]
        m = self.imap(home)
        before = int(m.select("INBOX")[1][0])
        m.logout()
        stop = threading.Event()

        def send():
            i = 5000
            while not stop.is_set():
                try:
                    with smtplib.LMTP(*self.cluster.at(at[0], "lmtp")) as lmtp:
                        lmtp.sendmail("s@elsewhere.test", [USER], message(i))
                    taken.append(i)
                    i += 1
                except (smtplib.SMTPRecipientsRefused, smtplib.SMTPDataError) as e:
                    code = e.smtp_code if isinstance(e, smtplib.SMTPDataError) else next(iter(e.recipients.values()))[0]
                    if code // 100 != 4:
                        taken.append(e)
                        return
                    time.sleep(0.01)

        sender = threading.Thread(target=send)
        sender.start()
        try:
            mt.wait_for(lambda: len(taken) > 5, 20, "mail is coming")
            self.cluster.ctl(home, "account", "hold", USER)
            out = subprocess.Popen(self.command(home, "store", "export", USER), stdout=subprocess.PIPE)
            into = subprocess.run(self.command(self.other, "store", "import", "--replace"), stdin=out.stdout, capture_output=True, timeout=60)
            out.stdout.close()
            self.assertEqual((out.wait(timeout=60), into.returncode), (0, 0), into.stderr)
            at[0] = self.other
            some = len(taken)
            mt.wait_for(lambda: len(taken) > some + 5, 20, "mail is coming by the new way")
            self.cluster.ctl(home, "account", "remove", USER)
        finally:
            stop.set()
            sender.join()
        self.assertTrue(all(isinstance(x, int) for x in taken), taken)
        n = self.imap(self.other)
        self.assertEqual(int(n.select("INBOX")[1][0]), before + len(taken))
        subjects = [x[1].strip() for x in n.fetch("1:*", "(BODY.PEEK[HEADER.FIELDS (SUBJECT)])")[1] if isinstance(x, tuple)]
        for i in taken:
            self.assertEqual(subjects.count(f"Subject: message {i}".encode()), 1)
        n.logout()
        self.check(self.other)
