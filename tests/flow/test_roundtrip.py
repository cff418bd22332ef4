"""Messages of all kinds through port 25 to users on two back-ends, back by IMAP and POP3 octet for octet: bodies with bare CR and bare LF,
without a last line end, with lines of 14,000 octets, raw 8-bit headers, dots everywhere; NUL is refused. A generator in
this file makes them, from a fixed seed; the corpora of real mail are added where they are present."""
import imaplib
import os
import poplib
import random
import re
import socket
import ssl
import tarfile
import unittest

import mt

PASSWORD = "secret"
USERS = 20
COUNT = 200


def address(n):
    return f"user{n:04d}@example.test"


def as_stored(raw):
    """What must come back: a bare LF has become CRLF, a missing last line end is added, a bare CR stays."""
    text = re.sub(rb"(?<!\r)\n", b"\r\n", raw)
    if text and not text.endswith(b"\r\n"):
        text += b"\r\n"
    return text


def on_the_wire(raw):
    """As a client sends it that knows no line end but CRLF: dots are doubled behind CRLF alone."""
    text = raw
    if text and not text.endswith(b"\r\n"):
        # CRLF.CRLF must follow; after a bare LF or CR an empty end would change the data.
        text += b"\r\n" if not text.endswith(b"\n") else b""
    text = re.sub(rb"(^|(?<=\r\n))\.", b"..", text)
    return text


def line(r, n):
    alphabet = b"abcdefghij klmnopqrstuvwxyz.ABC:;<>@=?\"'\\()[]\t"
    return bytes(r.choice(alphabet) for _ in range(n))


def header(r, i):
    lines = [f"Subject: message {i}".encode(), b"From: <a@example.net>", f"Message-ID: <{i}.{r.random()}@example.net>".encode(),
             b"Date: Fri, 20 Nov 2026 12:00:00 +0000"]
    kind = r.randrange(6)
    if kind == 0:
        lines.append(b"X-Raw: " + bytes(r.randrange(128, 256) for _ in range(60)))
    elif kind == 1:
        lines.append(b"X-Folded: a\r\n\tb\r\n  c")
    elif kind == 2:
        lines.append(b"X-Long: " + b"x" * r.randrange(900, 14000))
    elif kind == 3:
        lines += [b"MIME-Version: 1.0", b"Content-Type: multipart/mixed; boundary=b"]
    elif kind == 4:
        lines.append("Subject: j\u00fcrgen \u65e5\u672c".encode())
    else:
        lines.append(b"no field at all")
    return lines


def body(r, i):
    kind = i % 10
    if kind == 0:
        return b"one\rtwo\r\rthree\r\n\rfour\r.\r\n"
    if kind == 1:
        return b"one\ntwo\n\n\nthree\n.four\n"
    if kind == 2:
        return b"no end of the last line"
    if kind == 3:
        return b"x" * 14000 + b"\r\n" + line(r, 14000).replace(b"\t", b" ") + b"\r\n"
    if kind == 4:
        return b".\r\n..\r\n...\r\n.a\r\n\r\n.\r\n"
    if kind == 5:
        return bytes(c for c in (r.randrange(1, 256) for _ in range(3000)) if c not in (10, 13)) + b"\r\n"
    if kind == 6:
        return b""
    if kind == 7:
        return b"--b\r\nContent-Type: text/plain\r\n\r\npart\r\n--b\r\nContent-Type: message/rfc822\r\n\r\nSubject: in\r\n\r\nx\r\n--b--\r\n"
    if kind == 8:
        return b"\r\n".join(line(r, r.randrange(0, 200)) for _ in range(r.randrange(1, 3000))) + b"\r\n"
    return b"mixed\r\nends\nand\rbare\n\r\n.\n"


def generate():
    r = random.Random(20261120)
    messages = []
    for i in range(COUNT):
        end = b"\n" if i % 10 == 1 else b"\r\n"
        messages.append(end.join(header(r, i)) + end + end + body(r, i))
    return messages


def from_archive(path):
    with tarfile.open(path) as archive:
        for member in archive:
            if member.isfile():
                data = archive.extractfile(member).read()
                if b"\0" not in data and max((len(x) for x in re.split(rb"\r?\n", data)), default=0) <= 16384:
                    yield as_stored(data)


class Smtp:
    """A raw client: it sends exactly the octets it is given."""

    def __init__(self, where):
        self.socket = socket.create_connection(where, 60)
        self.file = self.socket.makefile("rb")
        self.reply()
        self.say(b"EHLO client.example")

    def reply(self):
        while True:
            text = self.file.readline()
            if text[3:4] != b"-":
                return text

    def say(self, command):
        self.socket.sendall(command + b"\r\n")
        return self.reply()

    def send(self, recipient, raw, last_end=b""):
        for command in (b"MAIL FROM:<sender@example.net> BODY=8BITMIME", b"RCPT TO:<" + recipient.encode() + b">", b"DATA"):
            answer = self.say(command)
            if answer[:1] not in b"23":
                return answer
        self.socket.sendall(on_the_wire(raw) + last_end + b".\r\n")
        return self.reply()

    def send_chunks(self, recipient, raw, size):
        for command in (b"MAIL FROM:<sender@example.net>", b"RCPT TO:<" + recipient.encode() + b">"):
            self.say(command)
        for at in range(0, len(raw), size):
            piece = raw[at:at + size]
            self.socket.sendall(b"BDAT %d\r\n" % len(piece) + piece)
            answer = self.reply()
            if answer[:1] != b"2":
                return answer
        return self.say(b"BDAT 0 LAST")

    def close(self):
        self.say(b"QUIT")
        self.socket.close()


TRACE = re.compile(rb"\AReturn-Path: <[^>]*>\r\n(Received: [^\r]*\r\n(?:[ \t][^\r]*\r\n)*){2}")


class RoundTrip(mt.ClusterCase):
    FLAGS = ["--proxies", 2, "--backends", 2, "--users", USERS, "--password", PASSWORD]

    def strip(self, data):
        match = TRACE.match(data)
        self.assertTrue(match, data[:300])
        return data[match.end():]

    def by_imap(self, user, proxy="p1"):
        context = ssl.create_default_context(cafile=self.cluster.ca)
        context.check_hostname = False
        m = imaplib.IMAP4_SSL(*self.cluster.at(proxy, "imaps"), ssl_context=context, timeout=60)
        m.login(user, PASSWORD)
        n = int(m.select(readonly=True)[1][0])
        data, sizes = [], []
        for item in m.fetch("1:*", "(RFC822.SIZE BODY.PEEK[])")[1] if n else []:
            if isinstance(item, tuple):
                data.append(item[1])
                sizes.append(int(re.search(rb"RFC822.SIZE (\d+)", item[0]).group(1)))
        m.logout()
        self.assertEqual(len(data), n)
        self.assertEqual([len(d) for d in data], sizes)
        return data

    def by_pop3(self, user):
        context = ssl.create_default_context(cafile=self.cluster.ca)
        context.check_hostname = False
        poplib._MAXLINE = 40000
        p = poplib.POP3_SSL(*self.cluster.at("p1", "pop3s"), context=context, timeout=60)
        p.user(user)
        p.pass_(PASSWORD)
        count, total = p.stat()
        messages = [b"\r\n".join(p.retr(i + 1)[1]) + b"\r\n" for i in range(count)]
        sizes = [int(x.split()[1]) for x in p.list()[1]]
        p.quit()
        self.assertEqual(sum(sizes), total)
        return messages, sizes

    def check(self, messages, chunk=None):
        before = {address(n): len(self.by_imap(address(n))) for n in range(1, USERS + 1)}
        sent = {address(n): [] for n in range(1, USERS + 1)}
        client = Smtp(self.cluster.at("p1", "smtp"))
        for i, raw in enumerate(messages):
            user = address(i % USERS + 1)
            if chunk:
                answer, want = client.send_chunks(user, raw, chunk), as_stored(raw)
            elif raw.endswith(b"\n") and not raw.endswith(b"\r\n"):
                # the last line ends with a bare LF, which ends nothing: CRLF must still come
                answer, want = client.send(user, raw, b"\r\n"), as_stored(raw) + b"\r\n"
            else:
                answer, want = client.send(user, raw), as_stored(raw if raw else b"")
            self.assertEqual(answer[:3], b"250", (i, answer, raw[:200]))
            sent[user].append(want)
        client.close()
        for user, want in sent.items():
            got = self.by_imap(user)
            self.assertEqual(len(got) - before[user], len(want))
            self.assertEqual(got, self.by_imap(user, "p2"))
            self.assertEqual([self.strip(g) for g in got[before[user]:]], want)
            popped, sizes = self.by_pop3(user)
            self.assertEqual(sizes, [len(g) for g in got])
            # poplib splits at every LF; a bare CR stays where it is
            self.assertEqual(popped, got)
            home = self.cluster.ctl_json("p1", "map", "explain", user)["backend"]
            quota = self.cluster.ctl_json(home, "quota", user)
            self.assertEqual((quota["messages"], quota["bytes"]), (len(got), sum(sizes)), user)
        for name in ("b1", "b2"):
            self.cluster.ctl(name, "store", "check")

    def test_generated(self):
        self.check(generate())

    def test_generated_by_chunks(self):
        self.check(generate()[:60], chunk=997)

    def test_nul_is_refused(self):
        client = Smtp(self.cluster.at("p1", "smtp"))
        self.assertEqual(client.send(address(1), b"Subject: a\r\n\r\na\0b\r\n")[:3], b"550")
        self.assertEqual(client.send(address(1), b"Subject: a\r\n\r\n" + b"x" * 16385 + b"\r\n")[:3], b"550")
        self.assertEqual(client.send(address(1), b"Subject: a\r\n\r\n" + b"x" * 16384 + b"\r\n")[:3], b"250")
        client.close()

    @unittest.skipUnless(mt.corpus("real-mail.tar.xz"), "no corpus of real mail here")
    def test_real_mail(self):
        self.check(list(from_archive(mt.corpus("real-mail.tar.xz"))))

    @unittest.skipUnless(mt.corpus("tricky-mail.tar.xz"), "no corpus of tricky mail here")
    def test_tricky_mail(self):
        self.check(list(from_archive(mt.corpus("tricky-mail.tar.xz"))))


if __name__ == "__main__":
    unittest.main()
