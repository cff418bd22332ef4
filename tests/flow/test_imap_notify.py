"""NOTIFY (RFC 5465) through the proxy: a session that sends nothing hears of deliveries, of other sessions' doings and of the operator's;
clients that go away amid news; many that watch one account; mailboxes of others and public folders: what a client makes of the
events is what LIST, MYRIGHTS and STATUS say, and nothing that it may not see is among them."""
import random
import re

import mt
from backend_case import BackendCase
from imap_wire import Wire, parse_values

MAIL = b"From: a@b.test\r\nSubject: good morning\r\n\r\ntext\r\n"
SECRET = b"From: a@b.test\r\nSubject: xyzzy\r\n\r\nplugh\r\n"
ALL = b"(MessageNew MessageExpunge FlagChange MailboxName SubscriptionChange MailboxMetadataChange ServerMetadataChange)"


class Model:
    """What a client makes of the events: names that are there, whether it may read them, the last STATUS of each."""

    def __init__(self):
        self.there, self.status = {}, {}

    def learn(self, line):
        m = re.fullmatch(rb'\* (LIST|STATUS) (.*)\r\n', line, re.S)
        if not m:
            return
        values = parse_values(m[2])
        if m[1] == b"LIST":
            flags, name = [f.lower() for f in values[0]], values[2]
            if len(values) > 3:
                assert values[3][0] == b"OLDNAME", line
                old = values[3][1][0]
                for have in [n for n in self.there if n == old or n.startswith(old + b"/")]:
                    self.there[name + have[len(old):]] = self.there.pop(have)
                    if have in self.status:
                        self.status[name + have[len(old):]] = self.status.pop(have)
            if b"\\nonexistent" in flags:
                self.there.pop(name, None)
                self.status.pop(name, None)
            elif b"\\noselect" not in flags:
                self.there[name] = b"\\noaccess" not in flags
                if not self.there[name]:
                    self.status.pop(name, None)
        else:
            items = values[1]
            status = self.status.setdefault(values[0], {})
            status.update(zip(items[::2], items[1::2]))


class ImapNotify(BackendCase):
    USERS = 5
    CONF = "slots = 2\n"
    STARTER = ["--proxies", "1", "--password", "pw"]

    def connect(self, name, user):
        wire = Wire(self.cluster.at(name, "imap"))
        self.addCleanup(wire.close)
        password = self.password(user) if name == "b1" else "pw"
        self.assertRegex(wire.ask(f"LOGIN {self.user(user)} {password}".encode())[1], rb"\AOK")
        return wire

    def until(self, wire, pattern):
        for _ in range(200):
            line = wire.response(20)
            if pattern in line:
                return line
        self.fail(pattern)

    def test_a_client_that_sends_nothing_hears_all(self):
        wire, other = self.connect("p1", 1), self.connect("b1", 1)
        self.assertIn(b" NOTIFY ", b"".join(wire.ask(b"CAPABILITY")[0]))
        wire.ask(b"SELECT INBOX")
        self.assertRegex(wire.ask(b"NOTIFY SET STATUS (selected (MessageNew (UID BODY.PEEK[HEADER.FIELDS (Subject)]) MessageExpunge "
                                  b"FlagChange)) (personal %s)" % ALL)[1], rb"\AOK")
        self.deliver(self.user(1), MAIL)
        self.until(wire, b"* 1 EXISTS")
        self.assertIn(b"Subject: good morning", self.until(wire, b"* 1 FETCH (UID 1 BODY[HEADER.FIELDS"))
        other.ask(b"SELECT INBOX")
        other.ask(b"UID COPY 1 Archive")
        self.until(wire, b"* STATUS Archive (MESSAGES 1 UIDNEXT 2")
        other.ask(b"STORE 1 +FLAGS (\\Deleted)")
        self.until(wire, b"* 1 FETCH (UID 1 FLAGS")
        other.ask(b"EXPUNGE")
        self.until(wire, b"* 1 EXPUNGE")
        other.ask(b"CREATE Projects")
        self.until(wire, b'"/" Projects\r\n')
        other.ask(b"RENAME Projects Work")
        self.until(wire, b'"/" Work ("OLDNAME" (Projects))')
        other.ask(b'SETMETADATA Work (/shared/comment "x")')
        self.until(wire, b"* METADATA Work /shared/comment")
        other.ask(b"DELETE Work")
        self.until(wire, b"* LIST (\\NonExistent")
        self.assertEqual(wire.ask(b"NOTIFY NONE")[0], [])
        self.deliver(self.user(1), MAIL)
        self.assertEqual(wire.ask(b"NOOP")[0], [])

    def test_many_watch_and_some_go_away(self):
        wires = [self.connect("p1" if i % 2 else "b1", 2) for i in range(20)]
        for wire in wires:
            wire.ask(b"SELECT INBOX")
            self.assertRegex(wire.ask(b"NOTIFY SET (selected (MessageNew (UID BODY.PEEK[]) MessageExpunge)) (personal %s)" % ALL)[1],
                             rb"\AOK")
        for i in range(20):
            self.deliver(self.user(2), MAIL)
            if i < 10:
                wires[i].sock.close()
        for wire in wires[10:]:
            self.until(wire, b"* 20 FETCH (UID 20 BODY[] ")
            self.assertRegex(wire.ask(b"NOOP")[1], rb"\AOK")
        mt.wait_for(lambda: self.cluster.is_alive("b1"), 5, "the back-end lives")

    def append(self, wire, box, mail=MAIL):
        self.assertRegex(wire.ask(b"APPEND %s {%d+}\r\n%s" % (box, len(mail), mail))[1], rb"\AOK")

    def ok(self, wire, command):
        lines, end = wire.ask(command)
        self.assertRegex(end, rb"\AOK", command)
        return lines

    def mark(self, marker, wire, n):
        """All lines that what was done before brings: a change of a third's mailbox comes behind it."""
        entry = b"/shared/vendor/mark/n%d" % n
        self.ok(marker, b'SETMETADATA marks (%s "x")' % entry)
        out = []
        for _ in range(500):
            line = wire.response(20)
            if entry in line:
                # what waits until the client has had some rest comes with a command
                return out + self.ok(wire, b"NOOP")
            out.append(line)
        self.fail("the mark does not come")

    def test_the_examples_of_the_rfc(self):
        """Sections 3.1, 5.1-5.5 on another's mailboxes, and on public folders."""
        ctl = self.cluster.ctl
        guest, owner = self.connect("p1", 3), self.connect("b1", 4)
        at = b"user/" + self.user(4).encode()
        ctl("b1", "public", "add", "example.test", "News")
        self.ok(owner, b"CREATE Lists/Lemonade")
        self.ok(owner, b"CREATE Lists/Im2000")
        self.append(owner, b"Lists/Lemonade")
        for box in (b"Lists/Lemonade", b"Lists/Im2000"):
            self.ok(owner, b"SETACL %s %s lrs" % (box, self.user(3).encode()))
        lines = self.ok(guest, b"notify set status (selected MessageNew (uid body.peek[header.fields (from to subject)]) MessageExpunge) "
                               b"(subtree %s/Lists MessageNew MessageExpunge MailboxName FlagChange SubscriptionChange) "
                               b"(mailboxes Public/News (MessageNew MessageExpunge))" % at)
        status = {}
        for line in lines:
            m = re.fullmatch(rb"\* STATUS (\S+) \((.*)\)\r\n", line)
            if m:
                words = m[2].split()
                status[m[1]] = dict(zip(words[::2], words[1::2]))
        self.assertEqual(status[at + b"/Lists/Lemonade"][b"MESSAGES"], b"1")
        self.assertEqual(status[at + b"/Lists/Im2000"][b"UIDNEXT"], b"1")
        self.assertLessEqual({b"MESSAGES", b"UIDNEXT", b"UIDVALIDITY"}, set(status[b"Public/News"]))
        self.assertEqual(set(status), {at + b"/Lists/Lemonade", at + b"/Lists/Im2000", b"Public/News"})
        self.append(owner, b"Lists/Lemonade")
        self.assertEqual(self.until(guest, b"STATUS"), b"* STATUS %s/Lists/Lemonade (MESSAGES 2 UIDNEXT 3)\r\n" % at)
        # rights of the operator's
        ctl("b1", "acl", "set", "@example.test", "News", self.user(4), "lrswite")
        self.append(owner, b"Public/News")
        self.assertEqual(self.until(guest, b"STATUS"), b"* STATUS Public/News (MESSAGES 1 UIDNEXT 2)\r\n")
        # selected: FETCH with what was asked for; the others go on
        self.ok(guest, b"SELECT %s/Lists/Im2000" % at)
        self.append(owner, b"Lists/Im2000")
        self.assertEqual(self.until(guest, b"EXISTS"), b"* 1 EXISTS\r\n")
        self.assertIn(b"Subject: good morning", self.until(guest, b"* 1 FETCH (UID 1 BODY[HEADER.FIELDS (from to subject)]"))
        self.append(owner, b"Lists/Lemonade")
        self.assertEqual(self.until(guest, b"STATUS"), b"* STATUS %s/Lists/Lemonade (MESSAGES 3 UIDNEXT 4)\r\n" % at)
        # created (inherits), renamed, deleted
        self.ok(owner, b"CREATE Lists/Lemonade/New")
        self.assertRegex(self.until(guest, b"LIST"), rb'\A\* LIST \(\\HasNoChildren\) "/" %s/Lists/Lemonade/New\r\n\Z' % re.escape(at))
        self.until(guest, b"STATUS %s/Lists/Lemonade/New (UIDVALIDITY" % at)
        self.ok(owner, b"RENAME Lists/Lemonade/New Lists/Lemonade/Old")
        self.assertEqual(parse_values(self.until(guest, b"OLDNAME")[7:-2])[2:],
                         [at + b"/Lists/Lemonade/Old", [b"OLDNAME", [at + b"/Lists/Lemonade/New"]]])
        self.ok(owner, b"DELETE Lists/Lemonade/Old")
        self.assertIn(b"Lists/Lemonade/Old\r\n", self.until(guest, b"\\NonExistent"))
        # subscribed in another session, then CONDSTORE
        again = self.connect("b1", 3)
        self.ok(again, b"SUBSCRIBE %s/Lists/Lemonade" % at)
        self.assertIn(b"/Lists/Lemonade\r\n", self.until(guest, b"\\Subscribed"))
        self.ok(guest, b"ENABLE CONDSTORE")
        self.ok(owner, b"SELECT Lists/Lemonade")
        self.ok(owner, b"STORE 1 +FLAGS (\\Flagged)")
        self.assertRegex(self.until(guest, b"STATUS"), rb"Lemonade \(UIDVALIDITY \d+ UNSEEN 3 HIGHESTMODSEQ \d+\)")
        self.ok(again, b"SELECT %s/Lists/Lemonade" % at)
        self.ok(again, b"STORE 1 +FLAGS (\\Seen)")
        self.assertRegex(self.until(guest, b"STATUS"), rb"Lemonade \(UIDVALIDITY \d+ UNSEEN 2 HIGHESTMODSEQ \d+\)")
        self.ok(owner, b"STORE 2 +FLAGS.SILENT (\\Deleted)")
        self.until(guest, b"STATUS")
        self.ok(owner, b"EXPUNGE")
        self.assertRegex(self.until(guest, b"STATUS"), rb"Lemonade \(MESSAGES 2 UIDNEXT 4 HIGHESTMODSEQ \d+\)")

    def test_what_a_client_makes_of_the_events_is_what_there_is(self):
        """Random doings of an owner, rights among them: the model lives on events alone and is compared with LIST, MYRIGHTS, STATUS."""
        guest, owner, marker = self.connect("p1", 1), self.connect("b1", 2), self.connect("b1", 5)
        asks = self.connect("b1", 1)
        at = b"user/" + self.user(2).encode() + b"/"
        me = self.user(1).encode()
        marker.ask(b"CREATE marks")
        self.ok(marker, b"SETACL marks %s lr" % me)
        rng = random.Random(4)
        self.ok(guest, b"NOTIFY SET STATUS (subtree user %s)" % ALL)
        model = Model()
        boxes = []
        for step in range(1, 181):
            what = rng.random()
            box = rng.choice(boxes) if boxes else None
            if what < 0.2 or not boxes:
                name = (box + b"/" if box and rng.random() < 0.5 and box.count(b"/") < 3 else b"") + b"b%d" % step
                self.ok(owner, b"CREATE " + name)
                boxes.append(name)
            elif what < 0.3:
                name = b"r%d" % step if rng.random() < 0.5 else b"r/%d" % step
                self.ok(owner, b"RENAME %s %s" % (box, name))
                if name.startswith(b"r/") and b"r" not in boxes:
                    boxes.append(b"r")
                boxes = [name + b[len(box):] if b == box or b.startswith(box + b"/") else b for b in boxes]
            elif what < 0.4:
                if any(b.startswith(box + b"/") for b in boxes):
                    continue
                self.ok(owner, b"DELETE " + box)
                boxes.remove(box)
            elif what < 0.65:
                self.ok(owner, b"SETACL %s %s %s" % (box, me, rng.choice([b"lr", b"lrs", b"lrswite", b"l", b"r", b'""', b"rs", b"ls"])))
            elif what < 0.9:
                self.append(owner, box)
            else:
                self.ok(owner, b"SELECT " + box)
                self.ok(owner, b"STORE 1:* +FLAGS.SILENT (\\Deleted)")
                self.ok(owner, b"CLOSE")
            if step % 15:
                continue
            for line in self.mark(marker, guest, step):
                model.learn(line)
            listed = {}
            for line in self.ok(asks, b'LIST "" "user/*" RETURN (MYRIGHTS STATUS (MESSAGES UIDNEXT UIDVALIDITY))'):
                values = parse_values(line[2:-2])
                if values[0] == b"LIST" and b"\\Noselect" not in values[1]:
                    listed.setdefault(values[3], None)
                elif values[0] == b"MYRIGHTS":
                    listed[values[1]] = b"r" in values[2]
                elif values[0] == b"STATUS" and values[1].startswith(at):
                    seen = model.status.get(values[1], {})
                    want = dict(zip(values[2][::2], values[2][1::2]))
                    for item in (b"MESSAGES", b"UIDNEXT"):
                        self.assertEqual(int(seen.get(item, b"0" if item == b"MESSAGES" else b"1")), int(want[item]), (step, values[1], item))
            there = {name: reads for name, reads in model.there.items() if name.startswith(at)}
            listed = {name: reads for name, reads in listed.items() if name.startswith(at)}
            self.assertEqual(there, listed, step)

    def test_security_15_notify_tells_nothing_of_what_is_not_shared(self):
        """Two guests watch all they can name; around one of them an owner does everything to mailboxes that he does not share with
        either. Both hear the same: the mark."""
        owner, marker = self.connect("b1", 4), self.connect("b1", 5)
        guests = [self.connect("p1", i) for i in (1, 3)]
        who = [self.user(i).encode() for i in (1, 3)]
        at = b"user/" + self.user(4).encode()
        marker.ask(b"CREATE marks")
        for name in who:
            self.ok(marker, b"SETACL marks %s lr" % name)
        self.ok(owner, b"CREATE hidden")
        for guest in guests:
            lines = self.ok(guest, b"NOTIFY SET STATUS (subtree (user Public %s) %s) (mailboxes (%s/hidden %s/INBOX %s/hidden/below) %s) "
                                   b"(subscribed %s) (personal %s)" % (at, ALL, at, at, at, ALL, ALL, ALL))
            self.assertNotIn(b"hidden", b"".join(lines))
        n = 1000
        for rights in (b"", b"r", b"st", b"rswipkxtea", b"p"):
            # the first guest has these, none of which lets him look it up; the second has nothing
            self.ok(owner, b"SETACL hidden %s %s" % (who[0], rights or b'""'))
            for box in (b"hidden", b"INBOX"):
                self.append(owner, box, SECRET)
                self.ok(owner, b"SELECT " + box)
                self.ok(owner, b"STORE 1:* +FLAGS (\\Seen \\Flagged k1)")
                self.ok(owner, b"STORE 1:* +FLAGS.SILENT (\\Deleted)")
                self.ok(owner, b"EXPUNGE")
                self.ok(owner, b'SETMETADATA %s (/shared/comment "plugh")' % box)
            self.ok(owner, b"CREATE hidden/below")
            self.ok(owner, b"SUBSCRIBE hidden/below")
            self.ok(owner, b"RENAME hidden/below hidden/under")
            self.ok(owner, b"UNSUBSCRIBE hidden/below")
            self.ok(owner, b"SETACL hidden/under %s lr" % self.user(2).encode())
            self.ok(owner, b"DELETE hidden/under")
            n += 1
            heard = [[], []]
            entry = b"/shared/vendor/mark/n%d" % n
            self.ok(marker, b'SETMETADATA marks (%s "x")' % entry)
            for i, guest in enumerate(guests):
                while not heard[i] or entry not in heard[i][-1]:
                    heard[i].append(guest.response(20))
                lines, _ = guest.ask(b"NOOP")
                heard[i] += lines
            self.assertEqual(heard[0], heard[1], rights)
            self.assertEqual(len(heard[0]), 1, heard[0])
        # rights that open it, and are taken away again: no word of what comes behind that
        self.ok(owner, b"SETACL hidden %s lr" % who[0])
        self.assertIn(b"%s/hidden\r\n" % at, self.until(guests[0], b"LIST"))
        self.ok(owner, b"DELETEACL hidden " + who[0])
        self.assertIn(b"%s/hidden\r\n" % at, self.until(guests[0], b"\\NoAccess"))
        self.append(owner, b"hidden", SECRET)
        self.ok(owner, b"RENAME hidden concealed")
        heard = self.mark(marker, guests[0], n + 1)
        for word in (b"concealed", b"STATUS", b"plugh", b"xyzzy"):
            self.assertNotIn(word, b"".join(heard))
        self.assertEqual([line for line in self.mark(marker, guests[1], n + 2) if b"marks" not in line], [])


if __name__ == "__main__":
    import unittest
    unittest.main()
