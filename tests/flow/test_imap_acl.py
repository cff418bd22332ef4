"""Sharing over real programs: the table of RFC 4314 section 4, row by row with each right missing; a foreign mailbox that is there and
one that is not look alike in every command; public folders and the operator's verbs; two slots and a restart."""
import os
import re
import unittest

import mt
from backend_case import BackendCase
from imap_wire import Closed, Wire

MAIL = b"From: a@example.test\r\nSubject: shared\r\n\r\nThe secret word is xyzzy.\r\n"
OWNER, GUEST = "user0001@example.test", "user0002@example.test"
AT = b"user/" + OWNER.encode()


class Sharing(BackendCase):
    CONF = "slots = 2\n"
    USERS = 4

    def session(self, i):
        wire = Wire(self.cluster.at("b1", "imaps"), tls=self.loose())
        self.addCleanup(wire.sock.close)
        answer = self.ask(wire, f"LOGIN {self.user(i)} {self.password(i)}".encode())
        self.assertIn(b"TAG OK", answer)
        return wire

    @classmethod
    def loose(cls):
        context = cls.tls()
        context.check_hostname = False
        return context

    def ask(self, wire, command):
        """All of the answer, the tag normalised."""
        wire.n += 1
        tag = b"t%d" % wire.n
        wire.send(tag + b" " + command + b"\r\n")
        out = b""
        while True:
            line = wire.response()
            if line.startswith(tag + b" "):
                return out + b"TAG" + line[len(tag):]
            out += line

    def expect(self, wire, command, *patterns):
        answer = self.ask(wire, command)
        for pattern in patterns:
            self.assertRegex(answer, pattern, command)
        return answer

    def append(self, wire, box, flags=b""):
        return self.ask(wire, b"APPEND %s %s{%d+}\r\n%s" % (box, flags, len(MAIL), MAIL))

    def rights(self, owner, box, rights):
        self.expect(owner, b"SETACL %s %s %s" % (box, GUEST.encode(), rights or b'""'), rb"TAG OK")


class Table(Sharing):
    """RFC 4314 section 4. Every row: a command, the rights that it needs; with them it is OK, without any one of them NO."""

    def test_rows(self):
        owner, guest = self.session(1), self.session(2)
        self.expect(owner, b"CREATE t", rb"TAG OK")
        self.expect(owner, b"CREATE t/x", rb"TAG OK")
        for _ in range(3):
            self.append(owner, b"t")
        name = AT + b"/t"
        # what, rights needed, how to undo (as the owner)
        rows = [
            (b"SELECT " + name, b"r", None),
            (b"EXAMINE " + name, b"r", None),
            (b"STATUS " + name + b" (MESSAGES)", b"r", None),
            (b"SUBSCRIBE " + name, b"l", None),
            (b"CREATE " + name + b"/new", b"k", b"DELETE t/new"),
            (b"RENAME " + name + b"/x " + name + b"/y", b"kx", b"RENAME t/y t/x"),
            (b"DELETE " + name + b"/x", b"x", b"CREATE t/x"),
            (b"GETACL " + name, b"a", None),
            (b"LISTRIGHTS " + name + b" " + GUEST.encode(), b"a", None),
            (b"SETACL " + name + b" user0003@example.test l", b"a", b"DELETEACL t user0003@example.test"),
            (b"DELETEACL " + name + b" user0003@example.test", b"a", None),
            (b"APPEND " + name + b" {%d+}\r\n%s" % (len(MAIL), MAIL), b"i", None),
            (b"GETQUOTAROOT " + name, b"r", None),
        ]
        for command, needed, undo in rows:
            for lookup in (b"l", b""):
                if needed == b"l" and lookup == b"":
                    continue
                full = needed + lookup
                for box in (b"t", b"t/x"):
                    self.rights(owner, box, full)
                self.expect(guest, command, rb"(?m)^TAG OK")
                if undo:
                    self.expect(owner, undo, rb"TAG OK")
                for missing in needed:
                    left = bytes(c for c in b"lrswipkxtea" if c != missing and (c != ord("l") or lookup))
                    for box in (b"t", b"t/x"):
                        self.rights(owner, box, left)
                    word = rb"(?m)^TAG NO \[(NOPERM|TRYCREATE)\]" if b"l" in left else rb"(?m)^TAG NO \[(NONEXISTENT|TRYCREATE)\]"
                    self.expect(guest, command, word)
        # in selected state
        for box in (b"t", b"t/x"):
            self.rights(owner, box, b"")
        selected = [
            (b"EXPUNGE", b"e", rb"TAG OK", rb"TAG NO \[NOPERM\]"),
            (b"UID EXPUNGE 1:*", b"e", rb"TAG OK", rb"TAG NO \[NOPERM\]"),
            (b"CLOSE", b"e", rb"TAG OK", rb"TAG OK"),
            (rb"STORE 1 +FLAGS.SILENT (\Seen)", b"s", rb"TAG OK", rb"TAG NO \[NOPERM\]"),
            (rb"STORE 1 +FLAGS.SILENT (\Answered)", b"w", rb"TAG OK", rb"TAG NO \[NOPERM\]"),
            (rb"STORE 1 +FLAGS.SILENT ($k)", b"w", rb"TAG OK", rb"TAG NO \[NOPERM\]"),
            (rb"STORE 1 +FLAGS.SILENT (\Deleted)", b"t", rb"TAG OK", rb"TAG NO \[NOPERM\]"),
            (rb"STORE 1 -FLAGS.SILENT (\Deleted)", b"t", rb"TAG OK", rb"TAG NO \[NOPERM\]"),
            (rb"STORE 1 +FLAGS.SILENT (\Deleted \Answered)", b"w", rb"TAG OK", rb"TAG OK"),
            (b"FETCH 2 BODY[]", b"s", rb"\A\* 2 FETCH \(FLAGS \(\\Seen\) BODY\[\] ", rb"\A\* 2 FETCH \(BODY\[\] "),
            (b"SEARCH ALL", b"", rb"TAG OK", None),
            (b"UID SEARCH RETURN (COUNT) TEXT xyzzy", b"", rb"COUNT", None),
        ]
        for command, needed, good, bad in selected:
            self.rights(owner, b"t", b"lr" + needed)
            self.expect(guest, b"SELECT " + name, rb"(?m)^TAG OK")
            self.expect(guest, command, good)
            if not needed:
                continue
            self.expect(owner, b"SELECT t", rb"TAG OK")
            self.expect(owner, rb"STORE 1:* -FLAGS.SILENT (\Deleted \Answered)", rb"TAG OK")
            self.expect(owner, b"UNSELECT", rb"TAG OK")
            self.rights(owner, b"t", bytes(c for c in b"lrswipkxtea" if c not in needed))
            self.expect(guest, b"SELECT " + name, rb"(?m)^TAG OK")
            self.expect(guest, command, bad)
        # LIST with STATUS: who may look a mailbox up is not told what is in it
        asks = b'LIST "" %s RETURN (STATUS (MESSAGES UIDNEXT UIDVALIDITY SIZE UNSEEN HIGHESTMODSEQ MAILBOXID))' % name
        self.ask(guest, b"UNSELECT")
        self.rights(owner, b"t", b"lswipkxtea")
        self.assertNotIn(b"* STATUS", self.expect(guest, asks, rb"(?m)^\* LIST ", rb"TAG OK"))
        self.rights(owner, b"t", b"lr")
        self.expect(guest, asks, rb"(?m)^\* STATUS \S+ \(MESSAGES \d", rb"TAG OK")
        # \Seen is not set by who lacks "s"
        self.rights(owner, b"t", b"lrwtei")
        self.expect(guest, b"SELECT " + name, rb"(?m)^TAG OK")
        self.expect(guest, b"FETCH 3 BODY[]", rb"\A\* 3 FETCH \(BODY\[\] ")
        self.expect(guest, b"FETCH 3 FLAGS", rb"FLAGS \(\)")
        self.rights(owner, b"t", b"lrw")
        self.expect(guest, b"SELECT " + name, rb"PERMANENTFLAGS \(\\Answered \\Flagged \\Draft", rb"TAG OK \[READ-WRITE\]")
        self.rights(owner, b"t", b"lrs")
        self.expect(guest, b"SELECT " + name, rb"PERMANENTFLAGS \(\\Seen\)", rb"TAG OK \[READ-ONLY\]")
        self.expect(guest, b"UNSELECT", rb"TAG OK")
        # MYRIGHTS wants any of l r i k x a
        for letter in b"lrikxa":
            self.rights(owner, b"t", bytes([letter]))
            self.expect(guest, b"MYRIGHTS " + name, rb"\* MYRIGHTS \S+ %cc?\r\n" % letter, rb"(?m)^TAG OK")
        self.rights(owner, b"t", b"swpte")
        self.expect(guest, b"MYRIGHTS " + name, rb"TAG NO \[NONEXISTENT\]")
        # APPEND keeps what the rights reach, and fails for none
        self.rights(owner, b"t", b"lri")
        self.assertIn(b"TAG OK [APPENDUID", self.append(guest, name, rb"(\Seen \Deleted \Answered $z) "))
        self.expect(owner, b"SELECT t", rb"TAG OK")
        self.expect(owner, b"FETCH * FLAGS", rb"FLAGS \((\\Recent)?\)")


class Alike(Sharing):
    """Security class 15: in every command, another's mailbox that is there and one that is not are answered alike."""

    COMMANDS = [
        b"SELECT %s", b"EXAMINE %s", b"SELECT %s (CONDSTORE)", b"STATUS %s (MESSAGES UIDNEXT UNSEEN SIZE)", b"CREATE %s", b"CREATE %s/below",
        b"DELETE %s", b"RENAME %s mine", b"RENAME %s %s2", b"RENAME own %s", b"SUBSCRIBE %s", b"UNSUBSCRIBE %s", b'LIST "" %s',
        b'LIST "" %s/*', b'LIST "" %s*', b'LIST (SUBSCRIBED) "" %s', b'LIST "" %s RETURN (MYRIGHTS STATUS (MESSAGES))', b'LSUB "" %s',
        b"APPEND %s {5+}\r\nA: b\n", b"APPEND %s CATENATE (URL \"/INBOX;UID=1\")", b"APPEND INBOX CATENATE (URL \"/%s;UID=1\")",
        b"GETQUOTAROOT %s", b"GETQUOTA %s", b"SETQUOTA %s (STORAGE 5)", b"GETACL %s", b"SETACL %s user0003@example.test lr",
        b"DELETEACL %s user0003@example.test", b"LISTRIGHTS %s user0003@example.test", b"MYRIGHTS %s", b"GETMETADATA %s /private/comment",
        b"GETMETADATA %s /shared/comment", b'SETMETADATA %s (/private/comment "x")', b"ESEARCH IN (mailboxes %s) ALL",
        b"ESEARCH IN (subtree %s) ALL", b"ESEARCH IN (subtree-one (INBOX %s)) TEXT xyzzy", b"COPY 1 %s", b"UID COPY 1 %s", b"MOVE 1 %s",
        b"UID MOVE 1 %s", b"REPLACE 1 %s {5+}\r\nA: b\n", b"UID REPLACE 1 %s {5+}\r\nA: b\n", b"FETCH 1 %s", b"SEARCH TEXT %s",
        b"NOTIFY SET (mailboxes %s (MessageNew MessageExpunge))", b"IDLE %s", b"THREAD REFERENCES UTF-8 SUBJECT %s", b"NAMESPACE %s",
        b"NOTIFY SET STATUS (subtree %s (MessageNew MessageExpunge MailboxName))", b"UID THREAD REFERENCES UTF-8 SUBJECT %s",
        b"SORT (SUBJECT) UTF-8 TEXT %s", b"UID SORT (SUBJECT) UTF-8 HEADER X %s", b"UID SEARCH RETURN (COUNT) TEXT %s",
        b"UID FETCH 1 (BODY.PEEK[HEADER.FIELDS (%s)])", b"STORE 1 %s", b"UID STORE 1 %s", b"EXPUNGE %s", b"UID EXPUNGE %s", b"CHECK %s",
        b"CLOSE %s", b"UNSELECT %s", b"CAPABILITY %s", b"NOOP %s", b"LOGOUT %s", b'ID ("name" "%s")', b"LOGIN %s x", b"AUTHENTICATE %s",
        b"STARTTLS %s", b"UNAUTHENTICATE %s", b"ENABLE %s", b"COMPRESS %s",
    ]
    SPECIAL = [b'LIST "" *', b'LIST "" %', b'LIST "" user/%', b'LIST "" user/*', b'LSUB "" *', b'LIST (SUBSCRIBED) "" *', b"NAMESPACE",
               b"ESEARCH IN (subtree user) ALL", b"ESEARCH IN (subscribed) ALL", b"ESEARCH IN (personal) TEXT xyzzy"]

    def test_security_15_every_command_is_among_these(self):
        """By the table that the server looks commands up in, whatever it advertises: a new verb is compared, too."""
        with open(os.path.join(mt.ROOT, "backend", "session", "imap_cmd.c")) as f:
            table = re.search(r"commands\[\] = \{\n(.*?)\n\};", f.read(), re.S)[1]
        verbs = re.findall(r'^\t\{"([A-Z ]+)", ', table, re.M)
        self.assertEqual(len(verbs), table.count("{"))
        words = [c.decode().split() for c in self.COMMANDS if b"%s" in c]
        known = {" ".join(w[:2]) if w[0] == "UID" else w[0] for w in words}
        self.assertEqual(set(verbs) - known, set(), "commands that are not compared with a foreign mailbox's name")
        self.assertEqual(known - set(verbs), set(), "there are no such commands")

    def test_security_15_a_foreign_mailbox_and_none_look_alike(self):
        owner = self.session(1)
        self.expect(owner, b"CREATE there", rb"TAG OK")
        self.append(owner, b"there")
        self.append(owner, b"INBOX")
        self.expect(owner, b"CREATE shown", rb"TAG OK")
        # A right that opens nothing that is asked for leaves it as unseen as none.
        for rights in (b"", b"p", b"st"):
            self.rights(owner, b"there", rights)
            self.check()
        self.rights(owner, b"there", b"")
        # What is shared beside it does not give it away either.
        self.rights(owner, b"shown", b"lrsk")
        self.check(shows=b"shown")

    def check(self, shows=None):
        guest = self.session(2)
        self.expect(guest, b"CREATE own", rb"TAG (OK|NO)")
        for _ in range(2):
            self.append(guest, b"INBOX")
        nobody = b"user/user9999@example.test"
        pairs = [(AT + b"/there", AT + b"/nothere"), (AT + b"/INBOX", nobody + b"/INBOX"), (AT + b"/there", nobody + b"/there"),
                 (AT, nobody), (AT + b"/", nobody + b"/"), (b"Public/there", b"Public/nothere"), (b"user/" + OWNER.upper().encode() + b"/there", b"user/USER9999@EXAMPLE.TEST/there")]
        if shows:
            pairs = pairs[:1]
        for one, other in pairs:
            for command in self.COMMANDS:
                answers = []
                for name in (one, other):
                    self.expect(guest, b"SELECT INBOX", rb"TAG OK")
                    wire = guest
                    answer = self.ask(wire, command % tuple([name] * command.count(b"%s")))
                    if answer.startswith(b"+ "):
                        answer += self.ask(wire, b"DONE")
                    self.assertNotIn(b"xyzzy", re.sub(rb"(?m)^TAG.*", b"", answer), (command, name))
                    # Only the name that was asked about differs, and only where it is said again; numbers of one's own
                    # mailbox go on.
                    answer = answer.replace(name, b"NAME")
                    answer = answer.replace(name.rpartition(b"/")[2] or name, b"LAST")
                    answers.append(re.sub(rb"\d+ (EXISTS|RECENT)|HIGHESTMODSEQ \d+|t\d+", b"", answer))
                    # back to the same state
                    self.ask(wire, b"UNSUBSCRIBE " + name)
                self.assertEqual(answers[0], answers[1], (command, one, other))
        for command in self.SPECIAL:
            answer = self.ask(guest, command)
            for word in (b"there", b"xyzzy"):
                self.assertNotIn(word, answer, command)
            if not shows:
                self.assertNotIn(b"user0001", answer, command)


class Public(Sharing):
    def test_public_folders_and_the_operators_verbs(self):
        ctl = self.cluster.ctl
        guest, other = self.session(2), self.session(3)
        self.expect(guest, b"NAMESPACE", rb'\(\("user/" "/"\)\) NIL')
        ctl("b1", "public", "add", "example.test", "News")
        ctl("b1", "public", "add", "example.test", "News/2026")
        ctl("b1", "public", "add", "example.test", "Board", "--rights", "")
        self.assertEqual(ctl("b1", "public", "add", "nowhere.test", "News", code=None)[0], 1)
        self.expect(guest, b"NAMESPACE", rb'\(\("Public/" "/"\)\)')
        self.expect(guest, b'LIST "" *', rb'\(\\HasChildren\) "/" Public/News\r\n', rb'"/" Public/News/2026\r\n')
        self.assertNotIn(b"Board", self.ask(guest, b'LIST "" *'))
        self.expect(guest, b'LIST "" %', rb'\\Noselect\) "/" Public\r\n')
        self.expect(guest, b"MYRIGHTS Public/News", rb"MYRIGHTS Public/News lrs\r\n")
        self.expect(guest, b"APPEND Public/News {5+}\r\nA: b\n", rb"TAG NO \[NOPERM\]")
        ctl("b1", "acl", "set", "@example.test", "News", GUEST, "lrswite")
        self.assertIn(b"TAG OK [APPENDUID", self.append(guest, b"Public/News"))
        self.expect(other, b"SELECT Public/News", rb"\* 1 EXISTS", rb"TAG OK \[READ-ONLY\]")
        self.expect(other, b"FETCH 1 BODY[]", rb"\\Seen")
        self.expect(guest, b"STATUS Public/News (UNSEEN)", rb"UNSEEN 1")
        self.expect(other, b"STATUS Public/News (UNSEEN)", rb"UNSEEN 0")
        # a denial is stronger than what anyone has
        ctl("b1", "acl", "set", "@example.test", "News/2026", "--", "-user0003@example.test", "lr")
        self.expect(other, b"SELECT Public/News/2026", rb"TAG NO \[NONEXISTENT\]")
        rows = ctl("b1", "acl", "list", "@example.test", "News/2026")
        self.assertIn("-user0003@example.test", rows)
        self.assertIn("anyone", rows)
        ctl("b1", "acl", "remove", "@example.test", "News/2026", "--", "-user0003@example.test")
        self.assertEqual(ctl("b1", "acl", "remove", "@example.test", "News/2026", "--", "-user0003@example.test", code=None)[0], 1)
        self.expect(other, b"EXAMINE Public/News/2026", rb"TAG OK")
        self.assertIn("News/2026", ctl("b1", "public", "list", "example.test"))
        # nobody logs in as it, nobody mails it
        stranger = Wire(self.cluster.at("b1", "imaps"), tls=self.loose())
        self.addCleanup(stranger.sock.close)
        self.assertIn(b"TAG NO", self.ask(stranger, b'LOGIN "#public@example.test" ""'))
        # IDLE in another's mailbox hears of arrivals
        self.expect(other, b"SELECT Public/News", rb"TAG OK")
        other.send(b"i1 IDLE\r\n")
        self.assertTrue(other.response().startswith(b"+ "))
        self.append(guest, b"Public/News")
        self.assertEqual(other.response(), b"* 2 EXISTS\r\n")
        other.send(b"DONE\r\n")
        while not other.response().startswith(b"i1 OK"):
            pass
        ctl("b1", "public", "remove", "example.test", "News/2026")
        self.assertNotIn("News/2026", ctl("b1", "public", "list", "example.test"))
        # no user has the address of public folders, nor is let in there
        for words in (("account", "add", "#public@other.test"), ("account", "rename", "user0004@example.test", "#public@other.test"),
                      ("account", "rename", "#public@example.test", "user0009@example.test"),
                      ("account", "set", "user0004@example.test", "--alias", "#PUBLIC@other.test"),
                      ("account", "set", "#public@example.test", "--enable"), ("account", "set", "#public@example.test", "--take-mail"),
                      ("account", "set", "#public@example.test", "--hash", "{PLAIN}x")):
            self.assertEqual(ctl("b1", *words, code=None)[0], 1, words)
        ctl("b1", "account", "set", "#public@example.test", "--quota", "1G")
        # who shares with an account that goes
        self.expect(guest, b"SETACL INBOX user0004@example.test lr", rb"TAG OK")
        ctl("b1", "account", "remove", "user0004@example.test")
        self.assertNotIn(b"user0004", self.ask(guest, b"GETACL INBOX"))
        mt.wait_for(lambda: self.cluster.ctl_json("b1", "store", "stat")["intents"] == 0, 10, "the account is forgotten")
        self.assertIn("0", ctl("b1", "store", "check"))

    def test_lists_say_the_same_of_shared_mailboxes(self):
        """RFC 5258, 5819, 9590, 5464: the owner of a tree and a guest who has all rights on it are told the same of it."""
        owner, guest = self.session(1), self.session(2)
        at = AT + b"/"
        made = (b"t", b"t/a", b"t/a/b", b"t/a/b/c", b"t/d", b"t/d/e", b"u", b"u/v", b"u/v/w", b"t/gone", b"t/gone/x", b"zz", b"zz/y")
        for name in made:
            self.expect(owner, b"CREATE " + name, rb"TAG OK")
            self.rights(owner, name, b"lrswipkxtea")
        self.append(owner, b"t/a")
        for name in (b"t/a/b", b"t/d/e", b"u/v/w", b"t/gone", b"t/gone/x", b"zz/y"):
            self.expect(owner, b"SUBSCRIBE " + name, rb"TAG OK")
            self.expect(guest, b"SUBSCRIBE " + at + name, rb"TAG OK")
        for name in (b"t/gone/x", b"t/gone", b"zz/y", b"zz"):
            self.expect(owner, b"DELETE " + name, rb"TAG OK")
        for wire, prefix in ((owner, b""), (guest, at)):
            self.expect(wire, b'SETMETADATA %st/a (/shared/comment "hello" /private/comment "mine")' % prefix, rb"TAG OK")

        def same(command, patterns=()):
            """%p stands for the prefix."""
            own, shared = (self.ask(w, command.replace(b"%p", p)).replace(p or b"\0", b"") for w, p in ((owner, b""), (guest, at)))
            ours = re.compile(rb"\* \S+ (?:\([^)]*\) \"/\" )?(?:t|u|zz)(?:/\S*)?[ \r]|TAG")  # of the tree, not of INBOX and the like
            own, shared = (sorted(line for line in re.findall(rb"[^\n]+\n", answer) if ours.match(line)) for answer in (own, shared))
            self.assertEqual(own, shared, command)
            self.assertTrue(own, command)

        for word, selections, returns in (
                (b"LIST", (b"", b"(SUBSCRIBED) ", b"(SUBSCRIBED RECURSIVEMATCH) ", b"(REMOTE) ", b"(SPECIAL-USE) "),
                 (b"", b" RETURN (SUBSCRIBED CHILDREN MYRIGHTS)", b" RETURN (STATUS (MESSAGES UIDNEXT UIDVALIDITY UNSEEN SIZE HIGHESTMODSEQ))",
                  b" RETURN (METADATA (/shared/comment /private/comment))")),
                (b"LSUB", (b"",), (b"",))):
            for selection in selections:
                for pattern in (b"%pt", b"%pt/%", b"%pt/*", b"%pt/a/%", b"%p%", b"%p*", b"%pu", b"%pu/%", b"%pzz", b"%pzz/%", b"%pt*", b"(%pt/% %pu/v)"):
                    for ret in returns:
                        if word == b"LIST" or not pattern.startswith(b"("):
                            same(word + b" " + selection + b'"" ' + pattern + ret)
        for command in (b"GETMETADATA %pt/a (/shared/comment /private/comment)", b"GETMETADATA (DEPTH 1) %pt/a /shared",
                        b"GETMETADATA (MAXSIZE 2) %pt/a /shared/comment", b"GETMETADATA %pt/none /shared/comment",
                        b"SETMETADATA %pt/a (/shared/comment NIL)", b"GETMETADATA %pt/a /shared/comment",
                        b"STATUS %pt/a (MESSAGES UIDNEXT UNSEEN SIZE DELETED APPENDLIMIT MAILBOXID)"):
            same(command)
        # owners in both slots: what leads to them is told once
        ctl = self.cluster.ctl
        ctl("b1", "account", "add", "far@example.test", "--hash", "{PLAIN}secret")
        slots = [self.cluster.ctl_json("b1", "account", "show", name)["slot"] for name in (OWNER, "far@example.test")]
        if slots[0] == slots[1]:
            ctl("b1", "account", "move", "far@example.test", "--slot", 1 - slots[0])
        other = Wire(self.cluster.at("b1", "imaps"), tls=self.loose())
        self.addCleanup(other.sock.close)
        self.assertIn(b"TAG OK", self.ask(other, b"LOGIN far@example.test secret"))
        self.expect(other, b"CREATE theirs", rb"TAG OK")
        self.rights(other, b"theirs", b"lr")
        self.expect(guest, b"SUBSCRIBE user/far@example.test/theirs", rb"TAG OK")
        for command in (b'LIST "" %', b'LSUB "" %', b'LIST (SUBSCRIBED RECURSIVEMATCH) "" %'):
            self.assertEqual(len(re.findall(rb'"/" user\b', self.ask(guest, command))), 1, command)

    def test_security_15_a_session_ends_with_what_its_name_meant(self):
        """An account that is moved, replaced, renamed into another domain, or whose name is another's now: no session that began before
        goes on, and none is told that it has no mailboxes."""
        ctl = self.cluster.ctl

        def login(address):
            wire = Wire(self.cluster.at("b1", "imaps"), tls=self.loose())
            self.addCleanup(wire.sock.close)
            self.assertIn(b"TAG OK", self.ask(wire, b"LOGIN %s secret" % address.encode()))
            return wire

        def ended(wire):
            try:
                while True:
                    answer = self.ask(wire, b'LIST "" *')
                    self.assertTrue(b" INBOX\r\n" in answer or answer.startswith(b"TAG NO"), answer)
            except (AssertionError, OSError) as e:
                return isinstance(e, (Closed, OSError))

        ctl("b1", "account", "add", "mover@example.test", "--hash", "{PLAIN}secret")
        slot = self.cluster.ctl_json("b1", "account", "show", "mover@example.test")["slot"]
        wire = login("mover@example.test")
        ctl("b1", "account", "move", "mover@example.test", "--slot", 1 - slot)
        self.assertTrue(ended(wire))
        wire = login("mover@example.test")
        path = os.path.join(self.cluster.dir, "mover")
        ctl("b1", "store", "export", "mover@example.test", path)
        ctl("b1", "store", "import", path, "--replace")
        self.assertTrue(ended(wire))
        wire = login("mover@example.test")
        ctl("b1", "account", "rename", "mover@example.test", "moved@example.test", "--keep-alias")
        self.expect(wire, b"NOOP", rb"TAG OK")
        ctl("b1", "account", "rename", "moved@example.test", "moved@other.test", "--keep-alias")
        self.assertTrue(ended(wire))


if __name__ == "__main__":
    unittest.main()
