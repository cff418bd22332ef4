"""Backup of a running store: incremental, verified, and brought back under clients that hold a cache."""
import glob
import imaplib
import os
import shutil
import signal
import ssl
import subprocess
import tempfile
import time

import mt
from sync_clients import Mbsync, Qresync
from test_store_transfer import message

USER, OTHER = "user0001@example.test", "user0002@example.test"


class Backup(mt.ClusterCase):
    @classmethod
    def setUpClass(cls):
        fd, cls.extra = tempfile.mkstemp(suffix=".conf")
        os.close(fd)
        cls.set_retention("7d")
        cls.FLAGS = ["--proxies", 0, "--backends", 1, "--users", 3, "--password", "secret", "--restart", "--backend-conf", cls.extra]
        super().setUpClass()

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        os.unlink(cls.extra)

    @classmethod
    def set_retention(cls, time):
        with open(cls.extra, "w") as f:
            f.write(f"retention = {time}\n")

    def retain(self, time):
        """From the next start on, which looks at once for what is over."""
        self.set_retention(time)
        pid = self.cluster.pid("b1")
        self.cluster.kill("b1", signal.SIGTERM)
        self.cluster.wait_restarted("b1", pid)
        mt.wait_for(lambda: self.cluster.ctl("b1", "store", "stat", code=None)[0] == 0, 30, "it answers again")

    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="mt-backup-")
        self.addCleanup(shutil.rmtree, self.dir, True)
        self.path = os.path.join(self.dir, "backup")
        self.tls = ssl.create_default_context()
        self.tls.check_hostname = False
        self.tls.verify_mode = ssl.CERT_NONE
        for user in (USER, OTHER):
            self.cluster.ctl("b1", "account", "set", user, "--hash", "{PLAIN}secret")

    def imap(self, user=USER):
        m = imaplib.IMAP4_SSL(*self.cluster.at("b1", "imaps"), ssl_context=self.tls)
        m.login(user, "secret")
        self.addCleanup(m.shutdown)
        return m

    def backup(self, *words):
        return self.cluster.ctl_json("b1", "store", "backup", self.path, *words)

    def restore(self, *words):
        return self.cluster.ctl_json("b1", "store", "restore", self.path, *words)

    def verify(self):
        return self.cluster.ctl_json("b1", "store", "backup", "verify", self.path)

    def check(self):
        self.assertEqual(self.cluster.ctl_json("b1", "store", "check")["errors"], 0)

    def subjects(self, m, box):
        self.assertEqual(m.select(f'"{box}"')[0], "OK")
        return sorted(x[1].strip() for x in m.fetch("1:*", "(BODY.PEEK[HEADER.FIELDS (SUBJECT)])")[1] if isinstance(x, tuple))

    def test_1_incremental_and_a_mailbox_restored_under_caches(self):
        m = self.imap()
        m.create("Work")
        for i in range(20):
            m.append("Work", "(\\Seen $Note)" if i % 2 else "\\Flagged", None, message(i, "Work", 200_000 if i == 5 else 300).encode())
        m.append("INBOX", "", None, message(1).encode())
        m.select("Work")
        m.copy("1:3", "Archive")
        first = self.backup()
        self.assertEqual((first["accounts"], first["saved"], first["bodies"], first["failed"]), (3, 3, 21, 0))
        again = self.backup()
        self.assertEqual((again["saved"], again["unchanged"], again["bodies"], again["bytes"]), (0, 3, 0, 0))
        m.append("INBOX", "", None, message(2).encode())
        third = self.backup()
        self.assertEqual((third["saved"], third["unchanged"], third["bodies"]), (1, 2, 1))
        self.assertEqual(self.verify()["failed"], 0)
        rows = self.cluster.ctl_json("b1", "store", "backup", "list", self.path)["rows"]
        self.assertEqual(len([r for r in rows if r["account"] == USER]), 2)

        where = self.cluster.at("b1", "imaps")
        q = Qresync(USER, "secret", self.tls)
        q.sync(where)
        mbsync = Mbsync(self.dir, USER, "secret", self.certificate()) if Mbsync.is_there() else None
        if mbsync:
            mbsync.sync(where)
        want = self.subjects(m, "Work")
        old = dict(q.boxes)

        # half of it expunged: what is missing comes back as new messages of the live mailbox
        m.select("Work")
        m.store("1:10", "+FLAGS", "\\Deleted")
        m.expunge()
        mt.wait_for(lambda: len(self.deleted(USER)) == 10, 20, "ten deleted messages")
        back = self.restore("--account", USER, "--mailbox", "Work")
        self.assertEqual((back["messages"], back["present"]), (10, 10))
        self.assertEqual(self.deleted(USER), [])  # an undelete would double them
        self.assertEqual(self.restore("--account", USER, "--mailbox", "Work")["messages"], 0)
        self.assertEqual(self.subjects(m, "Work"), want)
        q.sync(where)
        self.assertEqual(q.boxes["Work"][0], old["Work"][0])
        self.assertEqual(q.fetched, 10)
        self.assertGreater(min(set(q.boxes["Work"][2]) - set(old["Work"][2])), max(old["Work"][2]))
        if mbsync:
            ids = [x[1] for x in mbsync.sync(where)[0] if x[0] == "Work"]
            self.assertEqual((len(ids), len(set(ids))), (20, 20))

        # the whole mailbox deleted: it comes back under a new UIDVALIDITY
        m.close()
        self.assertEqual(m.delete("Work")[0], "OK")
        mt.wait_for(lambda: len(self.deleted(USER)) == 20, 20, "twenty deleted messages")
        self.assertEqual(self.restore("--account", USER, "--mailbox", "Work")["messages"], 20)
        self.assertEqual(self.cluster.ctl_json("b1", "account", "undelete", USER)["messages"], 0)
        self.assertEqual(self.subjects(m, "Work"), want)
        q.sync(where)
        self.assertGreater(q.boxes["Work"][0], old["Work"][0])
        self.assertEqual(q.fetched, 20)
        if mbsync:
            # It knows that its numbers mean nothing any more, and leaves what it has alone until somebody says what he wants.
            before = mbsync.content()
            self.assertRaisesRegex(AssertionError, "UIDVALIDITY", mbsync.sync, where)
            self.assertEqual(mbsync.content(), before)
            os.unlink(os.path.join(mbsync.box, "Work", ".mbsyncstate"))
            shutil.rmtree(os.path.join(mbsync.box, "Work"))
            ids = [x[1] for x in mbsync.sync(where)[0] if x[0] == "Work"]
            self.assertEqual((len(ids), len(set(ids))), (20, 20))
        # and beside, under another name
        self.assertEqual(self.restore("--account", USER, "--mailbox", "Work", "--as", "From backup/Work")["messages"], 20)
        self.assertEqual(self.subjects(m, "From backup/Work"), want)
        self.check()

    def test_2_an_account_that_is_gone(self):
        m = self.imap(OTHER)
        for i in range(5):
            m.append("INBOX", "", None, message(i).encode())
        self.backup("--account", OTHER)
        q = Qresync(OTHER, "secret", self.tls)
        where = self.cluster.at("b1", "imaps")
        q.sync(where)
        old = dict(q.boxes)
        # delivered after the backup, seen by the client, lost with the account: its UID comes again for another message
        m.append("INBOX", "", None, message(77).encode())
        q.sync(where)
        code, words = self.cluster.ctl("b1", "store", "restore", self.path, "--account", OTHER, code=None)
        self.assertEqual(code, 1)
        self.assertIn("exists already", words)
        self.cluster.ctl("b1", "account", "remove", OTHER)
        back = self.restore("--account", OTHER)
        self.assertEqual((back["account"], back["messages"]), (OTHER, 5))
        n = self.imap(OTHER)
        n.append("INBOX", "", None, message(88).encode())
        q.sync(where)
        self.assertGreater(q.boxes["INBOX"][0], old["INBOX"][0])
        self.assertEqual(len(q.boxes["INBOX"][2]), 6)
        # and under another name, beside
        self.assertEqual(self.restore("--account", OTHER, "--as", "copy@example.test")["account"], "copy@example.test")
        self.check()

    def test_2b_everything_into_an_empty_store(self):
        self.imap().append("INBOX", "", None, message(7000).encode())
        self.backup()
        before = {u: self.cluster.ctl_json("b1", "account", "show", u)["messages"] for u in (USER, OTHER)}
        for user in before:
            self.cluster.ctl("b1", "account", "remove", user)
        back = self.restore("--all")
        self.assertEqual((back["accounts"], back["failed"]), (2, 0))
        self.assertEqual({u: self.cluster.ctl_json("b1", "account", "show", u)["messages"] for u in before}, before)
        self.assertEqual(self.restore("--all")["accounts"], 0)
        self.check()

    def test_2d_rights_whoever_comes_first(self):
        """Everybody shares with everybody: half of them are restored before those to whom they gave rights."""
        ctl = self.cluster.ctl
        users = [f"user000{i}@example.test" for i in (1, 2, 3)]
        for owner in users:
            for user in users:
                if user != owner:
                    ctl("b1", "acl", "set", owner, "Sent", user, "lrs")
        ctl("b1", "public", "add", "example.test", "News")
        for user in users:
            ctl("b1", "acl", "set", "@example.test", "News", user, "lrswi")
        owners = users + ["@example.test"]
        boxes = ["Sent"] * 3 + ["News"]

        def rights():
            return [sorted((r["identifier"], r["rights"]) for r in self.cluster.ctl_json("b1", "acl", "list", o, b)["rows"]) for o, b in zip(owners, boxes)]

        before = rights()
        self.assertEqual([len(r) for r in before], [3, 3, 3, 4])
        self.backup()
        for account in users + ["#public@example.test"]:
            ctl("b1", "account", "remove", account)
        self.assertEqual(self.restore("--all")["accounts"], 4)
        self.assertEqual(rights(), before)
        self.check()
        ctl("b1", "account", "remove", "#public@example.test")

    def test_2c_domains_and_classes(self):
        ctl = self.cluster.ctl
        self.assertNotIn("domains", self.backup())
        ctl("b1", "class", "add", "staff", "--quota", "5G")
        ctl("b1", "domain", "add", "more.test", "--alias", "more2.test", "--class", "staff", "--catch-all", "u@more.test")
        ctl("b1", "account", "add", "u@more.test")
        self.addCleanup(ctl, "b1", "account", "remove", "u@more.test")
        first = self.backup()["domains"]
        self.assertEqual(self.backup()["domains"], first)
        before = ctl("b1", "domain", "dump")
        with open(os.path.join(self.path, first)) as f:
            self.assertEqual(f.read(), before)
        ctl("b1", "account", "remove", "u@more.test")
        ctl("b1", "domain", "remove", "more.test")
        ctl("b1", "class", "remove", "staff")
        # As operations.md says: domains and classes, then accounts.
        env = {**os.environ, "MAILTIER_SOCKET": self.cluster.at("b1", "ctl"), "PATH": mt.bin_dir(self.cluster.variant) + ":" + os.environ["PATH"]}
        newest = self.cluster.ctl_json("b1", "store", "backup", "list", self.path)["domains"]
        self.assertEqual(newest, first)
        subprocess.run(["sh", "-e", os.path.join(self.path, newest)], env=env, check=True, stdout=subprocess.DEVNULL)
        self.assertEqual(self.restore("--all")["accounts"], 1)
        self.assertEqual(ctl("b1", "domain", "dump"), before)
        got = self.verify()
        self.assertEqual((got["failed"], got["domain_states"]), (0, 1))
        with open(os.path.join(self.path, first), "a") as f:
            f.write("mailtierctl domain add evil.test\n")
        code, words = ctl("b1", "store", "backup", "verify", self.path, code=None)
        self.assertEqual(code, 70)
        self.assertIn(first, words)
        self.assertRegex(words, "failed: +1")  # figures come with an error, too

    def deleted(self, user):
        rows = self.cluster.ctl_json("b1", "account", "deleted", user).get("rows", [])
        return sorted((r["mailbox"], r["mailbox_gone"], r["uid"], r["bytes"], r["deleted"]) for r in rows)

    def test_25_deleted_mail_is_in_states_as_long_as_it_can_be_undeleted(self):
        user = "user0003@example.test"
        self.cluster.ctl("b1", "account", "set", user, "--hash", "{PLAIN}secret")
        m = self.imap(user)
        for i in range(6):
            m.append("INBOX", "(\\Flagged $Mine)" if i == 1 else "", None, message(8000 + i).encode())
        m.create("Old")
        m.select("INBOX")
        m.copy("1", "Old")
        one = ("--account", user)

        def backup():
            """States have their second in their names."""
            now = int(time.time())
            mt.wait_for(lambda: int(time.time()) > now, 5, "another second")
            return self.backup(*one)

        self.assertEqual(backup()["bodies"], 6)
        m.store("2:3", "+FLAGS", "\\Deleted")
        m.expunge()
        m.unselect()
        m.delete("Old")
        mt.wait_for(lambda: len(self.deleted(user)) == 3, 20, "three deleted messages")
        want = self.deleted(user)
        second = backup()
        self.assertEqual((second["saved"], second["bodies"]), (1, 0))  # their bodies are there
        self.assertEqual(backup()["unchanged"], 1)
        # never seen by a backup while it lived
        m.append("INBOX", "", None, message(8100).encode())
        m.select("INBOX")
        m.store("*", "+FLAGS", "\\Deleted")
        m.expunge()
        mt.wait_for(lambda: len(self.deleted(user)) == 4, 20, "four deleted messages")
        third = backup()
        self.assertEqual((third["saved"], third["bodies"]), (1, 1))
        self.assertEqual(self.verify()["failed"], 0)
        self.assertEqual(self.cluster.ctl_json("b1", "store", "backup", "prune", self.path)["removed"], 0)
        full = self.deleted(user)
        # a mailbox into the live account: what is deleted stays deleted, and in the list once
        back = self.restore(*one, "--mailbox", "INBOX")
        self.assertEqual((back["messages"], back["present"]), (0, 4))
        self.assertEqual(self.deleted(user), full)
        # the account: with what could be undeleted then
        copy = "kept@example.test"
        self.restore(*one, "--as", copy)
        self.assertEqual(self.deleted(copy), full)
        self.check()
        self.assertEqual(self.cluster.ctl_json("b1", "account", "undelete", copy)["messages"], 4)
        n = self.imap(copy)
        n.select("INBOX")
        self.assertEqual(n.search(None, "FLAGGED KEYWORD $Mine")[1][0].count(b" "), 0)
        self.assertEqual(len(self.subjects(n, "INBOX")), 7)
        self.assertEqual(self.subjects(n, "Recovered/Old"), [b"Subject: message 8000"])
        self.check()
        self.cluster.ctl("b1", "account", "remove", copy)
        self.cluster.ctl("b1", "account", "remove", user)
        self.restore(*one)
        self.assertEqual(self.deleted(user), full)
        self.assertTrue(set(want) < set(full))
        # undeleted: the next state has it as mail, and not twice
        backup()
        self.cluster.ctl("b1", "account", "undelete", user)
        backup()
        self.assertEqual(self.restore(*one, "--as", copy)["messages"], 8)
        self.assertEqual(self.deleted(copy), [])
        self.cluster.ctl("b1", "account", "remove", copy)
        # its time is over: a state without it, although nothing else has changed
        m = self.imap(user)
        m.select("INBOX")
        m.store("1", "+FLAGS", "\\Deleted")
        m.expunge()
        mt.wait_for(lambda: len(self.deleted(user)) == 1, 20, "one deleted message")
        backup()
        self.retain("0s")
        self.addCleanup(self.retain, "7d")
        mt.wait_for(lambda: len(self.deleted(user)) == 0, 90, "its time is over")
        self.assertEqual((backup()["saved"], backup()["saved"]), (1, 0))
        # nor do older states bring back what would be over at once
        self.restore(*one, "--as", copy)
        states = self.cluster.ctl_json("b1", "store", "backup", "list", self.path)["rows"]
        self.restore(*one, "--as", "older@example.test", "--at", states[-2]["time"])
        self.assertEqual((self.deleted(copy), self.deleted("older@example.test")), ([], []))
        self.check()

    def test_3_what_is_damaged_is_told(self):
        self.imap().append("INBOX", "", None, message(5000, "INBOX", 100_000).encode())
        self.backup("--account", USER)
        self.assertEqual(self.verify()["failed"], 0)
        for path in (glob.glob(self.path + "/packs/*")[0], glob.glob(self.path + "/accounts/*/*")[0]):
            with open(path, "r+b") as f:
                f.seek(os.path.getsize(path) // 2)
                c = f.read(1)
                f.seek(-1, os.SEEK_CUR)
                f.write(bytes([c[0] ^ 4]))
            code, words = self.cluster.ctl("b1", "store", "backup", "verify", self.path, code=None)
            self.assertEqual(code, 70, words)
            with open(path, "r+b") as f:
                f.seek(os.path.getsize(path) // 2)
                f.write(c)
        self.assertEqual(self.verify()["failed"], 0)
        # a folder that is something else stays as it is
        code, words = self.cluster.ctl("b1", "store", "backup", self.dir, code=None)
        self.assertEqual(code, 1)
        self.assertIn("is no backup", words)

    def test_4_old_states_and_their_bodies_go(self):
        self.retain("0s")  # what is deleted needs no body
        self.addCleanup(self.retain, "7d")
        m = self.imap()
        for i in range(4):
            m.append("INBOX", "", None, message(6000 + i).encode())
            self.backup("--account", USER, "--keep", 2)
            m.select("INBOX")
            if i < 3:
                m.store("*", "+FLAGS", "\\Deleted")
                m.expunge()
        self.assertEqual(len(glob.glob(self.path + "/accounts/*/*")), 2)
        packs = len(glob.glob(self.path + "/packs/*"))
        removed = self.cluster.ctl_json("b1", "store", "backup", "prune", self.path)["removed"]
        self.assertGreater(removed, 0)
        self.assertEqual(len(glob.glob(self.path + "/packs/*")), packs - removed)
        self.assertEqual(self.verify()["failed"], 0)
        self.backup("--account", USER)
        self.assertEqual(self.verify()["failed"], 0)

    def certificate(self):
        path = os.path.join(self.dir, "certificates")
        with open(path, "w") as out:
            for name in sorted(glob.glob(os.path.join(os.path.dirname(self.cluster.ca), "*.pem"))):
                with open(name) as f:
                    out.write(f.read())
        return path
