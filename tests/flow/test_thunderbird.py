"""What Thunderbird says, in its order (from its documentation of IMAP, its preferences and logs in its issues): two connections, as it keeps
them, over TLS through a proxy. The first is on INBOX, compressed, and idles; the second does the work in other mailboxes. What one does
the other must hear; a second start finds all by CONDSTORE. Extensions that come later (NOTIFY, ACL, UTF8=ACCEPT) are used as soon as they are
offered, as it would."""
import base64
import re
import smtplib
import ssl
import time

import mt
from imap_wire import Deflated, Wire, fetch_items

USER, PASSWORD = "user0001@example.test", "pass0001"
HEADERS = (b"(UID RFC822.SIZE FLAGS BODY.PEEK[HEADER.FIELDS (From To Cc Bcc Subject Date Message-ID Priority X-Priority References Newsgroups "
           b"In-Reply-To Content-Type Reply-To)])")
MIXED = ("From: s@example.org\r\nTo: {to}\r\nSubject: {subject}\r\nMessage-ID: <{id}@example.org>\r\nMIME-Version: 1.0\r\n"
         "Content-Type: multipart/mixed; boundary=\"b\"\r\n\r\n--b\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nthe text\r\n--b\r\n"
         "Content-Type: image/png; name=\"a.png\"\r\nContent-Transfer-Encoding: base64\r\nContent-Disposition: attachment; filename=\"a.png\"\r\n\r\n"
         + base64.encodebytes(bytes(range(256)) * 300).decode().replace("\n", "\r\n") + "--b--\r\n")


class Bird:
    """One connection of the program."""

    def __init__(self, case, compress=False):
        self.case = case
        context = ssl.create_default_context(cafile=case.cluster.ca)
        context.check_hostname = False
        self.wire = Wire(case.cluster.at("p1", "imaps"), tls=context)
        case.addCleanup(self.wire.close)
        case.assertRegex(self.wire.greeting, rb"\A\* OK \[CAPABILITY [^]]*\bIMAP4rev1\b[^]]*AUTH=PLAIN")
        self.wire.send(b"1 authenticate PLAIN\r\n")
        case.assertEqual(self.wire.response(), b"+ \r\n")
        self.wire.send(base64.b64encode(f"\0{USER}\0{PASSWORD}".encode()) + b"\r\n")
        untagged, answer = self.wire.answer(b"1")
        case.assertRegex(answer, rb"\AOK")
        text = b"".join(untagged) + answer
        if b"CAPABILITY" not in text:
            text = b"".join(self.ok(b"capability"))
        self.can = set(re.search(rb"CAPABILITY ([^]\r]*)", text)[1].split())
        self.ok(b'ID ("name" "Thunderbird" "version" "128.5.0")')
        if compress:
            self.ok(b"COMPRESS DEFLATE")
            self.wire.sock = Deflated(self.wire.sock)
        self.ok(b"namespace")
        case.assertIn(b"* ENABLED CONDSTORE\r\n", self.ok(b"ENABLE CONDSTORE"))
        if b"UTF8=ACCEPT" in self.can:
            case.assertIn(b"* ENABLED UTF8=ACCEPT\r\n", self.ok(b"ENABLE UTF8=ACCEPT"))

    def ok(self, command):
        untagged, answer = self.wire.ask(command)
        self.case.assertRegex(answer, rb"\AOK", command)
        self.last = answer
        return untagged

    def select(self, box):
        """(UIDVALIDITY, HIGHESTMODSEQ, EXISTS)"""
        text = b"".join(self.ok(b'select "%s" (CONDSTORE)' % box)) + self.last
        self.case.assertIn(b"[READ-WRITE]", text)
        self.case.assertIn(b"PERMANENTFLAGS", text)
        return tuple(int(re.search(p, text)[1]) for p in (rb"UIDVALIDITY (\d+)", rb"HIGHESTMODSEQ (\d+)", rb"\* (\d+) EXISTS"))

    def fetch(self, command):
        return [fetch_items(u)[1] for u in self.ok(b"UID fetch " + command) if b" FETCH (" in u[:30]]

    def idle(self):
        self.wire.send(b"i IDLE\r\n")
        line = self.wire.response()
        while not line.startswith(b"+"):
            line = self.wire.response()

    def hear(self, pattern, seconds=15):
        """Untagged responses up to the one that fits."""
        end, heard = time.monotonic() + seconds, b""
        while True:
            line = self.wire.response(max(end - time.monotonic(), 0.01))
            heard += line
            if re.search(pattern, line):
                return heard

    def done(self):
        self.wire.send(b"DONE\r\n")
        untagged, answer = self.wire.answer(b"i")
        self.case.assertRegex(answer, rb"\AOK")
        return untagged


class Thunderbird(mt.ClusterCase):
    FLAGS = ["--proxies", 1, "--backends", 1, "--users", 1]

    def send(self, *subjects):
        with smtplib.SMTP(*self.cluster.at("p1", "smtp")) as s:
            for x in subjects:
                s.sendmail("s@example.org", [USER], MIXED.format(to=USER, subject=x, id=x.replace(" ", ".")).encode())

    def test_a_day(self):
        self.send(*[f"message {i}" for i in range(8)])
        a = Bird(self, compress=True)

        # The folders, as it asks for them at the start.
        special = {}
        for line in a.ok(b'list (subscribed) "" "*" return (special-use)') + a.ok(b'list "" "*" return (special-use)') + a.ok(b'list "" "INBOX"'):
            m = re.fullmatch(rb'\* LIST \(([^)]*)\) "/" "?([^"\r]*)"?\r\n', line)
            self.assertTrue(m, line)
            special.update({use: m[2] for use in m[1].split() if use in (b"\\Drafts", b"\\Sent", b"\\Junk", b"\\Trash", b"\\Archive")})
        self.assertEqual(len(special), 5, special)
        if b"ACL" in a.can:
            self.assertRegex(b"".join(a.ok(b'myrights "INBOX"')), rb'\* MYRIGHTS "?INBOX"? "?[lrswipkxtea]*l')
        self.assertRegex(b"".join(a.ok(b'getquotaroot "INBOX"')), rb"\* QUOTAROOT")

        # INBOX: flags of all, headers of what is new, bodies on demand.
        validity, highest, exists = a.select(b"INBOX")
        self.assertEqual(exists, 8)
        flags = a.fetch(b"1:* (FLAGS)")
        uids = [int(f[b"UID"]) for f in flags]
        self.assertEqual(len(uids), 8)
        rows = a.fetch(b"%d:%d " % (uids[0], uids[-1]) + HEADERS)
        self.assertEqual([re.search(rb"Subject: message (\d)", next(v for k, v in r.items() if k.startswith(b"BODY[")))[1] for r in rows],
                         [b"%d" % i for i in range(8)])
        self.assertRegex(repr(a.fetch(b"%d (BODYSTRUCTURE)" % uids[0])), r"(?i)'attachment'.*'a\.png'.*'mixed'")
        part = a.fetch(b"%d (BODY.PEEK[HEADER] BODY.PEEK[1.MIME] BODY.PEEK[1])" % uids[0])[0]
        self.assertEqual(part[b"BODY[1]"], b"the text")
        whole = a.fetch(b"%d (UID RFC822.SIZE BODY.PEEK[])" % uids[1])[0]
        size = int(whole[b"RFC822.SIZE"])
        self.assertEqual(len(whole[b"BODY[]"]), size)
        pieces = b"".join(a.fetch(b"%d (UID RFC822.SIZE BODY.PEEK[]<%d.65536>)" % (uids[1], at))[0][b"BODY[]<%d>" % at] for at in range(0, size, 65536))
        self.assertEqual(pieces, whole[b"BODY[]"])
        if b"NOTIFY" in a.can:
            self.assertRegex(a.wire.ask(b"NOTIFY SET (SELECTED (MessageNew (UID FLAGS) MessageExpunge FlagChange))")[1], rb"\AOK")
        a.idle()

        # The other connection reads, tags, moves, deletes; the first hears of it while it idles.
        b = Bird(self)
        self.assertEqual(b.select(b"INBOX")[0], validity)
        b.ok(b"UID store %d +FLAGS (\\Seen)" % uids[0])
        a.hear(rb"\* 1 FETCH .*\\Seen")
        b.ok(b"UID store %d +FLAGS ($label1 NonJunk)" % uids[1])
        a.hear(rb"\* 2 FETCH .*\$label1")
        b.ok(b"UID store %d -FLAGS ($label1)" % uids[1])
        a.hear(rb"\* 2 FETCH (?!.*\$label1)")
        b.ok(b"UID store %d +FLAGS (Junk)" % uids[2])
        b.ok(b'UID move %d "%s"' % (uids[2], special[b"\\Junk"]))
        a.hear(rb"\* 3 EXPUNGE")
        copied = b.ok(b'UID move %d:%d "%s"' % (uids[3], uids[4], special[b"\\Trash"]))
        self.assertRegex(b"".join(copied) + b.last, rb"\[COPYUID \d+ %d:%d \d+:\d+\]" % (uids[3], uids[4]))
        b.ok(b'UID copy %d "%s"' % (uids[5], special[b"\\Archive"]))
        b.ok(b"UID store %d +FLAGS (\\Deleted \\Seen)" % uids[5])
        b.ok(b"expunge")
        a.hear(rb"\* 3 EXPUNGE")  # what is left of it: 0, 1, 6, 7
        self.send("message 8")
        a.hear(rb"\* 5 EXISTS")
        a.done()
        new = a.fetch(b"%d:* (FLAGS)" % (uids[-1] + 1))
        self.assertEqual(len(new), 1)
        a.ok(b"noop")

        # A draft: kept, found again, replaced; the mail sent: to Sent.
        draft = MIXED.format(to=USER, subject="draft", id="draft").encode()
        first = None
        for version in range(2):
            b.wire.send(b'd%d append "%s" (\\Seen \\Draft) {%d%s}\r\n' % (version, special[b"\\Drafts"], len(draft), b"+" if version else b""))
            if not version:
                self.assertTrue(b.wire.response().startswith(b"+"))
            b.wire.send(draft + b"\r\n")
            answer = b.wire.answer(b"d%d" % version)[1]
            uid = int(re.search(rb"\[APPENDUID \d+ (\d+)\]", answer)[1])
            if version:
                b.select(special[b"\\Drafts"])
                self.assertIn(b"%d" % uid, b"".join(b.ok(b"UID SEARCH UNDELETED HEADER Message-ID <draft@example.org>")).split())
                b.ok(b"UID store %d +FLAGS (\\Deleted)" % first)
                b.ok(b"UID expunge %d" % first)
                self.assertEqual([int(f[b"UID"]) for f in b.fetch(b"1:* (FLAGS)")], [uid])
            first = uid

        # Folders of one's own, with names as it writes them; a search on the server; the counts of folders that are not open.
        box = "Entwürfe & mehr"
        name = box.encode() if b"UTF8=ACCEPT" in b.can else b"Entw&APw-rfe &- mehr"
        b.ok(b'create "%s"' % name)
        b.ok(b'subscribe "%s"' % name)
        b.ok(b'rename "%s" "Archive/%s"' % (name, name))
        b.ok(b'unsubscribe "%s"' % name)
        b.ok(b'subscribe "Archive/%s"' % name)
        self.assertIn(name, b"".join(b.ok(b'list (subscribed) "" "*" return (special-use)')))
        self.assertRegex(b"".join(b.ok(b'STATUS "%s" (UIDNEXT MESSAGES UNSEEN RECENT)' % special[b"\\Trash"])), rb"MESSAGES 2 ")
        b.select(b"INBOX")
        charset = b"" if b"UTF8=ACCEPT" in b.can else b"CHARSET UTF-8 "
        found = b"".join(b.ok(b'UID SEARCH ' + charset + b'UNDELETED OR SUBJECT "message 7" SUBJECT "nothing"'))
        self.assertEqual(found.split()[2:], [b"%d" % uids[7]])
        b.ok(b"close")
        b.ok(b'delete "Archive/%s"' % name)

        # It is ended; meanwhile flags change and mail comes. Started again, it asks for what has changed since.
        validity_then, highest, _ = b.select(b"INBOX")
        self.assertEqual(validity_then, validity)
        kept = {int(f[b"UID"]): f[b"FLAGS"] for f in b.fetch(b"1:* (FLAGS)")}
        b.ok(b"logout")
        a.ok(b"UID store %d +FLAGS (\\Answered)" % uids[6])
        self.send("message 9")
        a.wire.close()
        c = Bird(self, compress=True)
        again = c.select(b"INBOX")
        self.assertEqual(again[0], validity)
        self.assertGreater(again[1], highest)
        changed = {int(f[b"UID"]): set(f[b"FLAGS"]) - {b"\\Recent"} for f in c.fetch(b"1:* (FLAGS) (CHANGEDSINCE %d)" % highest)}
        self.assertEqual(set(changed) - set(kept), {max(changed)})
        self.assertEqual({u: f for u, f in changed.items() if u in kept}, {uids[6]: {b"\\Answered"}})
        self.assertEqual(again[2], len(kept) + 1)


if __name__ == "__main__":
    import unittest
    unittest.main()
