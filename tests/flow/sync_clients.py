"""Two clients that hold a cache: mbsync, and a QRESYNC client (RFC 7162) of the tests' own. Each comes back to a server of which it knows
an earlier state, and afterwards its cache must be what the server has: nothing lost, twice, or in another's place."""
import hashlib
import os
import re
import shutil
import subprocess

from imap_wire import Wire, fetch_items


def ok(wire, command):
    """The untagged responses of a command that must succeed."""
    responses, answer = wire.ask(command.encode())
    if not answer.startswith(b"OK"):
        raise AssertionError(f"{command}: {answer!r}")
    return responses


def digest(text):
    return hashlib.sha256(text).hexdigest()[:16]


class Qresync:
    """Caches of all mailboxes: {name: (uidvalidity, modseq, {uid: (flags, digest of the body)})}."""

    def __init__(self, user, password, tls):
        self.user, self.password, self.tls = user, password, tls
        self.boxes = {}
        self.fetched = 0  # bodies that had to be fetched in the last sync

    def connect(self, where):
        w = Wire(where, self.tls)
        ok(w, f"LOGIN {self.user} {self.password}")
        ok(w, "ENABLE QRESYNC")
        return w

    @staticmethod
    def fetches(responses):
        for r in responses:
            if re.match(rb"\* \d+ FETCH ", r):
                items = fetch_items(r)[1]
                yield int(items[b"UID"]), items

    @staticmethod
    def flags(items):
        return frozenset(f for f in items[b"FLAGS"] if f.lower() != b"\\recent")

    @staticmethod
    def numbers(text):
        out = set()
        for part in text.split(b","):
            first, _, last = part.partition(b":")
            out.update(range(int(first), int(last or first) + 1))
        return out

    def sync_box(self, w, name):
        known = self.boxes.get(name)
        how = f" (QRESYNC ({known[0]} {known[1]}))" if known else ""
        rs = ok(w, f'SELECT "{name}"{how}')
        text = b"".join(rs)
        validity = int(re.search(rb"UIDVALIDITY (\d+)", text)[1])
        modseq = int(re.search(rb"HIGHESTMODSEQ (\d+)", text)[1])
        cache = dict(known[2]) if known and known[0] == validity else {}
        if cache:
            for r in rs:
                m = re.match(rb"\* VANISHED \(EARLIER\) (\S+)", r)
                if m:
                    gone = self.numbers(m[1])
                    cache = {u: v for u, v in cache.items() if u not in gone}
        for uid, items in self.fetches(rs):
            cache[uid] = (self.flags(items), cache[uid][1] if uid in cache else None)
        if not (known and known[0] == validity):
            for uid, items in self.fetches(ok(w, "UID FETCH 1:* (FLAGS)")):
                cache[uid] = (self.flags(items), None)
        missing = [u for u, v in cache.items() if v[1] is None]
        if missing:
            for uid, items in self.fetches(ok(w, f"UID FETCH {','.join(map(str, missing))} (BODY.PEEK[])")):
                cache[uid] = (cache[uid][0], digest(items[b"BODY[]"]))
        self.fetched += len(missing)
        self.boxes[name] = (validity, modseq, cache)

    def sync(self, where):
        """Comes back to the server, brings the cache up by what QRESYNC tells, and proves it against all that is there."""
        self.fetched = 0
        w = self.connect(where)
        names = [re.search(rb'"/" "?([^"\r\n]+)"?\r\n', r)[1].decode() for r in ok(w, 'LIST "" "*"') if r.startswith(b"* LIST")]
        self.boxes = {n: self.boxes[n] for n in names if n in self.boxes}
        for name in names:
            self.sync_box(w, name)
        for name in names:
            truth = self.truth(w, name)
            if truth != self.boxes[name][2]:
                raise AssertionError(f"{name}: the cache is {self.boxes[name][2]}, the server has {truth}")
        w.close()
        return self.boxes

    def truth(self, w, name):
        ok(w, f'EXAMINE "{name}"')
        return {uid: (self.flags(items), digest(items[b"BODY[]"]))
                for uid, items in self.fetches(ok(w, "UID FETCH 1:* (FLAGS BODY.PEEK[])"))}


class Mbsync:
    def __init__(self, folder, user, password, certificate):
        self.folder, self.user, self.password, self.certificate = folder, user, password, certificate
        self.box = os.path.join(folder, "box")
        os.mkdir(self.box)

    @staticmethod
    def is_there():
        return shutil.which("mbsync") is not None

    def sync(self, where):
        """Runs it; all Message-IDs with their flags, by folder."""
        rc = os.path.join(self.folder, "mbsyncrc")
        with open(rc, "w") as f:
            f.write(f"""IMAPAccount m
Host {where[0]}
Port {where[1]}
User {self.user}
Pass {self.password}
SSLType IMAPS
CertificateFile {self.certificate}

IMAPStore far
Account m

MaildirStore near
Path {self.box}/
Inbox {self.box}/INBOX
SubFolders Verbatim

Channel c
Far :far:
Near :near:
Patterns *
Create Both
Remove Both
Expunge Both
SyncState *
""")
        done = subprocess.run(["mbsync", "-c", rc, "-a"], capture_output=True, timeout=120)
        if done.returncode:
            raise AssertionError(f"mbsync: {done.stderr.decode(errors='replace')[-2000:]}")
        return self.content(), done.stdout + done.stderr

    def content(self):
        out = []
        for root, _, files in os.walk(self.box):
            if os.path.basename(root) in ("cur", "new"):
                for name in files:
                    with open(os.path.join(root, name), "rb") as f:
                        m = re.search(rb"(?im)^Message-ID: (.*?)\r?$", f.read())
                    out.append((os.path.relpath(os.path.dirname(root), self.box), m and m[1].decode(), name.partition(":2,")[2]))
        return sorted(out)
