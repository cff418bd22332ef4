"""What changes mailboxes and streams over IMAP, extension by extension: rows of what is sent and patterns that the whole answer must
match (or, behind "!", must not), written from the RFCs' text and examples. Directly and through the proxy."""
import re
import zlib

import mt
from imap_wire import Closed, Deflated, Wire

OK, NO, BAD = rb"(?m)^TAG OK ", rb"(?m)^TAG NO ", rb"(?m)^TAG BAD "
A, B, C = b"Subject: a\r\n\r\nfirst\r\n", b"Subject: b\r\n\r\nsecond\r\n", b"Subject: c\r\n\r\nthird\r\n"


def lit(mail):
    return b"{%d+}\r\n%s" % (len(mail), mail)


# RFC 3502.
MULTIAPPEND = [
    (b"CAPABILITY", rb"(?=.* MULTIAPPEND)", OK),
    (b"CREATE saved-messages", OK),
    (b"APPEND saved-messages (\\Seen) %s (\\Seen $x) \" 7-Feb-1994 22:43:04 -0800\" %s %s" % (lit(A), lit(B), lit(C)),
     rb"TAG OK \[APPENDUID \d+ 1:3\]"),
    (b"APPEND bogusname (\\Flagged) %s %s" % (lit(A), lit(B)), rb"TAG NO \[TRYCREATE\]"),
    (b"APPEND saved-messages %s {0+}\r\n" % lit(A), NO),
    (b"APPEND saved-messages %s (\\Nonsense) %s" % (lit(A), lit(B)), BAD),
    (b"APPEND saved-messages %s (\\Seen)" % lit(A), BAD),
    (b"SELECT saved-messages", rb"\* 3 EXISTS", OK),
    (b"FETCH 1:* (FLAGS INTERNALDATE BODY.PEEK[TEXT])", rb"\* 1 FETCH [^\r]*\(\\Seen \\Recent\)", rb"first",
     rb"\* 2 FETCH [^\r]*\(\\Seen \\Recent \$x\)[^\r]*\" 8-Feb-1994 06:43:04 \+0000\"", rb"second", rb"third", OK),
    (b"APPEND saved-messages %s %s" % (lit(A), lit(B)), rb"\* 5 EXISTS", rb"TAG OK \[APPENDUID \d+ 4:5\]"),
]

# RFC 7162 section 3.2.
QRESYNC = [
    (b"CAPABILITY", rb"(?=.* QRESYNC)(?=.* CONDSTORE)(?=.* ENABLE)", OK),
    (b"APPEND INBOX " + b" ".join([lit(A)] * 9), rb"APPENDUID \d+ 1:9", OK),
    (b"SELECT INBOX (QRESYNC (1 1))", BAD),
    (b"ENABLE QRESYNC CONDSTORE", rb"\* ENABLED (?=.*QRESYNC)(?=.*CONDSTORE)", OK),
    (b"SELECT INBOX (QRESYNC (67890007 20050715194045000 41,43:211,214:541))", rb"\* 9 EXISTS", rb"!VANISHED", rb"!FETCH", OK),
    (b"UID FETCH 1:9 (FLAGS) (VANISHED)", BAD),
    (b"FETCH 1:9 (FLAGS) (CHANGEDSINCE 1 VANISHED)", BAD),
    (b"UID STORE 2:3,7 +FLAGS (\\Deleted)", rb"\* 2 FETCH \(UID 2 MODSEQ \(\d+\) FLAGS", OK),
    (b"EXPUNGE", rb"\A\* VANISHED 2:3,7\r\nTAG OK \[HIGHESTMODSEQ \d+\]"),
    (b"STORE 6 +FLAGS.SILENT (\\Deleted)", OK),
    (b"UID EXPUNGE 9", rb"\* VANISHED 9\r\nTAG OK \[HIGHESTMODSEQ \d+\]"),
    (b"UID FETCH 1:* (FLAGS) (CHANGEDSINCE 1 VANISHED)", rb"\A\* VANISHED \(EARLIER\) 2:3,7,9\r\n\* 1 FETCH \(UID 1 ", OK),
    (b"UID FETCH 3:5 (FLAGS) (VANISHED CHANGEDSINCE 1)", rb"\A\* VANISHED \(EARLIER\) 3\r\n\* 2 FETCH \(UID 4 ", OK),
    (b"CREATE other", OK),
    (b"UID MOVE 8 other", rb"\* VANISHED 8\r\n", OK),
    (b"STORE 1 +FLAGS.SILENT (\\Deleted)", OK),
    (b"CLOSE", rb"!HIGHESTMODSEQ", rb"!VANISHED", OK),
    (b"SELECT INBOX", rb"\* 3 EXISTS", OK),
]

# RFC 7889.
APPENDLIMIT = [
    (b"CAPABILITY", rb"\* CAPABILITY [^\r]* APPENDLIMIT=104857600\r\n", OK),
    (b"STATUS INBOX (APPENDLIMIT)", rb'\* STATUS "?INBOX"? \(APPENDLIMIT 104857600\)', OK),
    (b'LIST "" % RETURN (STATUS (APPENDLIMIT))', rb'\* STATUS "?INBOX"? \(APPENDLIMIT 104857600\)', OK),
    (b"APPEND INBOX {104857601}", rb"TAG NO \[TOOBIG\]"),
]

# RFC 6154 section 3.
CREATE_SPECIAL_USE = [
    (b"CAPABILITY", rb"(?=.* CREATE-SPECIAL-USE)(?=.* SPECIAL-USE)", OK),
    (b'CREATE "Everything" (USE (\\All))', rb"TAG NO \[USEATTR\]"),
    (b'CREATE "Sent Mail" (USE (\\Sent))', OK),
    (b'CREATE "Both" (USE (\\Drafts \\Sent))', rb"TAG NO \[USEATTR\]"),
    (b'CREATE "x" (USE)', BAD),
    (b'CREATE "y" (USE ())', OK),
    (b'LIST (SPECIAL-USE) "" "*" RETURN (SPECIAL-USE)', rb'\* LIST \([^)]*\\Sent[^)]*\) "/" "Sent Mail"', OK),
]

# RFC 8508.
REPLACE = [
    (b"CAPABILITY", rb"(?=.* REPLACE)", OK),
    (b"REPLACE 1 INBOX " + lit(A), BAD),
    (b"CREATE Work", OK),
    (b"APPEND Work %s %s %s" % (lit(A), lit(A), lit(A)), OK),
    (b"EXAMINE Work", OK),
    (b"REPLACE 1 Work " + lit(B), rb"TAG NO"),
    (b"SELECT Work", rb"\* 3 EXISTS", OK),
    (b"REPLACE 4 Work " + lit(B), BAD),
    (b"REPLACE 0 Work " + lit(B), BAD),
    (b"REPLACE x Work " + lit(B), BAD),
    (b"REPLACE 1:2 Work " + lit(B), BAD),
    (b"REPLACE 1 Work", BAD),
    (b"REPLACE 1 Work %s %s" % (lit(B), lit(C)), BAD),
    (b"UID REPLACE 77 Work " + lit(B), rb"TAG NO"),
    (b"REPLACE 1 nowhere " + lit(B), rb"TAG NO \[TRYCREATE\]"),
    (b"REPLACE 1 Work (\\Nonsense) " + lit(B), BAD),
    (b"REPLACE 1 Work {0+}\r\n", NO),
    (b"FETCH 1:* (UID)", rb"\* 3 FETCH \(UID 3\)", OK),
    (b"REPLACE 2 Work (\\Seen \\Draft) \" 7-Feb-1994 22:43:04 -0800\" " + lit(B),
     rb"\A\* OK \[APPENDUID \d+ 4\] [^\r]*\r\n(?=(?s:.*)\* 2 EXPUNGE\r\n)(?=(?s:.*)\* 3 EXISTS\r\n)", rb"!\\Deleted", OK),
    (b"FETCH 3 (UID FLAGS BODY.PEEK[TEXT])", rb"UID 4 FLAGS \(\\Seen \\Draft", rb"second", OK),
    (b"UID REPLACE 4 INBOX " + lit(C), rb"\A\* OK \[APPENDUID \d+ 1\] [^\r]*\r\n\* 3 EXPUNGE\r\n", OK),
    (b"STATUS INBOX (MESSAGES)", rb"MESSAGES 1\)", OK),
    (b"ENABLE QRESYNC", OK),
    (b"UID REPLACE * Work " + lit(C), rb"APPENDUID \d+ 5\](?s:.*)\* VANISHED 3\r\n", rb"TAG OK \[HIGHESTMODSEQ \d+\]"),
]

# RFC 3516, with what FETCH has of it.
BIN = b"MIME-Version: 1.0\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: binary\r\n\r\n\x01\xff\x80bytes\n"
B64 = b"MIME-Version: 1.0\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n\r\nAGEA\r\n"
BINARY = [
    (b"CAPABILITY", rb"(?=.* BINARY)", OK),
    (b"APPEND INBOX (\\Seen) ~" + lit(BIN), rb"APPENDUID \d+ 1\]", OK),
    (b"APPEND INBOX ~%s %s" % (lit(B64), lit(A)), rb"APPENDUID \d+ 2:3\]", OK),
    (b"APPEND INBOX ~{4+}\r\na\0\r\n", rb"TAG NO \[UNKNOWN-CTE\]"),
    (b"APPEND INBOX %s ~{4+}\r\na\0\r\n" % lit(A), rb"TAG NO \[UNKNOWN-CTE\]"),
    (b"APPEND INBOX {4+}\r\na\0\r\n", BAD),
    (b"CREATE ~{1+}\r\nx", BAD),
    (b"APPEND ~{5+}\r\nINBOX " + lit(A), BAD),
    (b"CREATE ~", OK),
    (b"CREATE a~{1+}\r\nx", BAD),
    (b"SELECT INBOX", rb"\* 3 EXISTS", OK),
    (b"REPLACE 3 INBOX ~" + lit(BIN), rb"APPENDUID \d+ 4\]", OK),
    (b"FETCH 1 (BINARY.SIZE[1] BINARY.PEEK[1])", rb"BINARY.SIZE\[1\] 9", rb"\x01\xff\x80bytes\n", OK),
    (b"FETCH 2 (BINARY.PEEK[1])", rb"BINARY\[1\] ~\{3\}\r\n\0a\0", OK),
    (b"FETCH 1 (BODY.PEEK[])", re.escape(BIN), OK),
]

# RFC 4469, after its examples.
MULTI = (b"From: x@example.org\r\nSubject: parts\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n"
         b"Content-Type: text/plain\r\n\r\none\r\n--b\r\nContent-Type: image/jpeg\r\n\r\nTWO\r\n--b--\r\n")
BIG = b"Subject: big\r\n\r\n" + b"0123456789abcdef\r\n" * 100000
CATENATE = [
    (b"CAPABILITY", rb"(?=.* CATENATE)", OK),
    (b'CREATE "Mine &AOQ-"', OK),
    (b'APPEND "Mine &AOQ-" %s %s' % (lit(MULTI), lit(BIG)), OK),
    (b'APPEND INBOX (\\Seen) CATENATE (URL "/Mine%20%C3%A4/;UID=1/;section=HEADER" TEXT {7+}\r\n\r\n--b\r\n '
     b'URL "/Mine%20%C3%A4/;UID=1/;section=1.MIME" URL "/Mine%20%C3%A4/;UID=1/;Section=2" TEXT {9+}\r\n\r\n--b--\r\n)',
     rb"TAG OK \[APPENDUID \d+ 1\]"),
    (b"SELECT INBOX", OK),
    (b"FETCH 1 (FLAGS BODY.PEEK[])", rb"\\Seen",
     re.escape(MULTI[:MULTI.index(b"--b")] + b"\r\n--b\r\nContent-Type: text/plain\r\n\r\nTWO\r\n--b--\r\n"), OK),
    # URLs alone, of the selected mailbox, as a literal; large ones; PARTIAL; HEADER.FIELDS
    (b'APPEND INBOX CATENATE (URL ";UID=1")', rb"APPENDUID \d+ 2\]", OK),
    (b"APPEND INBOX CATENATE (URL {7+}\r\n/;UID=1 TEXT {4+}\r\nend\n)", rb"APPENDUID \d+ 3\]", OK),
    (b'APPEND INBOX CATENATE (URL "/Mine%20%C3%A4/;UID=2" URL "/Mine%20%C3%A4/;UID=2/;SECTION=TEXT")', OK),
    (b"FETCH 4 BODY.PEEK[]", re.escape(BIG + BIG[BIG.index(b"0"):]), OK),
    (b'APPEND INBOX CATENATE (URL ";UID=1/;SECTION=HEADER.FIELDS%20(SUBJECT)" URL "/Mine%20%C3%A4/;UID=2/;SECTION=TEXT/;PARTIAL=2.5")', OK),
    (b"FETCH 5 BODY.PEEK[]", rb"\{29\}\r\nSubject: parts\r\n\r\n23456\)".replace(b"29", b"23"), OK),
    # several messages of all kinds in one command, and REPLACE
    (b'APPEND INBOX %s (\\Flagged) CATENATE (TEXT {4+}\r\nX: y URL ";UID=5") CATENATE (URL ";UID=5")' % lit(A),
     rb"APPENDUID \d+ 6:8\]", rb"\* 8 EXISTS", OK),
    (b'UID REPLACE 3 INBOX CATENATE (TEXT {5+}\r\nA: b\n URL "/INBOX/;UID=3")', rb"APPENDUID \d+ 9\]", rb"\* 3 EXPUNGE", OK),
    (b"FETCH 8 BODY.PEEK[]", rb"\r\nA: b\nFrom: x(?s:.*)end\n\)", OK),
    # what is none
    (b'APPEND INBOX CATENATE (TEXT {4+}\r\nX: y URL "/INBOX/;UID=77")', rb"TAG NO \[BADURL /INBOX/;UID=77\]"),
    (b'APPEND INBOX CATENATE (URL "/INBOX/;UID=1/;SECTION=9")', rb"TAG NO \[BADURL "),
    (b'APPEND INBOX CATENATE (URL "/INBOX;UIDVALIDITY=1/;UID=1")', rb"TAG NO \[BADURL "),
    (b'APPEND INBOX CATENATE (URL "/nowhere/;UID=1")', rb"TAG NO \[BADURL "),
    (b'APPEND INBOX CATENATE (URL "imap://elsewhere/INBOX/;UID=1")', rb"TAG NO \[BADURL "),
    (b'APPEND INBOX CATENATE (URL "/a]b/;UID=1" TEXT {4+}\r\nX: y)', rb"TAG NO \[BADURL /a\?b/;UID=1\]"),
    (b'APPEND INBOX CATENATE (URL ";UID=3")', rb"TAG NO \[BADURL "),
    (b'APPEND nowhere CATENATE (URL ";UID=1")', rb"TAG NO \[TRYCREATE\]"),
    (b"APPEND INBOX CATENATE ()", rb"TAG (NO|BAD)"),
    (b"APPEND INBOX CATENATE", BAD),
    (b"APPEND INBOX CATENATE (TEXT)", BAD),
    (b"APPEND INBOX CATENATE (TEXT x)", BAD),
    (b"APPEND INBOX CATENATE (FOO {1+}\r\nx)", BAD),
    (b"APPEND INBOX CATENATE (TEXT {0+}\r\n)", rb"TAG NO"),
    (b"APPEND INBOX CATENATE ({1+}\r\nx)", BAD),
    (b"APPEND INBOX CATENATE (TEXT (x {1+}\r\nx))", BAD),
    (b"APPEND INBOX (\\Seen {1+}\r\nx)", BAD),
    (b"STATUS INBOX (MESSAGES UIDNEXT)", rb"MESSAGES 8 UIDNEXT 10\)", OK),
]

TABLES = [CATENATE, BINARY, REPLACE, MULTIAPPEND, QRESYNC, APPENDLIMIT, CREATE_SPECIAL_USE]


class ImapChanges(mt.ClusterCase):
    FLAGS = ["--proxies", 1, "--backends", 1, "--users", 40, "--password", "pw"]

    def connect(self, name, user):
        wire = Wire(self.cluster.at(name, "imap"))
        self.addCleanup(wire.close)
        self.assertRegex(wire.ask(b"LOGIN user%04d@example.test pw" % user)[1], rb"\AOK")
        return wire

    def rows(self, wire, rows):
        for command, *patterns in rows:
            untagged, answer = wire.ask(command)
            text = b"".join(untagged) + b"TAG " + answer
            for pattern in patterns:
                if pattern.startswith(b"!"):
                    self.assertNotRegex(text, pattern[1:], command)
                else:
                    self.assertRegex(text, pattern, (command, text))

    def compress(self, wire):
        self.assertEqual(wire.ask(b"COMPRESS DEFLATE"), ([], b"OK Done\r\n"))
        wire.sock = Deflated(wire.sock)

    def test_compressed_sessions(self):
        """RFC 4978."""
        big = b"Subject: x\r\n\r\n" + b"".join(b"line %d of a long text\r\n" % i for i in range(60000))
        for i, at in enumerate(("b1", "p1")):
            with self.subTest(at=at):
                wire = self.connect(at, 15 + i)
                self.assertRegex(b"".join(wire.ask(b"CAPABILITY")[0]), rb" COMPRESS=DEFLATE")
                self.rows(wire, [(b"COMPRESS", BAD), (b"COMPRESS LZW", BAD), (b"COMPRESS DEFLATE X", BAD)])
                self.compress(wire)
                self.rows(wire, [(b"COMPRESS DEFLATE", rb"TAG BAD \[COMPRESSIONACTIVE\]"),
                                 (b"CAPABILITY", rb"!COMPRESS", OK),
                                 (b"APPEND INBOX %s %s" % (lit(big), lit(A)), rb"APPENDUID \d+ 1:2"),
                                 (b"SELECT INBOX", rb"\* 2 EXISTS", OK)])
                before = wire.sock.wire_in
                untagged, _ = wire.ask(b"FETCH 1 BODY.PEEK[]")
                self.assertIn(big, untagged[0])
                self.assertLess(wire.sock.wire_in - before, len(big) // 3)
                wire.send(b"i IDLE\r\n")
                self.assertRegex(wire.response(), rb"\A\+ ")
                other = self.connect("b1", 15 + i)
                other.ask(b"APPEND INBOX " + lit(B))
                self.assertRegex(wire.response(), rb"\* 3 EXISTS")
                wire.send(b"DONE\r\n")
                self.assertRegex(wire.answer(b"i")[1], rb"\AOK")
                self.assertRegex(wire.ask(b"LOGOUT")[0][-1], rb"\* BYE")

    def test_nothing_may_follow_compress_before_its_answer(self):
        wire = self.connect("b1", 17)
        wire.send(b"a COMPRESS DEFLATE\r\nb NOOP\r\n")
        self.assertRegex(wire.answer(b"a")[1], rb"\ABAD")
        self.assertRegex(wire.answer(b"b")[1], rb"\AOK")

    def test_security_23_compressed_commands_keep_their_limits(self):
        """Half a gigabyte of zeros in half a megabyte: as a line, as a literal, as nothing at all."""
        for command in (b"a NOOP ", b"a APPEND INBOX {104857600+}\r\n", b"a CREATE {2000000000+}\r\n", b""):
            wire = self.connect("b1", 17)
            self.compress(wire)
            pack = wire.sock.out
            wire.sock.sock.settimeout(60)
            try:
                wire.sock.sendall(command)
                for _ in range(64):
                    wire.sock.sock.sendall(pack.compress(b"a" * (8 << 20)))
                wire.sock.sock.sendall(pack.flush(zlib.Z_SYNC_FLUSH))
                while wire.response():
                    pass
            except (Closed, OSError, zlib.error):
                pass
            else:
                self.fail("still open")
        self.assertRegex(self.connect("b1", 17).ask(b"NOOP")[1], rb"\AOK")

    def test_security_15_a_url_reaches_no_other_account(self):
        other = self.connect("b1", 18)
        other.ask(b"CREATE theirs")
        other.ask(b"APPEND theirs " + lit(A))
        wire = self.connect("b1", 19)
        answers = {wire.ask(b'APPEND INBOX CATENATE (URL "%s/;UID=1")' % box)[1].replace(box, b"") for box in
                   (b"/theirs", b"/user0018@example.test/theirs", b"/nowhere", b"/..%2Ftheirs", b"/theirs%2F")}
        self.assertEqual(len(answers), 1, answers)
        self.assertRegex(answers.pop(), rb"\ANO \[BADURL ")

    def test_a_synchronising_part_is_asked_for_once_what_stands_before_it_is_there(self):
        wire = self.connect("b1", 20)
        wire.ask(b"APPEND INBOX " + lit(A))
        wire.send(b'a APPEND INBOX CATENATE (URL "/INBOX/;UID=9" TEXT {4}\r\n')
        self.assertRegex(wire.answer(b"a")[1], rb"\ANO \[BADURL")
        wire.send(b'b APPEND INBOX CATENATE (URL "/INBOX/;UID=1" TEXT {4}\r\n')
        self.assertRegex(wire.response(), rb"\A\+ ")
        wire.send(b"more)\r\n")
        self.assertRegex(wire.answer(b"b")[1], rb"\AOK \[APPENDUID \d+ 2\]")

    def test_tables_directly(self):
        for i, table in enumerate(TABLES):
            with self.subTest(table=i):
                self.rows(self.connect("b1", 1 + i), table)

    def test_tables_through_the_proxy(self):
        for i, table in enumerate(TABLES):
            with self.subTest(table=i):
                self.rows(self.connect("p1", 21 + i), table)


if __name__ == "__main__":
    import unittest
    unittest.main()
