"""Annotations over IMAP (RFC 5464, RFC 9590), directly and through the proxy: rows as in test_imap_changes. And what the operator says of the
server, over a reload and a restart."""
import os
import re
import signal
import tempfile

import mt
from imap_wire import Wire

OK, NO, BAD = rb"(?m)^TAG OK ", rb"(?m)^TAG NO ", rb"(?m)^TAG BAD "
TABLE = [
    (b"CAPABILITY", rb"(?=.* METADATA)(?=.* LIST-METADATA)", OK),
    (b'GETMETADATA "" (/shared/comment /shared/admin)',
     rb'\* METADATA "" \(/shared/comment "Maintenance on Sunday" /shared/admin "mailto:help@example\.test"\)', OK),
    (b'SETMETADATA INBOX (/private/comment "My own comment" /shared/comment "Its sunny outside!")', OK),
    (b'GETMETADATA "INBOX" (/private/comment /shared/comment)',
     rb'\* METADATA "?INBOX"? \(/private/comment "My own comment" /shared/comment "Its sunny outside!"\)', OK),
    (b"SETMETADATA INBOX (/private/comment {33+}\r\nMy new comment across\r\ntwo lines.)", OK),
    (b"GETMETADATA (MAXSIZE 20 DEPTH infinity) INBOX (/private /shared)", rb"!My new", rb'/shared/comment "Its sunny',
     rb"TAG OK \[METADATA LONGENTRIES 33\]"),
    (b"SETMETADATA INBOX (/private/vendor/x/binary ~{4+}\r\n\0\r\n\0)", OK),
    (b"GETMETADATA INBOX /private/vendor/x/binary", rb"\(/private/vendor/x/binary ~\{4\}\r\n\0\r\n\0\)", OK),
    (b"SETMETADATA INBOX (/private/comment {65537+}\r\n" + b"x" * 65537 + b")", rb"TAG NO \[METADATA MAXSIZE 65536\]"),
    (b"RENAME INBOX old", OK),
    (b'LIST "" (INBOX old) RETURN (METADATA (/shared/comment))', rb'\* METADATA "?INBOX"? \(/shared/comment "Its sunny',
     rb'\* METADATA old \(/shared/comment "Its sunny', OK),
    (b"DELETE old", OK),
    (b"CREATE old", OK),
    (b"GETMETADATA old /shared/comment", rb"\(/shared/comment NIL\)", OK),
    (b'SETMETADATA old (/private/specialuse "\\\\Junk")', OK),
    (b'LIST "" old RETURN (SPECIAL-USE)', rb"\* LIST \([^)]*\\Junk", OK),
]


class ImapMetadata(mt.ClusterCase):
    @classmethod
    def setUpClass(cls):
        fd, cls.extra = tempfile.mkstemp(suffix=".conf")
        os.close(fd)
        cls.say("Maintenance on Sunday")
        cls.FLAGS = ["--proxies", 1, "--backends", 1, "--users", 4, "--password", "pw", "--backend-conf", cls.extra]
        super().setUpClass()

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        os.unlink(cls.extra)

    @classmethod
    def say(cls, comment):
        with open(cls.extra, "w") as f:
            f.write(f'imap-comment = "{comment}"\nimap-admin = "mailto:help@example.test"\n')

    def connect(self, name, user):
        wire = Wire(self.cluster.at(name, "imap"))
        self.addCleanup(wire.close)
        self.assertRegex(wire.ask(b"LOGIN user%04d@example.test pw" % user)[1], rb"\AOK")
        return wire

    def test_the_table(self):
        for i, at in enumerate(("b1", "p1")):
            wire = self.connect(at, 1 + i)
            for command, *patterns in TABLE:
                untagged, answer = wire.ask(command)
                text = b"".join(untagged) + b"TAG " + answer
                for pattern in patterns:
                    check = self.assertNotRegex if pattern.startswith(b"!") else self.assertRegex
                    check(text, re.compile(pattern.lstrip(b"!"), re.S), command[:80])
        self.cluster.ctl("b1", "store", "check")

    def test_others_are_told(self):
        idle, other, stranger = self.connect("p1", 3), self.connect("b1", 3), self.connect("b1", 4)
        for wire in (idle, stranger):
            self.assertIn(b"* ENABLED METADATA\r\n", wire.ask(b"ENABLE METADATA")[0])
        idle.send(b"i IDLE\r\n")
        self.assertRegex(idle.response(), rb"\A\+ ")
        other.ask(b'SETMETADATA Sent (/shared/comment "x" /private/comment "y")')
        self.assertEqual(idle.response(), b"* METADATA Sent /shared/comment\r\n")
        self.assertEqual(idle.response(), b"* METADATA Sent /private/comment\r\n")
        idle.send(b"DONE\r\n")
        self.assertRegex(idle.answer(b"i")[1], rb"\AOK")
        self.assertEqual(stranger.ask(b"NOOP")[0], [])

    def test_what_is_said_changes_with_a_reload(self):
        self.say("All is well")
        self.cluster.kill("b1", signal.SIGHUP)

        def says():
            return b"All is well" in b"".join(self.connect("b1", 4).ask(b'GETMETADATA "" /shared/comment')[0])
        mt.wait_for(says, 20, "new sessions hear the new comment")


if __name__ == "__main__":
    import unittest
    unittest.main()
