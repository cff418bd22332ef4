"""The back-end dies (SIGKILL) in the middle of an import, a move between slots, a backup, a restore: what the next start finds is sound,
an account is there once or not at all, and the same command again succeeds. With the variant of the programs that has fault points."""
import glob
import imaplib
import json
import os
import shutil
import ssl
import subprocess
import tempfile

import mt
from test_store_transfer import message

USER = "user0001@example.test"
MESSAGES = 320


class Killed(mt.ClusterCase):
    VARIANT = "faults"

    @classmethod
    def setUpClass(cls):
        cls.dir = tempfile.mkdtemp(prefix="mt-killed-")
        cls.faults = os.path.join(cls.dir, "faults")
        cls.set_fault("")
        cls.FLAGS = ["--proxies", 0, "--backends", 1, "--users", 2, "--password", "secret", "--restart"]
        cls.ENV = {"MAILTIER_FAULT_FILE": cls.faults}
        super().setUpClass()
        cls.tls = ssl.create_default_context()
        cls.tls.check_hostname = False
        cls.tls.verify_mode = ssl.CERT_NONE
        for user in (USER, "user0002@example.test"):
            cls.cluster.ctl("b1", "account", "set", user, "--hash", "{PLAIN}secret")
        m = cls.imap()
        for i in range(20):
            m.append("INBOX", "", None, message(i, "INBOX", 200_000 if i == 3 else 200).encode())
        m.select("INBOX")
        while int(m.select("INBOX")[1][0]) < MESSAGES:
            m.copy("1:*", "INBOX")
        # deleted, to be undeleted: of a mailbox that is there, and of one that is not
        m.create("Old")
        m.copy("1:70", "Old")
        m.delete("Old")
        m.store("1:70", "+FLAGS", "\\Deleted")
        m.expunge()
        cls.kept = 140
        cls.count = int(m.select("INBOX")[1][0])
        m.logout()
        mt.wait_for(lambda: cls.deleted() == cls.kept, 20, "all of them are kept")
        cls.stream = os.path.join(cls.dir, "stream")
        cls.cluster.ctl("b1", "store", "export", USER, cls.stream)

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        shutil.rmtree(cls.dir, True)

    @classmethod
    def set_fault(cls, words):
        with open(cls.faults + ".new", "w") as f:
            f.write(words)
        os.rename(cls.faults + ".new", cls.faults)

    @classmethod
    def imap(cls, user=USER):
        m = imaplib.IMAP4_SSL(*cls.cluster.at("b1", "imaps"), ssl_context=cls.tls)
        m.login(user, "secret")
        return m

    def dies(self, fault, *words):
        """The command, during which the program dies, and is started anew."""
        pid = self.cluster.pid("b1")
        self.set_fault(fault)
        code, said = self.cluster.ctl("b1", *words, code=None)
        self.set_fault("")
        self.assertEqual(code, 75, f"{fault}: {said}")
        self.cluster.wait_restarted("b1", pid)
        mt.wait_for(lambda: self.cluster.ctl("b1", "store", "stat", code=None)[0] == 0, 30, "it answers again")
        self.assertEqual(self.cluster.ctl_json("b1", "store", "check")["errors"], 0, fault)

    def has(self, address):
        return self.cluster.ctl("b1", "account", "show", address, code=None)[0] == 0

    def messages(self):
        m = self.imap()
        n = int(m.select("INBOX")[1][0])
        m.logout()
        return n

    @classmethod
    def deleted(cls, user=USER):
        return cls.cluster.ctl_json("b1", "account", "deleted", user)["messages"]

    def nothing_dangles(self):
        """Of what died: the reaper removes its last row."""
        mt.wait_for(lambda: self.cluster.ctl_json("b1", "store", "stat")["intents"] == 0, 30, "nothing of it is left")
        self.assertEqual(self.cluster.ctl_json("b1", "store", "check")["errors"], 0)

    def test_1_import(self):
        for fault in ("import-kept:kill:1", "import-kept:kill:100"):
            self.dies(fault, "store", "import", self.stream, "--as", "new@example.test")
            self.assertFalse(self.has("new@example.test"))
            self.nothing_dangles()
            self.assertEqual(self.cluster.ctl_json("b1", "store", "stat")["kept"], self.kept)
        for fault in ("import-step:kill:1", "import-step:kill:2"):
            self.dies(fault, "store", "import", self.stream, "--as", "new@example.test")
            self.assertFalse(self.has("new@example.test"))
        self.dies("import-visible:kill:1", "store", "import", self.stream, "--as", "new@example.test")
        self.assertTrue(self.has("new@example.test"))
        self.cluster.ctl("b1", "account", "remove", "new@example.test")
        self.cluster.ctl("b1", "store", "import", self.stream, "--as", "new@example.test")
        self.assertEqual(self.cluster.ctl_json("b1", "account", "show", "new@example.test")["messages"], self.count)
        self.assertEqual(self.deleted("new@example.test"), self.kept)
        self.cluster.ctl("b1", "account", "remove", "new@example.test")

    def test_2_move(self):
        for fault, moved in (("import-step:kill:2", False), ("import-kept:kill:120", False), ("import-visible:kill:1", True), ("import-old-removed:kill:1", True)):
            slot = self.cluster.ctl_json("b1", "account", "show", USER)["slot"]
            self.dies(fault, "account", "move", USER, "--slot", 1 - slot)
            self.assertEqual(self.cluster.ctl_json("b1", "account", "show", USER)["slot"], 1 - slot if moved else slot, fault)
            rows = self.cluster.ctl_json("b1", "account", "list")["rows"]
            self.assertEqual(len([r for r in rows if r["account"] == USER]), 1)
            self.assertEqual(self.messages(), self.count)
            self.assertEqual(self.deleted(), self.kept, fault)
        slot = self.cluster.ctl_json("b1", "account", "show", USER)["slot"]
        self.cluster.ctl("b1", "account", "move", USER, "--slot", 1 - slot)
        self.assertEqual(self.messages(), self.count)

    def test_3_backup_and_restore(self):
        path = os.path.join(self.dir, "backup")
        self.cluster.ctl("b1", "store", "backup", path, "--account", "user0002@example.test")
        states = glob.glob(path + "/accounts/*/*-*")
        for fault in ("backup-pack-synced:kill:1", "backup-before-name:kill:1"):
            self.dies(fault, "store", "backup", path)
            self.assertEqual(self.cluster.ctl_json("b1", "store", "backup", "verify", path)["failed"], 0)
            self.assertEqual(glob.glob(path + "/accounts/*/*-*"), states)
        self.assertEqual(self.cluster.ctl_json("b1", "store", "backup", path, "--account", USER)["saved"], 1)
        self.assertEqual(self.cluster.ctl_json("b1", "store", "backup", "verify", path)["failed"], 0)
        m = self.imap()
        m.select("INBOX")
        m.store("1:230", "+FLAGS", "\\Deleted")
        m.expunge()
        m.logout()
        self.dies("restore-step:kill:2", "store", "restore", path, "--account", USER, "--mailbox", "INBOX")
        self.cluster.ctl("b1", "store", "restore", path, "--account", USER, "--mailbox", "INBOX")
        self.assertEqual(self.messages(), self.count)
        self.dies("import-step:kill:2", "store", "restore", path, "--account", USER, "--as", "copy@example.test")
        self.assertFalse(self.has("copy@example.test"))
        self.cluster.ctl("b1", "store", "restore", path, "--account", USER, "--as", "copy@example.test")
        self.assertEqual(self.cluster.ctl_json("b1", "account", "show", "copy@example.test")["messages"], self.count)

    def subjects(self, box, user=USER):
        m = self.imap(user)
        m.select(box, readonly=True)
        rows = m.fetch("1:*", "(BODY.PEEK[HEADER.FIELDS (SUBJECT)])")[1]
        m.logout()
        return [r[1].strip() for r in rows if isinstance(r, tuple)]

    def test_4_moved_to_another_account(self):
        """Copied there in one commit, expunged here in a later one: at every moment each message is in one of the two at least."""
        other, count = "user0002@example.test", 130
        for n, fault in enumerate(("store-before-commit:kill:1", "store-after-commit:kill:1", "store-before-commit:kill:2",
                                   "store-after-commit:kill:3")):
            source, box = f"Source{n}", f"Box{n}"
            m, g = self.imap(), self.imap(other)
            g.create(box)
            g.setacl(box, USER, "lrswi")
            m.create(source)
            m.xatom("APPEND", source, *("{%d+}\r\n%s" % (len(t), t) for t in (message(9000 + i) for i in range(count))))
            sent = self.subjects(source)
            self.assertEqual(len(sent), count)
            m.select(source)
            pid = self.cluster.pid("b1")
            self.set_fault(fault)
            try:
                self.assertNotEqual(m.xatom("MOVE", "1:*", f"user/{other}/{box}")[0], "OK", fault)
            except (imaplib.IMAP4.abort, OSError):
                pass
            self.set_fault("")
            self.cluster.wait_restarted("b1", pid)
            mt.wait_for(lambda: self.cluster.ctl("b1", "store", "stat", code=None)[0] == 0, 30, "it answers again")
            self.assertEqual(self.cluster.ctl_json("b1", "store", "check")["errors"], 0, fault)
            self.assertEqual(self.cluster.ctl_json("b1", "quota", "verify")["drift"], 0, fault)
            here, there = self.subjects(source), self.subjects(box, other)
            self.assertEqual(sorted(set(here + there)), sorted(sent), fault)
            self.assertEqual((len(set(here)), len(set(there))), (len(here), len(there)), fault)

    def test_5_two_moves_at_once(self):
        """The second is refused with words while the first goes on, and changes nothing of it."""
        slot = self.cluster.ctl_json("b1", "account", "show", USER)["slot"]
        command = [os.path.join(mt.bin_dir(self.VARIANT), "mailtierctl"), "-s", self.cluster.places["b1", "ctl"]]
        self.set_fault("import-step:sleep:1:4000")
        self.addCleanup(self.set_fault, "")
        first = subprocess.Popen([*command, "--json", "account", "move", USER, "--slot", str(1 - slot)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        m = self.imap()

        def is_held():
            return m.store("1", "+FLAGS", "\\Answered")[0] == "NO"

        m.select("INBOX")
        mt.wait_for(is_held, 20, "the first holds the account")
        for words in (("account", "move", USER, "--slot", 1 - slot), ("account", "hold", USER)):
            code, said = self.cluster.ctl("b1", *words, code=None)
            self.assertIn(code, (1, 75), said)
            self.assertIn("held already", said)
        self.assertIsNone(first.poll())
        code, said = self.cluster.ctl("b1", "store", "import", self.stream, "--replace", code=None)
        self.assertNotEqual(code, 0)
        self.assertIn("on its way already", said)
        out = first.communicate(timeout=60)[0]
        self.assertEqual(first.returncode, 0, out)
        self.set_fault("")
        self.assertEqual(self.cluster.ctl_json("b1", "account", "show", USER)["slot"], 1 - slot)
        self.assertEqual((self.messages(), self.deleted()), (self.count, json.loads(out)["kept"]))
        self.nothing_dangles()
        n = self.imap()  # it is held no more
        n.select("INBOX")
        self.assertEqual(n.store("1", "-FLAGS", "\\Answered")[0], "OK")
        n.logout()
