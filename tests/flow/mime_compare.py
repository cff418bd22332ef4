"""Holds ENVELOPE and BODYSTRUCTURE of folders of messages against Dovecot's: `make mime-compare DIR=FOLDER`. Each file is a message, and both servers get it by APPEND. Ours must take each, and give it back octet by octet.
Differences are listed field by field. Each must be of a class that docs/mime.md explains by an RFC; others are shown, and it fails.

  -v  shows those that are explained, too
"""
import email.policy
import os
import re
import sys
import tempfile

import mt
import peers
from imap_wire import Wire, fetch_items

USER, BATCH = "user0001@example.test", 50
ENVELOPE = ("date", "subject", "from", "sender", "reply-to", "to", "cc", "bcc", "in-reply-to", "message-id")
ADDRESSES = ENVELOPE[2:8]
LEAF = ("type", "subtype", "params", "id", "description", "encoding", "octets")
EXTENSION = ("disposition", "language", "location")


class Server:
    def __init__(self, name, where, user, password):
        self.name, self.wire = name, Wire(where, timeout=120)
        self.ok(b"LOGIN %s %s" % (user, password))

    def ok(self, command):
        untagged, answer = self.wire.ask(command)
        if not answer.startswith(b"OK"):
            raise RuntimeError(f"{self.name}: {command[:60]!r}: {answer!r}")
        return untagged

    def load(self, messages):
        self.ok(b"CREATE corpus")
        for _, data in messages:
            self.ok(b"APPEND corpus {%d+}\r\n%s" % (len(data), data))
        self.ok(b"SELECT corpus")

    def fetch(self, first, last):
        lines = self.ok(b"FETCH %d:%d (ENVELOPE BODYSTRUCTURE BODY RFC822.SIZE BODY.PEEK[])" % (first, last))
        return dict(fetch_items(line) for line in lines if re.match(rb"\* \d+ FETCH \(", line))


# ---- field by field: (path, name, ours, theirs) ----

def envelope(path, a, b):
    for name, x, y in zip(ENVELOPE, a, b):
        if name in ADDRESSES and x and y and len(x) == len(y):
            for i, (p, q) in enumerate(zip(x, y)):
                yield f"{path}.{name}[{i}]", name, p, q
        else:
            yield f"{path}.{name}", name, x, y


def named(path, names, a, b):
    if len(a) != len(b):
        yield f"{path}.length", "length", a, b
    for name, x, y in zip(names, a, b):
        yield f"{path}.{name}", name, x, y


def is_list(value):
    return isinstance(value, list)


def children(body):
    return next(i for i, x in enumerate(body) if not is_list(x))


def is_message(body):
    return [x and x.lower() for x in body[:2]] == [b"message", b"rfc822"] and len(body) > 8 and is_list(body[8])


def body(path, a, b):
    if is_list(a[0]) != is_list(b[0]):
        yield f"{path}.kind", "kind", a, b
    elif is_list(a[0]):
        n, m = children(a), children(b)
        if n != m:
            yield f"{path}.parts", "parts", n, m
        else:
            for i in range(n):
                yield from body(f"{path}.{i + 1}", a[i], b[i])
        yield from named(path, ("subtype", "params") + EXTENSION, a[n:], b[m:])
    elif is_message(a) and is_message(b):
        yield from named(path, LEAF, a[:7], b[:7])
        yield from envelope(path + ".envelope", a[7], b[7])
        yield from body(path + ".body", a[8], b[8])
        yield from named(path, ("lines", "md5") + EXTENSION, a[9:], b[9:])
    else:
        names = LEAF + ("lines",) * (str(a[0]).lower() == "b'text'")
        yield from named(path, names + ("md5",) + EXTENSION, a, b)


def differences(ours, theirs):
    for row in (*envelope("envelope", ours[b"ENVELOPE"], theirs[b"ENVELOPE"]),
                *body("body", ours[b"BODYSTRUCTURE"], theirs[b"BODYSTRUCTURE"]),
                ("size", "octets", ours[b"RFC822.SIZE"], theirs[b"RFC822.SIZE"])):
        if row[2] != row[3]:
            yield row


# ---- what explains a difference: each row is a heading of docs/mime.md ----

def lower(value):
    if is_list(value):
        return [lower(v) for v in value]
    return value.lower() if isinstance(value, bytes) else value


def blanks(value):
    if is_list(value):
        return [blanks(v) for v in value]
    return re.sub(rb"[ \t]+", b" ", value).strip() if isinstance(value, bytes) else value


def header(data, name):
    """All fields of this name in the message's own header, unfolded."""
    head = re.split(rb"\r\n\r\n", data, maxsplit=1)[0]
    return [re.sub(rb"\r\n(?=[ \t])", b"", m[1]) for m in re.finditer(rb"(?im)^%s[ \t]*:([^\r\n]*(?:\r\n[ \t][^\r\n]*)*)" % name.encode(), head)]


def has_defects(data, name):
    """Python's own parser finds something wrong with these addresses, or something obsolete."""
    for value in header(data, name):
        parsed = email.policy.default.header_factory(name, value.decode("latin-1").strip())
        if parsed.defects or re.search(rb"@[^,<>\s]*@", value) or b"\x80" <= max((value[i:i + 1] for i in range(len(value))), default=b""):
            return True
    return False


def without_default(a, b):
    """Their parameters without the charset that they add to a text without one."""
    if b and b[-2:] == [b"charset", b"us-ascii"] and b"charset" not in lower((a or [])[::2]):
        return b[:-2] or None
    return b


def is_default_charset(d, name, a, b):
    return name == "params" and b != without_default(a, b) and lower(a) == lower(without_default(a, b))


def is_case(d, name, a, b):
    return name in ("type", "subtype", "params", "encoding", "disposition") and lower(a) == lower(b)


def is_blank(d, name, a, b):
    return blanks(a) == blanks(b)


def is_no_address(d, name, a, b):
    fields = [name] + ["from"] * (name in ("sender", "reply-to"))
    return name in ADDRESSES and (has_placeholder(b) or any(has_defects(d, f) for f in fields))


def has_placeholder(value):
    return bool(re.search(rb"MISSING_MAILBOX|MISSING_DOMAIN|SYNTAX_ERROR", repr(value).encode()))


def is_repeated(d, name, a, b):
    return name in ENVELOPE and len(header(d, name)) > 1


def has_no_parts(d, name, a, b):
    return name == "kind" and is_list(b[0]) and children(b) == 1 and b[0][6] == b"0" and b[0][:2] == [b"text", b"plain"]


def is_no_boundary(d, name, a, b):
    if name == "params":
        p, q = (dict(zip(lower(v[::2]), v[1::2])) if v else {} for v in (a, b))
        x, y = p.pop(b"boundary", b""), q.pop(b"boundary", b"")
        return p == q and x.startswith(y) and x[len(y):len(y) + 1] in b"=?:/,"
    return name == "parts" and (re.search(rb'(?i)boundary=[^"\s;]*[=?:/,]', d) is not None or has_false_delimiter(d))


def has_false_delimiter(d):
    """A line that only begins as a delimiter does."""
    for m in re.finditer(rb'(?i)boundary="?([^"\s;]+)', d):
        if re.search(rb"(?m)^--%s(?!--)[^ \t\r\n]" % re.escape(m[1]), d):
            return True
    return False


def is_unquoted(d, name, a, b):
    """A value with blanks that should have been quoted: theirs ends at the first."""
    def flat(v):
        return [x for item in v for x in flat(item)] if is_list(v) else [v]
    p, q = flat(a or []), flat((without_default(a, b) if name == "params" else b) or [])
    return name in ("disposition", "params") and len(p) == len(q) and all(
        x == y or (x and y and x.startswith(y) and x[len(y):len(y) + 1] in b" \t") for x, y in zip(p, q))


def is_no_disposition(d, name, a, b):
    return name == "disposition" and a is None and b == [b"", None]


def is_no_encoding(d, name, a, b):
    known = rb"(?i)(7bit|8bit|binary|base64|quoted-printable|x-\S+)[ \t]*(\([^)]*\))?\s*\Z"
    values = [m[1].strip() for m in re.finditer(rb"(?im)^content-transfer-encoding[ \t]*:(.*)", d)]
    return name == "encoding" and lower(b) == b"7bit" and any(not re.match(known, v) for v in values)


def is_no_mime(d, name, a, b):
    return name in ("encoding", "params", "type", "subtype") and not header(d, "mime-version")


def has_bare_cr(d, name, a, b):
    return name in ("octets", "lines") and re.search(rb"\r(?!\n)", d) is not None


EXPLAINED = (("default charset", is_default_charset), ("case", is_case), ("blanks", is_blank), ("addresses", is_no_address), ("fields that come twice", is_repeated),
             ("multiparts without parts", has_no_parts), ("boundaries", is_no_boundary), ("values without quotes", is_unquoted),
             ("dispositions without a type", is_no_disposition), ("encodings", is_no_encoding), ("without MIME-Version", is_no_mime),
             ("bare CR", has_bare_cr))


def explain(data, name, a, b):
    for heading, test in EXPLAINED:
        if test(data, name, a, b):
            return heading
    return None


# ---- the run ----

def prepare(data):
    """As APPEND wants it; empty: it can't be had so."""
    return b"" if b"\0" in data else re.sub(rb"(?<!\r)\n", b"\r\n", data)


def read(folders):
    out = []
    for folder in folders:
        for root, _, files in os.walk(folder):
            for name in files:
                with open(os.path.join(root, name), "rb") as f:
                    out.append((os.path.join(root, name), prepare(f.read())))
    return sorted(row for row in out if row[1])


class Servers:
    """A back-end of ours and a Dovecot."""

    def __enter__(self):
        self.dir = tempfile.TemporaryDirectory()
        certificates = peers.Certificates(self.dir.name)
        self.dovecot = peers.Dovecot([USER], certificates.make("server", "DNS:localhost"))
        try:
            self.cluster = mt.Cluster("--proxies", 0, "--backends", 1, "--users", 1)
        except BaseException:
            self.dovecot.stop()
            raise
        self.both = [Server("ours", self.cluster.at("b1", "imap"), USER.encode(), b"pass0001"),
                     Server("Dovecot", (self.dovecot.host, self.dovecot.ports["imap"]), USER.encode(), b"secret")]
        return self

    def __exit__(self, *_):
        self.cluster.stop()
        self.dovecot.stop()
        self.dir.cleanup()

    def compare(self, messages, verbose=False, out=sys.stdout):
        """(messages that did not come back whole, {class: differences}); None: not explained."""
        lost, counts = [], {}
        for server in self.both:
            server.load(messages)
        for first in range(1, len(messages) + 1, BATCH):
            last = min(first + BATCH - 1, len(messages))
            a, b = (server.fetch(first, last) for server in self.both)
            for n in range(first, last + 1):
                path, data = messages[n - 1]
                if a[n][b"BODY[]"] != data or int(a[n][b"RFC822.SIZE"]) != len(data):
                    lost.append(path)
                for field, name, x, y in differences(a[n], b[n]):
                    why = explain(data, name, x, y)
                    counts[why] = counts.get(why, 0) + 1
                    if verbose or not why:
                        print(f"{path}: {field} ({why})\n    ours     {x!r:.300}\n    Dovecot  {y!r:.300}", file=out, flush=True)
        return lost, counts


def main():
    messages = read(a for a in sys.argv[1:] if a != "-v")
    if not messages:
        sys.exit("usage: make mime-compare DIR=FOLDER: there are no messages in it")
    with Servers() as servers:
        lost, counts = servers.compare(messages, "-v" in sys.argv)
    for path in lost:
        print(f"{path}: does not come back as it went in")
    for why, count in sorted(counts.items(), key=lambda row: -row[1]):
        print(f"{count:6} {why or 'not explained'}")
    print(f"{len(messages)} messages, {len(lost)} not whole, {sum(counts.values())} differences, {counts.get(None, 0)} not explained")
    sys.exit(1 if lost or counts.get(None) else 0)


if __name__ == "__main__":
    main()
