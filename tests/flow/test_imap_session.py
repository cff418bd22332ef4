"""IMAP after login with independent clients (imaplib and raw sockets) against a real back-end, and through a proxy: sequence numbers
under concurrency, IDLE, slow readers, and one user apart from another over every verb (security class 15)."""
import imaplib
import os
import random
import re
import ssl
import threading

import mt

DOMAIN = "example.test"
MAIL = b"From: a@example.org\r\nSubject: number %d\r\nMessage-ID: <%d@example.org>\r\n\r\nbody %d\r\n"


class Raw:
    """One IMAP connection, command by command; answers as bytes with the tag taken out."""

    def __init__(self, sock):
        self.file = sock.makefile("rwb")
        self.sock = sock
        self.n = 0
        self.greeting = self.file.readline()

    def read_until(self, start):
        out = b""
        while True:
            line = self.file.readline()
            if not line:
                raise AssertionError(f"closed; so far {out[-2000:]!r}")
            out += line
            literal = re.search(rb"\{(\d+)\}\r\n$", line)
            if literal:
                out += self.file.read(int(literal[1]))
                continue
            if line.startswith(start) or b"\n" + start in out[-len(line) - 2:]:
                return out

    def send(self, data):
        self.file.write(data)
        self.file.flush()

    def ask(self, command):
        self.n += 1
        tag = b"t%d " % self.n
        self.send(tag + command + b"\r\n")
        return self.read_until(tag).replace(tag, b"TAG ")

    def close(self):
        self.file.close()
        self.sock.close()


class ImapCase(mt.ClusterCase):
    FLAGS = ["--proxies", 1, "--backends", 2, "--users", 8]
    PEER = "p1"

    def raw(self, user):
        import socket
        host, port = self.cluster.at(self.PEER, "imaps")
        context = ssl.create_default_context(cafile=self.cluster.ca)
        context.check_hostname = False
        raw = Raw(context.wrap_socket(socket.create_connection((host, port), timeout=30)))
        self.addCleanup(raw.close)
        self.assertIn(b"TAG OK", raw.ask(f'LOGIN user{user:04}@{DOMAIN} pass{user:04}'.encode()))
        return raw

    def append(self, raw, mailbox, i, flags=b""):
        mail = MAIL % (i, i, i)
        answer = raw.ask(b"APPEND %s %s{%d+}\r\n%s" % (mailbox, flags, len(mail), mail))
        self.assertIn(b"TAG OK [APPENDUID ", answer)
        return int(re.search(rb"APPENDUID \d+ (\d+)", answer)[1])

    def expect(self, raw, command, *words):
        answer = raw.ask(command)
        for word in words:
            self.assertIn(word, answer, command)
        return answer


class Session(ImapCase):
    def test_idle_hears_of_what_another_session_does(self):
        a, b = self.raw(1), self.raw(1)
        self.append(a, b"INBOX", 1)
        for s in (a, b):
            self.expect(s, b"SELECT INBOX", b"EXISTS", b"TAG OK [READ-WRITE]")
        b.send(b"i IDLE\r\n")
        b.read_until(b"+ ")
        self.append(a, b"INBOX", 2)
        b.read_until(b"* 2 EXISTS")
        a.ask(b"STORE 1 +FLAGS (\\Deleted $told)")
        self.assertIn(b"$told", b.read_until(b"* 1 FETCH"))
        a.ask(b"EXPUNGE")
        b.read_until(b"* 1 EXPUNGE")
        b.send(b"DONE\r\n")
        b.read_until(b"i OK")

    def test_expunge_waits_for_its_moment(self):
        a, b = self.raw(2), self.raw(2)
        uids = [self.append(a, b"INBOX", i) for i in range(5)]
        for s in (a, b):
            s.ask(b"SELECT INBOX")
        a.ask(b"STORE 2 +FLAGS.SILENT (\\Deleted)")
        a.ask(b"EXPUNGE")
        self.assertNotIn(b"EXPUNGE", b.ask(b"FETCH 1:5 UID").replace(b"EXPUNGEISSUED", b""))
        self.assertIn(b"* 3 FETCH (UID %d)" % uids[2], b.ask(b"FETCH 3 UID"))
        self.assertIn(b"* 2 EXPUNGE", b.ask(b"NOOP"))
        self.assertIn(b"* 2 FETCH (UID %d)" % uids[2], b.ask(b"FETCH 2 UID"))

    def test_imaplib_goes_its_ways(self):
        context = ssl.create_default_context(cafile=self.cluster.ca)
        context.check_hostname = False
        m = imaplib.IMAP4_SSL(*self.cluster.at(self.PEER, "imaps"), ssl_context=context)
        m.login(f"user0003@{DOMAIN}", "pass0003")
        for i in range(10):
            self.assertEqual(m.append("INBOX", "(\\Seen)" if i % 2 else None, None, MAIL % (i, i, i))[0], "OK")
        self.assertEqual(m.select("INBOX"), ("OK", [b"10"]))
        self.assertEqual(m.search(None, "UNSEEN"), ("OK", [b"1 3 5 7 9"]))
        self.assertEqual(m.uid("SEARCH", "SUBJECT", '"number 4"')[1], [b"5"])
        self.assertEqual(m.fetch("5", "(RFC822)")[1][0][1], MAIL % (4, 4, 4))
        self.assertEqual(m.copy("1:3", "Archive")[0], "OK")
        self.assertEqual(m.create("Projects/2026")[0], "OK")
        self.assertEqual(m.uid("MOVE", "4:5", "Projects/2026")[0], "OK")
        self.assertEqual(m.store("1", "+FLAGS", "(\\Deleted)")[0], "OK")
        self.assertEqual(m.expunge()[1][-1], b"1")
        self.assertEqual(m.status("Projects/2026", "(MESSAGES UNSEEN)")[1], [b"Projects/2026 (MESSAGES 2 UNSEEN 0)"])
        self.assertEqual(m.rename("Projects/2026", "Done")[0], "OK")
        self.assertIn(b'"/" Done', b"\n".join(m.list()[1]))
        self.assertEqual(m.getquotaroot("INBOX")[0], "OK")
        self.assertEqual(m.namespace(), ("OK", [b'(("" "/")) (("user/" "/")) NIL']))
        self.assertEqual(m.close()[0], "OK")
        self.assertEqual(m.logout()[0], "BYE")

    def test_a_slow_reader_holds_no_memory(self):
        if mt.VARIANT not in ("release", "faults"):
            self.skipTest("sanitizers keep what is freed")
        raw = self.raw(4)
        body = b"Subject: big\r\n\r\n" + b"0123456789abcdef" * 64 * 1024 * 12
        self.assertIn(b"TAG OK", raw.ask(b"APPEND INBOX {%d+}\r\n%s" % (len(body), body)))
        raw.ask(b"SELECT INBOX")
        name = next(b for b in ("b1", "b2") if self.cluster.ctl_json(b, "account", "list") and
                    "user0004" in self.cluster.ctl(b, "account", "list"))
        before = self.rss(name)
        readers = [self.raw(4) for _ in range(8)]
        for r in readers:
            r.ask(b"SELECT INBOX")
            r.send(b"x FETCH 1 BODY.PEEK[]\r\n")
            r.file.readline()
        # Eight answers of 12 MiB each are under way and nobody reads.
        self.assertLess(self.rss(name) - before, 24 << 20)
        self.assertIn(b"x OK", readers[0].read_until(b"x OK"))

    def rss(self, name):
        with open(f"/proc/{self.cluster.pid(name)}/statm") as f:
            return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Concurrency(ImapCase):
    SESSIONS = 4
    ROUNDS = 60

    def work(self, session, seed):
        """Keeps its own list of UIDs by EXISTS and EXPUNGE alone, as a client does; says what it ended with."""
        dice = random.Random(seed)
        try:
            raw = self.raw(5)
            uids = []

            def hear(answer):
                for number, word, uid in re.findall(rb"^\* (\d+) (EXISTS|EXPUNGE|FETCH \(UID (\d+))", answer, re.M):
                    if word == b"EXPUNGE":
                        del uids[int(number) - 1]
                        continue
                    if word == b"EXISTS":
                        uids.extend([0] * (int(number) - len(uids)))
                        continue
                    known = uids[int(number) - 1]
                    if known not in (0, int(uid)):
                        raise AssertionError(f"number {number.decode()} was {known} and is {uid.decode()}")
                    uids[int(number) - 1] = int(uid)

            hear(raw.ask(b"SELECT INBOX"))
            for i in range(self.ROUNDS):
                do = dice.randrange(6)
                if do < 2:
                    mail = MAIL % (i, i, i)
                    hear(raw.ask(b"APPEND INBOX {%d+}\r\n%s" % (len(mail), mail)))
                elif do == 2 and uids:
                    hear(raw.ask(b"UID STORE %d +FLAGS (\\Deleted)" % max(1, uids[dice.randrange(len(uids))])))
                elif do == 3:
                    hear(raw.ask(b"EXPUNGE"))
                elif do == 4 and uids:
                    hear(raw.ask(b"FETCH 1:%d (UID FLAGS)" % len(uids)))
                else:
                    hear(raw.ask(b"NOOP"))
            self.barrier.wait(60)
            hear(raw.ask(b"NOOP"))
            hear(raw.ask(b"FETCH 1:* (UID)"))
            self.ends[session] = uids
        except Exception as e:
            self.errors.append(e)
            self.barrier.abort()

    def test_four_sessions_keep_their_numbers(self):
        self.ends, self.errors = {}, []
        self.barrier = threading.Barrier(self.SESSIONS)
        self.append(self.raw(5), b"INBOX", 0)
        threads = [threading.Thread(target=self.work, args=(i, 100 + i)) for i in range(self.SESSIONS)]
        for t in threads:
            t.start()
        for t in threads:
            t.join(120)
        self.assertEqual(self.errors, [])
        self.assertEqual(len(self.ends), self.SESSIONS)
        self.assertTrue(all(e == self.ends[0] for e in self.ends.values()), self.ends)


# Every verb, also with names that might lead elsewhere. SECRET stands in the other user's mail and mailbox names.
FOREIGN = [b"Secret", b"user0007@example.test/INBOX", b"user0007/Secret", b"/Secret", b"../user0007/Secret", b"~user0007/INBOX",
           b"#user/user0007", b"&AHMAZQBjAHIAZQB0-", b"INBOX/Secret"]
NAMED = [b"SELECT %s", b"EXAMINE %s", b"STATUS %s (MESSAGES UIDNEXT UIDVALIDITY SIZE)", b"DELETE %s", b"RENAME %s Mine", b"SUBSCRIBE %s",
         b"UNSUBSCRIBE %s", b'LIST "" %s', b'LIST "" (%s)', b'LIST %s *', b'LSUB "" %s', b"APPEND %s {3+}\r\nabc", b"GETQUOTAROOT %s",
         b"GETQUOTA %s"]
OWN = [b'LIST "" *', b'LSUB "" *', b'LIST (SUBSCRIBED RECURSIVEMATCH) "" % RETURN (STATUS (MESSAGES SIZE))', b'LIST (SPECIAL-USE) "" *',
       b"SELECT INBOX", b"FETCH 1:* (UID FLAGS ENVELOPE BODYSTRUCTURE RFC822.SIZE BODY[])", b"UID FETCH 1:4294967295 BODY.PEEK[]",
       b"FETCH 1:* (EMAILID THREADID PREVIEW SAVEDATE)", b"SORT (SUBJECT) UTF-8 ALL", b"THREAD REFERENCES UTF-8 ALL",
       b"THREAD ORDEREDSUBJECT UTF-8 TEXT topsecret", b"SEARCH RETURN (SAVE) ALL", b"FETCH $ BODY[]",
       b"ESEARCH IN (personal subtree INBOX mailboxes Secret) RETURN (ALL COUNT) ALL",
       b"SEARCH ALL", b"SEARCH TEXT topsecret", b"UID SEARCH RETURN (ALL COUNT) MODSEQ 1", b"COPY 1:* Secret", b"MOVE 1:* Secret",
       b"UID COPY 1:* user0007@example.test/INBOX", b"UID MOVE 1:* Secret", b"STORE 1:* +FLAGS (\\Deleted)", b"UID EXPUNGE 1:*",
       b"EXPUNGE", b"CHECK", b"NOOP", b"CLOSE", b"EXAMINE INBOX", b"UNSELECT", b"NAMESPACE", b'GETQUOTA ""', b"GETQUOTAROOT INBOX",
       b'SETQUOTA "" (STORAGE 1)', b"ENABLE CONDSTORE", b"ID NIL", b'ID ("x-originating-ip" "10.0.0.1")', b"CAPABILITY",
       b"AUTHENTICATE PLAIN dXNlcjAwMDcAdXNlcjAwMDYAcGFzczAwMDY=", b"LOGIN user0007@example.test pass0007", b"UNAUTHENTICATE",
       b"STARTTLS", b"CREATE Secret2", b"DELETE Secret2"]


class Apart(ImapCase):
    def all_answers(self):
        raw = self.raw(6)
        log = []
        for name in FOREIGN:
            for verb in NAMED:
                log.append(raw.ask(verb % name))
        for command in OWN:
            log.append(raw.ask(command))
        text = b"\n".join(log)
        # What time and count alone change.
        text = re.sub(rb"MAILBOXID \(F[0-9a-f]+\)", b"MAILBOXID (F)", text)
        return re.sub(rb"(UIDVALIDITY|UIDNEXT|HIGHESTMODSEQ|MODSEQ|COPYUID|APPENDUID) ?\(?\d+( \d+)?", rb"\1 n", text)

    def test_class_15_answers_do_not_depend_on_other_accounts(self):
        before = self.all_answers()
        other = self.raw(7)
        self.expect(other, b"CREATE Secret", b"TAG OK")
        self.expect(other, b"CREATE INBOX/Secret", b"TAG OK")
        self.expect(other, b"SUBSCRIBE Secret", b"TAG OK")
        for box in (b"INBOX", b"Secret"):
            mail = b"Subject: topsecret\r\n\r\ntopsecret\r\n"
            self.expect(other, b"APPEND %s {%d+}\r\n%s" % (box, len(mail), mail), b"TAG OK")
        after = self.all_answers()
        self.assertEqual(before, after)
        # GETQUOTAROOT says the name that was asked for again, there or not (RFC 9208 section 4.1.2).
        self.assertNotIn(b"Secret", re.sub(rb"\* QUOTAROOT [^\r]*", b"", after).replace(b"Secret2", b""))
        self.assertIn(b"MESSAGES 1 DELETED 0", other.ask(b"STATUS Secret (MESSAGES DELETED)"))
        self.assertIn(b"MESSAGES 1 DELETED 0", other.ask(b"STATUS INBOX (MESSAGES DELETED)"))


if __name__ == "__main__":
    import unittest
    unittest.main()
