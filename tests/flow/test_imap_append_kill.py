"""A back-end that dies amid a command with several messages, and amid a replacement: afterwards all of it is there or nothing, and the
store is whole. Needs the faults variant of the programs (make VARIANT=faults)."""
import base64
import os
import random
import tempfile
import unittest

import mt
from imap_wire import Closed, Wire, fetch_items

SMALL = [b"Subject: %d\r\n\r\nsmall\r\n" % i for i in range(50)]
LARGE = [b"Subject: large %d\r\n\r\n" % i + base64.encodebytes(random.Random(i).randbytes(2500000)).replace(b"\n", b"\r\n") for i in range(3)]


@unittest.skipUnless(os.path.exists(os.path.join(mt.bin_dir("faults"), "mailtier-backend")), "make VARIANT=faults all")
class AppendKill(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.faults = tempfile.mkdtemp(prefix="mt-faults-")
        os.chmod(cls.faults, 0o755)
        cls.cluster = mt.Cluster("--proxies", 0, "--backends", 1, "--users", 10, "--password", "pw", "--restart", variant="faults",
                                 env={"MAILTIER_FAULT_DIR": cls.faults})

    @classmethod
    def tearDownClass(cls):
        cls.cluster.stop()

    def connect(self, user):
        def login():
            try:
                wire = Wire(self.cluster.at("b1", "imap"), timeout=60)
                return wire if wire.ask(b"LOGIN user%04d@example.test pw" % user)[1].startswith(b"OK") else None
            except (OSError, Closed):
                return None
        wire = mt.wait_for(login, 60, "the back-end takes logins")
        self.addCleanup(wire.close)
        return wire

    def die(self, wire, words, command):
        """Sends a command that kills the program; True if it was answered OK before."""
        old = self.cluster.pid("b1")
        path = os.path.join(self.faults, "b1")
        with open(path + ".new", "w") as f:
            f.write(words + "\n")
        os.rename(path + ".new", path)
        try:
            answer = wire.ask(command)[1]
        except (Closed, OSError):
            answer = b""
        mt.wait_for(lambda: self.cluster.pid("b1") != old or not self.cluster.is_alive("b1"), 30, "the back-end has died")
        os.unlink(path)
        self.cluster.wait_restarted("b1", old, 60)
        return answer.startswith(b"OK")

    def texts(self, user):
        wire = self.connect(user)
        wire.ask(b"SELECT INBOX")
        out = [fetch_items(u)[1][b"BODY[]"] for u in wire.ask(b"FETCH 1:* BODY.PEEK[]")[0] if b" FETCH (" in u[:30]]
        self.cluster.ctl("b1", "store", "check")
        return out

    def append(self, user, words, mails):
        answered = self.die(self.connect(user), words, b"APPEND INBOX " + b" ".join(b"{%d+}\r\n%s" % (len(m), m) for m in mails))
        self.assertFalse(answered)
        return self.texts(user)

    def test_before_the_commit_nothing_is_there(self):
        self.assertEqual(self.append(1, "store-add:kill", SMALL), [])

    def test_after_the_commit_all_is_there(self):
        self.assertEqual(self.append(2, "store-before-answer:kill", SMALL), SMALL)

    def test_amid_the_parts_of_large_messages_nothing_is_there(self):
        self.assertEqual(self.append(3, "store-draft-piece:kill:2", LARGE), [])
        # what was left of the pieces is in nobody's way
        wire = self.connect(3)
        self.assertRegex(wire.ask(b"APPEND INBOX " + b" ".join(b"{%d+}\r\n%s" % (len(m), m) for m in LARGE))[1], rb"\AOK \[APPENDUID \d+ 1:3\]")
        self.assertEqual(self.texts(3), LARGE)

    def test_a_replacement_is_whole_before_and_after(self):
        for user, words, want in ((4, "store-add:kill", [SMALL[0]]), (5, "store-before-answer:kill", [SMALL[1]])):
            wire = self.connect(user)
            self.assertRegex(wire.ask(b"APPEND INBOX {%d+}\r\n%s" % (len(SMALL[0]), SMALL[0]))[1], rb"\AOK")
            wire.ask(b"SELECT INBOX")
            self.die(wire, words, b"REPLACE 1 INBOX {%d+}\r\n%s" % (len(SMALL[1]), SMALL[1]))
            self.assertEqual(self.texts(user), want, words)


if __name__ == "__main__":
    unittest.main()
