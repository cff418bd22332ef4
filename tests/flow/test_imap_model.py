"""A model of IMAP under concurrency: sessions on one account, through the proxy and directly, do random things while mail arrives.
Each keeps its own picture of the mailbox from untagged responses alone; what it hears must never contradict the picture, and in
the end every picture is what the server has. A seed by MAILTIER_SEED, rounds by MAILTIER_ROUNDS."""
import os
import random
import re
import smtplib
import threading

import mt
from imap_wire import Wire, fetch_items

USER, PASSWORD = b"user0001@example.test", b"pass0001"
SEED = int(os.environ.get("MAILTIER_SEED", "1"))
ROUNDS = int(os.environ.get("MAILTIER_ROUNDS", "70"))
WAIT = 120 + ROUNDS  # seconds for those that are slower
SYSTEM = [b"\\Seen", b"\\Answered", b"\\Flagged", b"\\Draft", b"\\Deleted"]
KEYWORDS = [b"$Forwarded", b"Junk", b"$Label%d", b"x-%d"]
BOXES = [b"Box A", b"Box B", b"Box A/below", b"Archive"]
RENAMED = b"Renamed"


def make_mail(key):
    dice = random.Random(key)
    lines = [f"From: Sender <s{key}@example.org>", f"X-Id: {key}", f"Subject: number {key}", f"Message-ID: <{key}@example.org>",
             "MIME-Version: 1.0", "Content-Type: text/plain; charset=utf-8", ""]
    lines += ["x" * dice.randrange(70) + str(key) for _ in range(dice.choice([1, 3, 40, 3000]))]
    return "\r\n".join(lines).encode() + b"\r\n"


def expand(text):
    for part in text.split(b","):
        first, colon, last = part.partition(b":")
        yield from range(int(first), int(last if colon else first) + 1)


class Shared:
    """What all sessions know together."""

    def __init__(self):
        self.lock = threading.Lock()
        self.keys = {}      # (uidvalidity, uid): X-Id
        self.highest = {}   # uidvalidity: HIGHESTMODSEQ, never lower again
        self.flags = {}     # (uidvalidity, uid, modseq): the flags that belong to it
        self.won = {}       # (uidvalidity, uid, modseq): who changed the message on that condition
        self.last_uid = {}  # uidvalidity: highest UID given out when last looked
        self.next_key = 1

    def new_key(self):
        with self.lock:
            self.next_key += 1
            return SEED * 100000 + self.next_key

    def know(self, validity, uid, key):
        with self.lock:
            if self.keys.setdefault((validity, uid), key) != key:
                raise AssertionError(f"UID {uid} was message {self.keys[validity, uid]} and is {key}")

    def see_highest(self, validity, modseq, floor):
        """floor: what was known before the question was asked."""
        if modseq < floor:
            raise AssertionError(f"HIGHESTMODSEQ {modseq} after {floor}")
        with self.lock:
            self.highest[validity] = max(self.highest.get(validity, 0), modseq)


class Player:
    def __init__(self, shared, where, name, seed, mailbox, qresync=False):
        self.shared, self.name, self.mailbox, self.where, self.qresync = shared, name, mailbox, where, qresync
        self.highest = 0    # what SELECT (QRESYNC) would be given
        self.dice = random.Random(seed)
        self.wire = Wire(where)
        self.log = []
        self.messages = []  # [uid or None, flags or None, modseq or 0] by sequence number
        self.silent = {}    # uid: [(modseq, flags)], what silent STOREs made of it if it was alive
        self.login()
        self.select()

    def login(self):
        assert self.ask(b"LOGIN %s %s" % (USER, PASSWORD))[1].startswith(b"OK")
        if self.qresync:
            assert self.ask(b"ENABLE QRESYNC")[0] == [b"* ENABLED QRESYNC\r\n"]

    def ask(self, command, may_expunge=True):
        untagged, answer = self.wire.ask(command)
        self.log.append((command[:120], [u[:160] for u in untagged], answer))
        assert not answer.startswith(b"BAD"), (command[:300], answer)
        if not may_expunge:
            assert not any(re.match(rb"\* (\d+ EXPUNGE|VANISHED \d)", u) for u in untagged), (command, untagged)
        told = re.findall(rb"\[HIGHESTMODSEQ (\d+)\]", b"".join(untagged) + answer)
        if told:  # RFC 7162: it may hold back what the FETCH responses seem to say
            self.highest = int(told[-1])
        else:
            self.highest = max([self.highest] + [int(n) for u in untagged if b" FETCH (" in u[:30]
                                                 for n in re.findall(rb"[( ]MODSEQ \((\d+)\)", u)])
        return untagged, answer

    def select(self):
        self.messages = []
        untagged, answer = self.ask(b'SELECT "%s" (CONDSTORE)' % self.mailbox)
        assert answer.startswith(b"OK [READ-WRITE]"), answer
        text = b"".join(untagged)
        self.validity = int(re.search(rb"UIDVALIDITY (\d+)", text)[1])
        self.hear(untagged)
        self.fetch_all()

    def fetch_all(self):
        self.hear(self.ask(b"UID FETCH 1:* (FLAGS)")[0])

    # ---- the picture ----

    def hear(self, untagged, silent=False):
        """silent: these answer a silent STORE, which alone may tell a MODSEQ without flags."""
        self.touched, self.quiet = [], []
        self.hear_lines(untagged)
        assert silent or not self.quiet, (self.quiet, untagged)
        touched = {id(m) for m in self.touched}
        for uid, flags, modseq in self.touched:
            if uid and modseq and flags is not None:
                self.alive(uid, modseq)
                self.belong(uid, modseq, flags)
        for message in self.quiet:
            uid, flags, modseq = message
            if uid and flags is not None and id(message) not in touched:
                self.silent.setdefault(uid, []).append((modseq, flags))

    def belong(self, uid, modseq, flags):
        was, who, said = self.shared.flags.setdefault((self.validity, uid, modseq), (flags, self.name, self.log[-1:]))
        assert was == flags, (f"{self.name}: UID {uid} MODSEQ {modseq}: {sorted(was)} for {who}, and here {sorted(flags)}\n{self.log[-1:]}\n"
                              f"there: {said}")

    def alive(self, uid, below=None):
        """The message has lived on after its silent STOREs (those under a MODSEQ), so what they made of it was so for everybody.

        Of a message that others had changed and expunged, of which a STORE may not tell, it was not."""
        pending = self.silent.pop(uid, [])
        for modseq, flags in pending:
            if below is None or modseq < below:
                self.belong(uid, modseq, flags)
        later = [p for p in pending if below is not None and p[0] >= below]
        if later:
            self.silent[uid] = later

    def settle(self, answered):
        """Messages that are still there after NOOP were there when a STORE came: it must have told of each."""
        self.hear(self.ask(b"NOOP")[0])
        for message in self.messages:
            if message[0]:
                self.alive(message[0])
        left = {m[0] for m in self.messages} & {uid for uid, told in answered.items() if not told}
        assert not left, f"{self.name}: STORE told nothing of UID {sorted(left)}\n{self.log[-2:]}"

    def hear_lines(self, untagged):
        for line in untagged:
            m = re.match(rb"\* VANISHED ([\d,:]+)\r", line)
            if m:
                assert self.qresync, line
                for uid in expand(m[1]):
                    at = self.place(uid)
                    for m in self.messages[at:] if self.messages[at][0] is None else []:
                        if m[0] is not None:
                            break
                        m[1:] = [None, 0]  # which of those without a UID it was nobody knows
                    del self.messages[at]
                continue
            m = re.match(rb"\* (\d+) (EXISTS|EXPUNGE|FETCH|RECENT)", line)
            if not m:
                assert line.startswith(b"* "), line
                assert not line.startswith(b"* BYE"), line
                continue
            n = int(m[1])
            if m[2] == b"EXISTS":
                assert n >= len(self.messages), (line, len(self.messages))
                self.messages += [[None, None, 0] for _ in range(n - len(self.messages))]
            elif m[2] == b"EXPUNGE":
                assert 1 <= n <= len(self.messages) and not self.qresync, (line, len(self.messages))
                del self.messages[n - 1]
            elif m[2] == b"FETCH":
                self.hear_fetch(*fetch_items(line))

    def place(self, uid):
        """Where a message stands that may not have told its UID yet."""
        at = 0
        for i, m in enumerate(self.messages):
            if m[0] == uid:
                return i
            if m[0] and m[0] < uid:
                at = i + 1
        assert at < len(self.messages) and self.messages[at][0] is None, (uid, self.messages)
        return at

    def hear_fetch(self, n, items):
        assert 1 <= n <= len(self.messages), (n, len(self.messages))
        message = self.messages[n - 1]
        if b"UID" in items:
            uid = int(items[b"UID"])
            assert message[0] in (None, uid), f"number {n} was UID {message[0]} and is {uid}"
            message[0] = uid
            known = [m[0] for m in self.messages[max(0, n - 3):n + 2] if m[0]]
            assert known == sorted(set(known)), known
        if b"MODSEQ" in items:
            modseq = int(items[b"MODSEQ"][0])
            assert modseq >= message[2], (n, items, message)
            message[2] = modseq
            (self.touched if b"FLAGS" in items else self.quiet).append(message)
        if b"FLAGS" in items:
            message[1] = frozenset(f for f in items[b"FLAGS"] if f != b"\\Recent")
        body = items.get(b"BODY[]")
        if body is not None and message[0]:
            key = int(re.search(rb"X-Id: (\d+)", body)[1])
            assert body.endswith(make_mail(key)), (key, len(body))
            self.shared.know(self.validity, message[0], key)

    def some(self):
        known = [m for m in self.messages if m[0]]
        if known and self.dice.random() < 0.6:
            return known[0]  # where all meet
        return self.dice.choice(known) if known else None

    def some_uids(self):
        known = [m[0] for m in self.messages if m[0]]
        if self.dice.random() < 0.6:
            return known[:1]  # where all meet
        return sorted(self.dice.sample(known, min(len(known), self.dice.choice([1, 1, 2, 5]))))

    # ---- what one may do ----

    def message(self, key):
        mail = make_mail(key)
        flags = self.dice.sample(SYSTEM[:4] + [b"Junk"], self.dice.randrange(3))
        return b"(%s) {%d+}\r\n%s" % (b" ".join(flags), len(mail), mail)

    def do_append(self):
        keys = [self.shared.new_key() for _ in range(self.dice.choice([1, 1, 1, 2, 5]))]
        box = self.dice.choice([self.mailbox, self.mailbox, self.dice.choice(BOXES)])
        untagged, answer = self.ask(b'APPEND "%s" %s' % (box, b" ".join(self.message(key) for key in keys)))
        self.hear(untagged)
        if not answer.startswith(b"OK"):
            assert b"[TRYCREATE]" in answer and box in BOXES, answer
            return
        m = re.search(rb"APPENDUID (\d+) ([\d:]+)", answer)
        uids = list(expand(m[2]))
        assert len(uids) == len(keys), (keys, answer)
        for uid, key in zip(uids, keys):
            self.shared.know(int(m[1]), uid, key)
        if box == self.mailbox:
            assert int(m[1]) == self.validity

    def do_replace(self):
        message = self.some()
        if not message:
            return
        uid, key = message[0], self.shared.new_key()
        box = self.dice.choice([self.mailbox, self.mailbox, self.dice.choice(BOXES)])
        untagged, answer = self.ask(b'UID REPLACE %d "%s" %s' % (uid, box, self.message(key)))
        self.hear(untagged)
        if not answer.startswith(b"OK"):
            assert b"[EXPUNGEISSUED]" in answer or b"[TRYCREATE]" in answer and box in BOXES, answer
            return
        m = re.search(rb"APPENDUID (\d+) (\d+)", b"".join(untagged))
        self.shared.know(int(m[1]), int(m[2]), key)
        assert uid not in {x[0] for x in self.messages}, (uid, untagged)

    def flags(self):
        words = [w % self.dice.randrange(4) if b"%d" in w else w for w in KEYWORDS]
        return self.dice.sample(SYSTEM + words, self.dice.choice([1, 1, 2, 3]))

    def do_store(self):
        uids = self.some_uids()
        if not uids:
            return
        flags, how = self.flags(), self.dice.choice([b"+", b"-", b""])
        silent = self.dice.random() < 0.5
        by_uid = self.dice.random() < 0.5
        numbers = uids if by_uid else [i + 1 for i, m in enumerate(self.messages) if m[0] in uids]
        untagged, answer = self.ask(b"%sSTORE %s %sFLAGS%s (%s)" % (b"UID " if by_uid else b"", b",".join(b"%d" % n for n in numbers),
                                    how, b".SILENT" if silent else b"", b" ".join(flags)), may_expunge=by_uid)
        assert answer.startswith(b"OK"), answer
        changed = {b"+": lambda had: had | set(flags), b"-": lambda had: had - set(flags), b"": lambda had: frozenset(flags)}[how]
        before = {m[0]: tuple(m) for m in self.messages if m[0] in uids}
        if silent:
            for m in self.messages:
                if m[0] in uids and m[1] is not None:
                    m[1] = changed(m[1])
        self.hear(untagged, silent)
        # A silent STORE that changes nothing tells nothing.
        told = {m[0] for m in self.touched + self.quiet}
        answered = {uid: uid in told or silent and changed(flags_before) == flags_before
                    for uid, flags_before, _ in before.values() if not silent or flags_before is not None}
        for uid, now, modseq in [] if silent else self.touched:
            if uid in before and modseq and modseq == before[uid][2]:
                assert changed(now) == now, f"{self.name}: UID {uid} MODSEQ {modseq}: STORE left {sorted(now)}\n{self.log[-1:]}"
        if not all(answered.values()) or self.dice.random() < 0.3:
            self.settle(answered)

    def do_conditional(self):
        """Of all who change a message on the same condition one wins."""
        message = self.some()
        if not message or not message[2] or message[1] is None:
            return
        uid, _, modseq = message
        new = frozenset(self.dice.sample(SYSTEM[:4], 2) + [b"$Label%d" % self.dice.randrange(4)])
        # A known MODSEQ with its flags: what differs from them is a change.
        if new == message[1]:
            return
        silent = self.dice.random() < 0.5
        untagged, answer = self.ask(b"UID STORE %d (UNCHANGEDSINCE %d) FLAGS%s (%s)" % (
            uid, modseq, b".SILENT" if silent else b"", b" ".join(new)))
        assert answer.startswith(b"OK"), answer
        failed = re.search(rb"\[MODIFIED ([\d,:]+)\]", answer)
        if failed:
            assert list(expand(failed[1])) == [uid], answer
            self.hear(untagged)
            # Nobody needs to fail without a cause: the message has changed, or is changed no more.
            return
        if silent:
            message[1] = new
        before = len(untagged)
        self.hear(untagged, silent)
        told = any(m is message for m in self.touched + self.quiet)
        if not told or self.dice.random() < 0.3:
            self.settle({uid: told})
        if any(m is message for m in self.messages) and message[2] > modseq:
            with self.shared.lock:
                other = self.shared.won.setdefault((self.validity, uid, modseq), self.name)
            assert other == self.name, f"UID {uid} at MODSEQ {modseq}: {other} and {self.name} ({before} responses)"
            self.shared.won[self.validity, uid, modseq] = self.name

    def do_copy(self):
        uids = self.some_uids()
        if not uids:
            return
        verb = self.dice.choice([b"UID COPY", b"UID MOVE"])
        box = self.dice.choice(BOXES + [self.mailbox])
        untagged, answer = self.ask(b'%s %s "%s"' % (verb, b",".join(b"%d" % u for u in uids), box))
        self.hear(untagged)
        if not answer.startswith(b"OK"):
            assert b"[TRYCREATE]" in answer and box in BOXES, answer
            return
        m = re.search(rb"COPYUID (\d+) ([\d,:]+) ([\d,:]+)", answer + b"".join(untagged))
        if not m:
            return
        old, new = list(expand(m[2])), list(expand(m[3]))
        assert len(old) == len(new) and set(old) <= set(uids), m[0]
        for a, b in zip(old, new):
            key = self.shared.keys.get((self.validity, a))
            if key:
                self.shared.know(int(m[1]), b, key)
        if verb == b"UID MOVE":
            assert not set(old) & {x[0] for x in self.messages}, (m[0], self.messages)

    def do_expunge(self):
        self.hear(self.ask(b"EXPUNGE")[0])

    def do_uid_expunge(self):
        uids = self.some_uids()
        if uids:
            self.hear(self.ask(b"UID EXPUNGE " + b",".join(b"%d" % u for u in uids))[0])

    def do_fetch(self):
        if not self.messages:
            return
        n = self.dice.randrange(len(self.messages)) + 1
        items = self.dice.choice([b"(UID FLAGS)", b"(UID BODY.PEEK[])", b"(UID BODY[])", b"(UID RFC822.SIZE BODY.PEEK[]<10.300>)",
                                  b"(UID BODY.PEEK[HEADER.FIELDS (SUBJECT X-ID)])", b"(UID FLAGS MODSEQ)", b"ALL", b"FULL",
                                  b"(UID BODY.PEEK[TEXT]<0.5> INTERNALDATE)", b"(BODYSTRUCTURE UID ENVELOPE)"])
        what = self.dice.choice([b"%d" % n, b"%d:*" % n, b"%d:%d" % (n, len(self.messages))])
        untagged, answer = self.ask(b"FETCH %s %s" % (what, items), may_expunge=False)
        assert answer.startswith(b"OK"), answer
        self.hear(untagged)

    def do_uid_fetch(self):
        uids = self.some_uids()
        if uids:
            since = self.dice.choice([b"", b" (CHANGEDSINCE %d)" % max(1, self.some()[2])])
            self.hear(self.ask(b"UID FETCH %s (FLAGS BODY.PEEK[])%s" % (b",".join(b"%d" % u for u in uids), since))[0])

    def do_search(self):
        by_uid = self.dice.random() < 0.5
        keys = self.dice.choice([b"ALL", b"UNSEEN", b"DELETED", b"KEYWORD Junk", b"SUBJECT number", b"NOT FLAGGED LARGER 100", b"TEXT xx",
                                 b"OR SEEN DRAFT", b"MODSEQ 5"])
        returns = self.dice.choice([b"", b"RETURN (MIN MAX COUNT) ", b"RETURN () "])
        untagged, answer = self.ask(b"%sSEARCH %s%s" % (b"UID " if by_uid else b"", returns, keys), may_expunge=by_uid)
        assert answer.startswith(b"OK"), answer
        told = [u for u in untagged if re.match(rb"\* E?SEARCH", u)]
        assert len(told) == 1 and told[0].startswith(b"* ESEARCH" if returns else b"* SEARCH"), untagged
        if not by_uid and not returns:
            numbers = [int(x) for x in re.sub(rb"\(.*\)", b"", told[0]).split()[2:]]
            assert all(1 <= x <= len(self.messages) for x in numbers), (numbers, len(self.messages))
        self.hear(untagged)

    def do_resync(self):
        """Goes without a word, comes back and is told what it missed."""
        if not self.qresync:
            return
        had = {m[0]: m for m in self.messages if m[0] and m[1] is not None}
        places = [(i + 1, m[0]) for i, m in enumerate(self.messages) if m[0]]
        highest = self.highest
        self.wire.close()
        self.wire = Wire(self.where)
        self.login()
        some = self.dice.choice([b"", b" 1:%d" % max(had or [1])])
        if some and places and self.dice.random() < 0.5:
            pairs = sorted(self.dice.sample(places, min(5, len(places))))
            some += b" (%s %s)" % (b",".join(b"%d" % n for n, _ in pairs), b",".join(b"%d" % u for _, u in pairs))
        untagged, answer = self.ask(b'SELECT "%s" (QRESYNC (%d %d%s))' % (self.mailbox, self.validity, highest, some))
        assert answer.startswith(b"OK [READ-WRITE]"), answer
        gone = {u for line in untagged for m in [re.match(rb"\* VANISHED \(EARLIER\) ([\d,:]+)\r", line)] if m for u in expand(m[1])}
        self.messages = []
        heard = [u for u in untagged if not u.startswith(b"* VANISHED (EARLIER)")]
        self.hear(heard)
        later = self.ask(b"UID FETCH 1:* (UID)")[0]
        self.hear(later)
        gone |= {u for line in heard + later for m in [re.match(rb"\* VANISHED ([\d,:]+)\r", line)] if m for u in expand(m[1])}
        there = {m[0] for m in self.messages}
        assert not gone & there, (gone & there)
        for uid, (_, flags, modseq) in had.items():
            if uid in gone:
                continue
            message = next((m for m in self.messages if m[0] == uid), None)
            if message and message[1] is None:  # nothing was told of it: it is as it was
                message[1:] = [flags, modseq]
        assert set(had) <= gone | there, (sorted(set(had) - gone - there), untagged)

    def do_noop(self):
        self.hear(self.ask(self.dice.choice([b"NOOP", b"CHECK"]))[0])

    def do_idle(self):
        self.wire.send(b"i IDLE\r\n")
        heard, went_on = [], False
        try:
            while True:
                line = self.wire.response(seconds=None if not went_on else 0.05)
                went_on |= line.startswith(b"+")
                if not line.startswith(b"+"):
                    heard.append(line)
        except TimeoutError:
            pass
        self.wire.send(b"DONE\r\n")
        untagged, answer = self.wire.answer(b"i")
        assert answer.startswith(b"OK"), answer
        self.log.append((b"IDLE", heard + untagged, answer))
        self.hear(heard + untagged)

    def do_status(self):
        box = self.dice.choice(BOXES + [b"INBOX", self.mailbox])
        before = dict(self.shared.highest)
        untagged, answer = self.ask(b'STATUS "%s" (MESSAGES UIDNEXT UIDVALIDITY HIGHESTMODSEQ UNSEEN SIZE)' % box)
        if answer.startswith(b"OK"):
            line = next(u for u in untagged if u.startswith(b"* STATUS"))
            n = {k: int(v) for k, v in re.findall(rb"(UIDVALIDITY|UIDNEXT|HIGHESTMODSEQ) (\d+)", line)}
            validity = n[b"UIDVALIDITY"]
            self.shared.see_highest(validity, n[b"HIGHESTMODSEQ"], before.get(validity, 0))
            assert n[b"UIDNEXT"] > max([0] + [u for v, u in list(self.shared.keys) if v == validity and (v, u) in before]), line
        self.hear(untagged)

    def do_boxes(self):
        box = self.dice.choice(BOXES)
        command = self.dice.choice([b'CREATE "%s"' % box, b'CREATE "%s"' % box, b'DELETE "%s"' % box,
                                    b'RENAME "%s" "%s %d"' % (box, RENAMED, self.dice.randrange(100000)), b'SUBSCRIBE "%s"' % box,
                                    b'LIST (SUBSCRIBED) "" "*" RETURN (CHILDREN STATUS (MESSAGES))'])
        self.hear(self.ask(command)[0])

    def play(self, rounds):
        doing = [self.do_append] * 4 + [self.do_replace] + [self.do_store] * 6 + [self.do_conditional] * 3 + [self.do_copy] * 2 + [self.do_fetch] * 4 + \
            [self.do_uid_fetch] * 2 + [self.do_search] * 2 + [self.do_resync] + [self.do_expunge, self.do_uid_expunge, self.do_noop, self.do_idle,
                                                             self.do_status, self.do_boxes]
        for _ in range(rounds):
            self.dice.choice(doing)()
            if self.dice.random() < 0.03:
                self.fetch_all()

    def end(self):
        """Nobody changes anything any more: after NOOP the picture is the server's state."""
        self.hear(self.ask(b"NOOP")[0])
        had = [list(m) for m in self.messages]
        untagged, _ = self.ask(b"UID FETCH 1:* (FLAGS MODSEQ)")
        now = [fetch_items(u) for u in untagged if b" FETCH (" in u]
        assert [n for n, _ in now] == list(range(1, len(had) + 1)), (len(had), now[-3:])
        for (n, items), m in zip(now, had):
            flags = frozenset(f for f in items[b"FLAGS"] if f != b"\\Recent")
            assert m[0] in (None, int(items[b"UID"])), (n, items, m)
            self.alive(int(items[b"UID"]))
            self.belong(int(items[b"UID"]), int(items[b"MODSEQ"][0]), flags)
            assert m[1] is None or m[1] == flags, f"{self.name}: message {n} {items} UID {m[0]} has {sorted(flags)}, the picture {sorted(m[1])}"
        return [(int(i[b"UID"]), frozenset(i[b"FLAGS"]) - {b"\\Recent"}, int(i[b"MODSEQ"][0])) for _, i in now]


class Stage(mt.ClusterCase):
    """A cluster on which players play."""
    FLAGS = ["--proxies", 1, "--backends", 1, "--users", 2]

    def deliver(self, shared, count):
        with smtplib.SMTP(*self.cluster.at("p1", "smtp"), timeout=30) as smtp:
            for _ in range(count):
                smtp.sendmail("s@example.org", [USER.decode()], make_mail(shared.new_key()))

    def play(self, players, shared, rounds):
        errors, ends = [], {}
        barrier = threading.Barrier(len(players) + 1)

        def work(p):
            try:
                p.play(rounds)
                barrier.wait(WAIT)
                ends[p.name] = p.end()
            except BaseException as e:
                errors.append((p.name, e, p.log[-12:]))
                barrier.abort()

        def mail():
            try:
                self.deliver(shared, max(4, rounds // 8))
                barrier.wait(WAIT)
            except BaseException as e:
                errors.append(("mail", e, []))
                barrier.abort()

        threads = [threading.Thread(target=work, args=(p,)) for p in players] + [threading.Thread(target=mail)]
        for t in threads:
            t.start()
        for t in threads:
            t.join(WAIT + 60)
        errors.sort(key=lambda e: isinstance(e[1], threading.BrokenBarrierError))
        if errors:
            name, e, log = errors[0]
            text = "\n".join(f"{c!r}\n    " + "\n    ".join(map(repr, u)) + f"\n  {a!r}" for c, u, a in log)
            raise AssertionError(f"seed {SEED}, {name}: {e!r}\n{text}") from e
        return ends

    def sizes(self):
        """(messages, octets) over all mailboxes, message by message."""
        wire = Wire(self.cluster.at("b1", "imap"))
        self.addCleanup(wire.close)
        wire.ask(b"LOGIN %s %s" % (USER, PASSWORD))
        names = [re.search(rb'"/" "?([^"\r]*)"?\r', u)[1] for u in wire.ask(b'LIST "" *')[0] if b"\\Noselect" not in u]
        sizes = []
        for name in names:
            self.assertIn(b"OK", wire.ask(b'EXAMINE "%s"' % name)[1])
            own = [int(fetch_items(u)[1][b"RFC822.SIZE"]) for u in wire.ask(b"UID FETCH 1:* (RFC822.SIZE)")[0]]
            status = wire.ask(b'STATUS "%s" (MESSAGES SIZE)' % name)[0][0]
            self.assertIn(b"MESSAGES %d SIZE %d)" % (len(own), sum(own)), status)
            sizes += own
        quota = b"".join(wire.ask(b"GETQUOTAROOT INBOX")[0])
        return len(sizes), sum(sizes), quota


class Model(Stage):
    def two(self, box):
        """Two sessions that have selected a mailbox of their own with one message of UID 1."""
        out = []
        for i in range(2):
            wire = Wire(self.cluster.at("b1", "imap"))
            self.addCleanup(wire.close)
            wire.ask(b"LOGIN user0002@example.test pass0002")
            if i == 0:
                wire.ask(b'CREATE "%s"' % box)
                self.assertIn(b"OK", wire.ask(b'APPEND "%s" {6+}\r\na: b\r\n' % box)[1])
            self.assertIn(b"OK", wire.ask(b'SELECT "%s" (CONDSTORE)' % box)[1])
            wire.ask(b"NOOP")
            out.append(wire)
        return out

    def test_silent_store_hides_no_change_of_others(self):
        a, b = self.two(b"silent")
        a.ask(b"STORE 1 +FLAGS ($theirs)")
        told = b"".join(b.ask(b"STORE 1 +FLAGS.SILENT (\\Seen)")[0])
        self.assertRegex(told, rb"FETCH \(UID 1 MODSEQ \(\d+\) FLAGS \([^)]*\$theirs")

    def test_flags_are_shown_with_keywords_that_others_have_just_made(self):
        a, b = self.two(b"keywords")
        for i, command in enumerate([b"FETCH 1 (FLAGS MODSEQ)", b"FETCH 1 BODY[]", b"STORE 1 +FLAGS (\\Seen)"]):
            a.ask(b"STORE 1 +FLAGS ($new%d)" % i)
            untagged, _ = b.ask(command)
            self.assertIn(b"$new%d" % i, next(u for u in untagged if b" FETCH (" in u), command)
            self.assertIn(b"$new%d" % i, next(u for u in untagged if u.startswith(b"* FLAGS")), command)

    def test_a_failed_silent_store_tells_no_modseq_without_flags(self):
        a, b = self.two(b"failed")
        old = fetch_items(b.ask(b"FETCH 1 (MODSEQ)")[0][0])[1][b"MODSEQ"][0]
        a.ask(b"STORE 1 +FLAGS (\\Flagged)")
        untagged, answer = b.ask(b"STORE 1 (UNCHANGEDSINCE %s) FLAGS.SILENT (\\Seen)" % old)
        self.assertIn(b"[MODIFIED 1]", answer)
        fetches = [fetch_items(u)[1] for u in untagged if b" FETCH (" in u]
        self.assertTrue(fetches and all(b"\\Flagged" in f[b"FLAGS"] for f in fetches), untagged)

    def test_append_goes_where_the_name_is_now(self):
        a, b = self.two(b"name")
        mail = b"APPEND name {6+}\r\na: b\r\n"
        first = a.ask(mail)[1]
        self.assertIn(b"OK [APPENDUID", first)
        b.ask(b"RENAME name other")
        self.assertIn(b"NO [TRYCREATE]", a.ask(mail)[1])
        b.ask(b"CREATE name")
        self.assertIn(b"OK [APPENDUID", a.ask(mail)[1])
        self.assertIn(b"MESSAGES 1)", a.ask(b"STATUS name (MESSAGES)")[0][0])
        self.assertIn(b"MESSAGES 2)", a.ask(b"STATUS other (MESSAGES)")[0][0])

    def test_pictures_agree(self):
        self.cluster.ctl("b1", "account", "set", USER.decode(), "--quota", "1G", "--count", "100000")
        shared = Shared()
        places = [("proxy 1", "p1", b"INBOX"), ("proxy 2", "p1", b"INBOX"), ("direct", "b1", b"INBOX"), ("other", "b1", b"Work")]
        first = Wire(self.cluster.at("b1", "imap"))
        first.ask(b"LOGIN %s %s" % (USER, PASSWORD))
        for box in [b"Work"] + BOXES[:2]:
            first.ask(b'CREATE "%s"' % box)
        first.close()
        players = [Player(shared, self.cluster.at(at, "imap"), name, SEED * 10 + i, box, qresync=i in (1, 2, 3))
                   for i, (name, at, box) in enumerate(places)]
        try:
            ends = self.play(players, shared, ROUNDS)
        finally:
            for p in players:
                p.wire.close()
        self.assertEqual(ends["proxy 1"], ends["proxy 2"])
        self.assertEqual(ends["proxy 1"], ends["direct"])
        count, octets, quota = self.sizes()
        self.assertRegex(quota, rb"STORAGE %d \d+" % ((octets + 1023) // 1024))
        self.assertRegex(quota, rb"MESSAGE %d \d+" % count)
        self.assertIn(str(octets), self.cluster.ctl("b1", "--json", "quota", USER.decode()))
        self.cluster.ctl("b1", "store", "check")


if __name__ == "__main__":
    import unittest
    unittest.main()
