"""The text index against a scan, and both against Python's email package: the same messages lie in a mailbox that is indexed and in
mailboxes too small for it, and each search must find the same in both; also while messages come and go, after kill -9 amid
indexing, after a rebuild, and after the index was deleted."""
import base64
import email
import email.policy
import os
import random
import re
import shutil
import tarfile
import unicodedata

import mt
from backend_case import BackendCase
from imap_wire import Closed, Wire

WORDS = ["time", "Person", "Jahr", "w\u00e4y", "Stra\u00dfe", "\u307e\u307f\u30e0", "budget", "MEETING", "0123", "\u041f\u0440\u0438\u0432\u0435\u0442",
         "a", "\u00e9t\u00e9", "<b>", "=3D", "\U0001f600", "zebra crossing"]
SMALL = 40  # messages of a mailbox that is not indexed


def generated(rng, count):
    """Messages of one text part, and what Python reads in them: (bytes, text that BODY looks into, subject)."""
    out = []
    for i in range(count):
        text = "".join(rng.choice(WORDS) + rng.choice([" ", " ", "\n"]) for _ in range(rng.randrange(1, 700))) + "\n"
        m = email.message.EmailMessage(policy=email.policy.SMTP)
        m["Subject"] = f"{rng.choice(WORDS)} n\u00b0 {i} {rng.choice(WORDS)}"
        m["From"] = f"sender{i % 7}@example.org"
        m["X-Number"] = str(i * 7)
        charset, cte = rng.choice([("utf-8", "base64"), ("utf-8", "quoted-printable"), ("utf-8", "8bit"), ("koi8-r", "base64"), ("iso-2022-jp", "7bit")])
        if charset != "utf-8":
            text = "".join(c for c in text if ord(c) < 128 or (charset == "koi8-r") == ("\u0400" < c < "\u0500") and c not in "\u00e4\u00df\u00e9\U0001f600")
            text = text if charset == "koi8-r" else "".join(c for c in text if ord(c) < 128 or "\u3000" < c < "\u30ff")
        m.set_content(text, charset=charset, cte=cte)
        raw = m.as_bytes()
        read = email.message_from_bytes(raw, policy=email.policy.SMTP)
        out.append((raw, read.get_content().replace("\r\n", "\n").replace("\n", "\r\n"), str(read["Subject"])))
    return out


def tricky():
    """Corner cases of MIME, each several times so that they fill segments; what they hold is in WORDS."""
    nested = b"Subject: inner Person\r\nTo: way@example.org\r\n\r\nbudget in the innermost\r\n"
    for i in range(6):
        nested = (b"Subject: level %d\r\nX-Number: 7%d\r\nContent-Type: multipart/digest; boundary=n%d\r\n\r\n--n%d\r\n\r\n" % (i, i, i, i)
                  + nested + b"\r\n--n%d--\r\n" % i)
    words = " ".join(WORDS)
    b64 = base64.encodebytes(words.encode() * 3).replace(b"\n", b"\r\n")
    typed = b"Subject: %s\r\nContent-Type: %s\r\nContent-Transfer-Encoding: %s\r\n\r\n%s"
    return [
        typed % (b"unknown", b"text/plain; charset=x-nobody-knows", b"8bit", words.encode()),
        typed % (b"broken base64", b"text/plain; charset=utf-8", b"base64", b64[:30] + b"!!\x80" + b64[31:71] + b"=====\r\n" + b64),
        typed % (b"cut base64", b"text/plain; charset=utf-8", b"base64", b64[:-5]),
        typed % (b"broken quotes", b"text/html; charset=utf-8", b"quoted-printable", b"bud=\r\nget =ZZ =3 Stra=C3=9Fe time=\r\n"),
        typed % (b"odd octets", b"text/plain; charset=utf-8", b"8bit", b"\xff\xfebud\xc3get zebra crossing \xe3\x81"),
        typed % (b"shifted", b"text/plain; charset=iso-2022-jp", b"7bit", b"\x1b$B$^$_\r\n\x1b(Bbudget \x1b$B$^"),
        typed % (b"wide", b"text/plain; charset=utf-16", b"base64", base64.encodebytes(words.encode("utf-16")).replace(b"\n", b"\r\n")),
        typed % (b"encoded message", b"message/rfc822", b"base64", base64.encodebytes(nested[:900]).replace(b"\n", b"\r\n")),
        typed % (b"no parts", b"multipart/mixed; boundary=none", b"7bit", b"MEETING budget\r\n"),
        b"Subject: =?utf-8?Q?Stra?=\r\n =?utf-8?Q?=C3=9Fe_bud?=\r\n\t=?utf-8?B?Z2V0?= zebra\r\n crossing\r\nX-Number: 01\r\n 23\r\n\r\n",
        b"Subject: =?utf-8?Q?=C3?= =?utf-8?Q?=9F?= =?x-none?Q?time?= =?utf-8?B?!!?=\r\n\r\n",
        b"Subject : budget\r\nSubject: MEETING\r\n: no name\r\nno colon\r\n\r\nbody",
        b"\r\nnothing but Person\r\n", b"Subject: no body", nested,
        b"Content-Type: message/rfc822\r\n\r\n" + nested,
        b"Content-Type: text/plain; charset=utf-8\r\n\r\n" + b"x" * 65530 + "w\u00e4y Stra\u00dfe budget".encode() + b"y" * 131065 + b"zebra crossing\r\n",
    ]


def fold(text):
    """As RFC 5051 has it, near enough for these words."""
    return unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())


def real(rng, count):
    """Some of the corpora, where there are any."""
    found = []
    for name in ("tricky-mail.tar.xz", "real-mail.tar.xz"):
        path = mt.corpus(name)
        if path:
            with tarfile.open(path) as tar:
                names = sorted(n for n in tar.getnames() if n.endswith(".eml"))
                picked = set(rng.sample(names, min(count, len(names))))
                for member in tar:
                    if member.name in picked:
                        raw = tar.extractfile(member).read().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n").replace(b"\0", b"0")
                        if len(raw) < 200000:
                            found.append(raw)
    return found


def spread(text):
    """The numbers of a sequence set."""
    out = []
    for part in text.split(b",") if text != b"NIL" else ():
        low, _, high = part.partition(b":")
        out += range(int(low), int(high or low) + 1)
    return out


class SearchIndex(BackendCase):
    USERS = 1
    CONF = "text-index-share = 100\nslots = 1\n"
    STARTER = ["--restart"]

    def connect_imap(self):
        def login():
            try:
                wire = Wire(self.cluster.at("b1", "imap"), timeout=60)
                self.addCleanup(wire.close)
                return wire if wire.ask(b"LOGIN %s %s" % (self.user(1).encode(), self.password(1).encode()))[1].startswith(b"OK") else None
            except (OSError, Closed):
                return None
        return mt.wait_for(login, 60, "the back-end takes logins")

    def ok(self, command):
        untagged, answer = self.wire.ask(command)
        self.assertTrue(answer.startswith(b"OK"), (command[:80], answer))
        return untagged

    def append(self, mailbox, messages):
        for at in range(0, len(messages), 40):
            self.ok(b"APPEND " + mailbox + b"".join(b" {%d+}\r\n%s" % (len(m), m) for m in messages[at:at + 40]))

    def status(self):
        rows = self.cluster.ctl_json("b1", "index", "status", self.user(1))["rows"]
        return next(r for r in rows if r["mailbox"] == "all")

    def wait_indexed(self, least):
        mt.wait_for(lambda: self.status()["indexed"] >= least and self.cluster.ctl_json("b1", "index", "status")["idle"], 60,
                    f"{least} messages are indexed")

    def add(self, messages):
        """To the indexed mailbox, and to small ones; `uids`: (indexed one's UID) by (small mailbox, UID)."""
        self.append(b"all", messages)
        for at in range(0, len(messages), SMALL):
            self.boxes += 1
            name = b"plain/%d" % self.boxes
            self.ok(b"CREATE " + name)
            self.append(name, messages[at:at + SMALL])
            for i in range(len(messages[at:at + SMALL])):
                self.uids[name, i + 1] = self.next_uid
                self.next_uid += 1

    def indexed(self, key):
        line = next(u for u in self.ok(b"UID SEARCH " + key) if u.startswith(b"* SEARCH"))
        return sorted(int(n) for n in line.split()[2:])

    def scanned(self, key):
        found = []
        for line in self.ok(b"ESEARCH IN (subtree plain) RETURN (ALL) " + key):
            name = re.search(rb'MAILBOX "?([^" ]+)"?', line)[1]
            for part in line.rsplit(b" ALL ", 1)[1].strip().split(b","):
                low, _, high = part.partition(b":")
                found += [self.uids[name, uid] for uid in range(int(low), int(high or low) + 1)]
        return sorted(found)

    @staticmethod
    def key(kind, needle):
        needle = needle.encode()
        return b"%s {%d+}\r\n%s" % (kind, len(needle), needle)

    def compare(self, rng, texts, rounds):
        """Needles out of texts, and some that are nowhere; in several kinds of keys."""
        found = 0
        for i in range(rounds):
            text = rng.choice(texts) or "x"
            at = rng.randrange(len(text))
            needle = text[at:at + rng.choice([1, 2, 3, 4, 6, 9, 15, 40])].replace("\0", "").strip("\r\n") or "x"
            if i % 5 == 0:
                needle = needle.swapcase()
            if i % 11 == 0:
                needle = "no such thing " + needle
            one = self.key(rng.choice([b"TEXT", b"BODY", b"SUBJECT", b"FROM", b"HEADER X-Number", b"HEADER Received"]), needle)
            other = self.key(b"TEXT", rng.choice(WORDS))
            key = b"CHARSET UTF-8 " + rng.choice([one, one, b"NOT " + one, b"OR %s %s" % (one, other), b"%s NOT %s" % (other, one)])
            got = self.indexed(key)
            self.assertEqual(got, self.scanned(key), (i, key))
            found += len(got)
            self.other_ways(i, key, got)
            if i % 10 == 0:  # by the other way into the same mailbox
                answer = self.ok(b"ESEARCH IN (mailboxes all) RETURN (COUNT) " + key)
                self.assertEqual(int(answer[0].split()[-1]) if answer else 0, len(got))
        return found

    def other_ways(self, i, key, want):
        """The same key in each command that searches."""
        charset, _, key = key.removeprefix(b"CHARSET ").partition(b" ")

        def numbers(command, name):
            line = next((u for u in self.ok(command) if u.startswith(b"* " + name)), b"")
            return line, sorted(int(n) for n in re.findall(rb"\d+", line[2 + len(name):]))

        if i % 5 == 0:
            self.assertEqual(numbers(b"UID SORT (REVERSE SIZE) %s %s" % (charset, key), b"SORT")[1], want, key)
        elif i % 5 == 1:
            algorithm = b"REFERENCES" if i % 2 else b"ORDEREDSUBJECT"
            self.assertEqual(numbers(b"UID THREAD %s %s %s" % (algorithm, charset, key), b"THREAD")[1], want, key)
        elif i % 5 == 2:
            line, _ = numbers(b"UID SEARCH RETURN (PARTIAL 3:6 MIN MAX COUNT) CHARSET UTF-8 " + key, b"ESEARCH")
            some = want[2:6]
            found = re.search(rb"PARTIAL \(3:6 ([0-9:,]+|NIL)\)", line)[1]
            self.assertEqual(spread(found), some, (key, line))
            self.assertIn(b"COUNT %d" % len(want), line)
        elif i % 5 == 3:
            self.ok(b"UID SEARCH RETURN (SAVE) CHARSET UTF-8 " + key)
            self.assertEqual(self.indexed(b"$"), want, key)
            self.assertEqual(self.indexed(b"CHARSET UTF-8 NOT $ " + key), [], key)
        else:
            self.assertEqual(self.indexed(b"CHARSET UTF-8 YOUNGER 100000 NOT OLDER 100000 " + key), want, key)

    def expunge(self, rng):
        for mailbox in [b"all"] + sorted({m for m, _ in self.uids}):
            self.ok(b"SELECT " + mailbox)
            uids = self.gone if mailbox == b"all" else [u for (m, u), uid in self.uids.items() if m == mailbox and uid in self.gone]
            if uids:
                spec = b",".join(b"%d" % u for u in sorted(uids))
                self.ok(b"UID STORE " + spec + b" +FLAGS.SILENT (\\Deleted)")
                self.ok(b"UID EXPUNGE " + spec)
        self.ok(b"SELECT all")

    def test_a_search_finds_what_a_scan_finds(self):
        rng = random.Random(os.environ.get("SEARCH_SEED", "5"))
        self.wire = self.connect_imap()
        self.boxes, self.uids, self.next_uid = 0, {}, 1
        self.ok(b"CREATE all")
        made = generated(rng, 160)
        messages = [raw for raw, _, _ in made] + tricky() * 3 + real(rng, 60)
        texts = [t for _, t, _ in made] + [s for _, _, s in made] + [m.decode("latin-1") for m in messages[160:]] + WORDS
        self.add(messages)
        self.wait_indexed(100)
        self.ok(b"SELECT all")
        self.assertGreater(self.compare(rng, texts, 60), 100)
        # Against Python, where both read alike.
        for i in range(40):
            needle = rng.choice(WORDS) if i % 2 else (lambda t, a: t[a:a + 8])(rng.choice(made)[1], 3).split("\r\n")[0] or "a"
            want = [uid + 1 for uid, (_, text, _) in enumerate(made) if fold(needle) in fold(text)]
            got = [uid for uid in self.indexed(b"CHARSET UTF-8 UID 1:160 " + self.key(b"BODY", needle))]
            self.assertEqual(got, want, needle)
            want = [uid + 1 for uid, (_, _, subject) in enumerate(made) if fold(needle) in fold(subject)]
            self.assertEqual(self.indexed(b"CHARSET UTF-8 UID 1:160 " + self.key(b"SUBJECT", needle)), want, needle)
        # More come, the newest are not yet indexed, some go.
        self.add([raw for raw, _, _ in generated(rng, 30)])
        self.gone = set(rng.sample(range(1, self.next_uid), 60))
        self.expunge(rng)
        self.compare(rng, texts, 30)
        # Killed while it is made anew.
        for wait in (0.0, 0.02, 0.1):
            old = self.cluster.pid("b1")
            self.cluster.ctl("b1", "index", "rebuild", self.user(1))
            mt.time.sleep(wait)  # anywhere in its work, not when something is seen
            self.cluster.kill("b1")
            self.cluster.wait_restarted("b1", old, 60)
            self.wire = self.connect_imap()
            self.ok(b"SELECT all")
            self.compare(rng, texts, 8)
        self.wait_indexed(100)
        self.compare(rng, texts, 10)
        # Deleted under a program that is down, with others' octets in its place.
        old, folder = self.cluster.pid("b1"), os.path.join(self.cluster.at("b1", "data"), "s0", "text")
        self.cluster.kill("b1")
        shutil.rmtree(folder)
        self.cluster.wait_restarted("b1", old, 60)
        self.wire = self.connect_imap()
        self.ok(b"SELECT all")
        self.wait_indexed(100)
        self.compare(rng, texts, 10)
        # Moved to another mailbox and back: UIDs of their own, nothing of the old ones is believed.
        self.ok(b"CREATE other")
        self.ok(b"UID MOVE 1:* other")
        self.assertEqual(self.indexed(b"TEXT example"), [])
        self.ok(b"SELECT other")
        count = len(self.indexed(b"ALL"))
        mt.wait_for(lambda: next(r for r in self.cluster.ctl_json("b1", "index", "status", self.user(1))["rows"]
                                 if r["mailbox"] == "other")["indexed"] >= count // 2, 60, "the other mailbox is indexed")
        ok = [u for u in self.ok(b"UID SEARCH NOT TEXT \"no such thing at all\"") if u.startswith(b"* SEARCH")]
        self.assertEqual(len(ok[0].split()) - 2, count)
        self.assertGreater(int(self.cluster.ctl_json("b1", "index", "check", self.user(1))["messages"]), 0)
        self.cluster.ctl("b1", "store", "check")


if __name__ == "__main__":
    mt.unittest.main()
