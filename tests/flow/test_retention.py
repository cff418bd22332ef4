"""Deleted messages come back (mailtierctl account undelete): with new UIDs and MODSEQs, so that a client with a cache (mbsync, and one
that speaks QRESYNC) sees nothing go backwards; a deleted mailbox comes back under Recovered/."""
import os
import re
import shutil
import subprocess
import tempfile
import unittest

import imap_wire
import mt
from backend_case import BackendCase


def message(i):
    return (f"From: sender@elsewhere.test\r\nSubject: message {i}\r\nMessage-ID: <{i}@elsewhere.test>\r\n"
            f"Date: Fri, 20 Nov 2026 12:00:{i:02} +0000\r\n\r\nThis is number {i}.\r\n")


class Retention(BackendCase):
    USERS = 1
    CONF = "retention = 1d\n"

    def wire(self):
        tls = self.tls()
        tls.check_hostname = False
        w = imap_wire.Wire(self.cluster.at("b1", "imaps"), tls)
        self.addCleanup(w.close)
        self.assertTrue(w.ask(f"LOGIN {self.user(1)} {self.password(1)}".encode())[1].startswith(b"OK"))
        w.ask(b"ENABLE QRESYNC")
        return w

    def ok(self, w, command):
        lines, answer = w.ask(command)
        self.assertTrue(answer.startswith(b"OK"), (command, answer))
        return b"".join(lines)

    def deleted(self):
        out = self.cluster.ctl_json("b1", "account", "deleted", self.user(1))
        return out["messages"]

    def undelete(self, *words):
        return self.cluster.ctl_json("b1", "account", "undelete", self.user(1), *words)

    def state(self, w, box=b"INBOX"):
        text = self.ok(w, b"SELECT " + box)
        return {k: int(re.search(rb"\[" + k + rb" (\d+)", text)[1]) for k in (b"UIDVALIDITY", b"UIDNEXT", b"HIGHESTMODSEQ")}

    def sync(self, rc):
        out = subprocess.run(["mbsync", "-c", rc, "-a"], capture_output=True, text=True, timeout=60)
        self.assertEqual(out.returncode, 0, out.stdout + out.stderr)

    def numbers(self, box):
        found = []
        for place in ("new", "cur"):
            for n in os.listdir(f"{box}/{place}"):
                with open(f"{box}/{place}/{n}") as f:
                    found.append(int(re.search(r"number (\d+)", f.read())[1]))
        return sorted(found)

    def mbsync(self):
        folder = tempfile.mkdtemp(prefix="mt-retention-")
        self.addCleanup(shutil.rmtree, folder, True)
        host, port = self.cluster.at("b1", "imaps")
        rc, box = os.path.join(folder, "rc"), os.path.join(folder, "box")
        os.mkdir(box)
        with open(rc, "w") as f:
            f.write(f"""IMAPAccount m
Host {host}
Port {port}
User {self.user(1)}
Pass {self.password(1)}
SSLType IMAPS
CertificateFile {self.cluster.ca}

IMAPStore far
Account m

MaildirStore near
Path {box}/
Inbox {box}/INBOX
SubFolders Verbatim

Channel c
Far :far:
Near :near:
Patterns *
Create Both
Remove None
Expunge Both
SyncState *
""")
        return rc, box

    def test_messages_come_back_and_caches_hold(self):
        for i in range(10):
            self.deliver(self.user(1), message(i))
        w = self.wire()
        first = self.state(w)
        rc, box = self.mbsync() if shutil.which("mbsync") else (None, None)
        if rc:
            self.sync(rc)
            self.assertEqual(self.numbers(box + "/INBOX"), list(range(10)))
        self.ok(w, b"STORE 3:5 +FLAGS (\\Deleted \\Flagged $Work)")
        self.ok(w, b"EXPUNGE")
        mt.wait_for(lambda: self.deleted() == 3, 20, "three deleted messages")
        if rc:
            self.sync(rc)
            self.assertEqual(self.numbers(box + "/INBOX"), [0, 1, 5, 6, 7, 8, 9])
        cached = self.state(w)
        quota = self.cluster.ctl_json("b1", "quota", self.user(1))
        self.assertEqual(quota["messages"], 7)
        out = self.cluster.ctl_json("b1", "store", "export", self.user(1), os.path.join(tempfile.mkdtemp(prefix="mt-kept-"), "stream"))
        self.assertEqual(out["kept"], 3)
        self.assertGreater(out["kept_bytes"], 0)
        self.assertEqual(self.undelete("--dry-run")["messages"], 3)
        self.assertEqual(self.undelete("--mailbox", "Sent")["messages"], 0)
        for since in ("2099-01-01", "2099-01-01T00:00:00"):
            self.cluster.ctl("b1", "account", "undelete", self.user(1), "--since", since, code=64)
        self.assertEqual(self.undelete("--since", "1h")["messages"], 3)
        self.assertEqual(self.deleted(), 0)
        # A client with a cache: the old UIDs are gone for ever, the messages are new ones.
        w2 = self.wire()
        text = self.ok(w2, b"SELECT INBOX (QRESYNC (%d %d))" % (cached[b"UIDVALIDITY"], cached[b"HIGHESTMODSEQ"]))
        self.assertNotIn(b"VANISHED", text)
        self.assertEqual([int(n) for n in re.findall(rb"UID (\d+)", text)], [11, 12, 13])
        self.assertTrue(all(int(m) > cached[b"HIGHESTMODSEQ"] for m in re.findall(rb"MODSEQ \((\d+)\)", text)), text)
        text = self.ok(w2, b"SELECT INBOX (QRESYNC (%d %d 1:10))" % (first[b"UIDVALIDITY"], first[b"HIGHESTMODSEQ"]))
        self.assertIn(b"VANISHED (EARLIER) 3:5", text)
        text = self.ok(w2, b"UID FETCH 11:13 (FLAGS BODY.PEEK[TEXT])")
        self.assertEqual(re.findall(rb"number (\d+)", text), [b"2", b"3", b"4"])
        self.assertEqual(text.count(b"\\Flagged"), 3)
        self.assertEqual(text.count(b"$Work"), 3)
        self.assertNotIn(b"\\Deleted", text)
        now = self.state(w2)
        self.assertEqual(now[b"UIDVALIDITY"], first[b"UIDVALIDITY"])
        self.assertEqual(now[b"UIDNEXT"], 14)
        if rc:
            self.sync(rc)
            self.assertEqual(self.numbers(box + "/INBOX"), list(range(10)))
        self.a_mailbox_comes_back(w2, rc, box)

    def a_mailbox_comes_back(self, w, rc, box):
        self.ok(w, b"CREATE Projects/Old")
        self.ok(w, b"UID COPY 1:2 Projects/Old")
        self.ok(w, b"UNSELECT")
        self.ok(w, b"DELETE Projects/Old")
        mt.wait_for(lambda: self.deleted() == 2, 20, "two deleted messages")
        out = self.undelete("--mailbox", "Projects/Old")
        self.assertEqual((out["messages"], out["over_quota"], out["lost"]), (2, 0, 0))
        self.assertEqual(self.state(w, b"Recovered/Projects/Old")[b"UIDNEXT"], 3)
        self.assertIn(b"Recovered/Projects/Old", self.ok(w, b'LSUB "" *'))
        if rc:
            self.sync(rc)
            self.assertEqual(self.numbers(box + "/Recovered/Projects/Old"), [0, 1])
        # Over quota: what has room comes, the rest stays.
        self.ok(w, b"UID STORE 1:2 +FLAGS.SILENT (\\Deleted)")
        self.ok(w, b"EXPUNGE")
        mt.wait_for(lambda: self.deleted() == 2, 20, "two deleted messages")
        self.cluster.ctl("b1", "account", "set", self.user(1), "--count", "11")
        with self.assertRaises(Exception):
            self.undelete()
        self.assertEqual(self.deleted(), 1)
        self.cluster.ctl("b1", "store", "check")


if __name__ == "__main__":
    unittest.main()
