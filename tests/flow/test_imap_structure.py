"""Messages of all kinds as IMAP shows them, read by a strict parser of this file alone: every response is well-formed, each part of
BODYSTRUCTURE is as long and has as many lines as BODY[part] gives, HEADER and TEXT make up the whole, partial pieces too."""
import re
import socket
import ssl
import tarfile

import mt
from test_imap_session import ImapCase

OWN = [
    b"Subject: none\r\n\r\n",
    b"\r\n",
    b"no header at all\r\n",
    b"Subject: =?utf-8?q?=C3=A4?= \"quoted\" \\back\r\nFrom: \"a \\\"b\\\"\" <x@y>, (comment) z@z\r\nTo: group: a@b, c@d;, e@f\r\n\r\nx\r\n",
    b"Subject: 8bit \xe4\xff\r\nContent-Type: text/plain; name=\"\xc3\xa4\"; x=\"a\\\"b\"\r\n\r\n\xff\r\n",
    b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\none\r\n--b\r\nContent-Type: message/rfc822\r\n\r\nSubject: in\r\n"
    b"Content-Type: multipart/alternative; boundary=c\r\n\r\n--c\r\n\r\ntwo\r\n--c\r\nContent-Type: text/html\r\n\r\n<p>\r\n--c--\r\n--b--\r\n",
    b"Content-Type: multipart/mixed; boundary=b\r\n\r\nno part\r\n",
    b"Content-Type: multipart/digest; boundary=b\r\n\r\n--b\r\n\r\nSubject: d\r\n\r\nbody\r\n--b--\r\n",
    b"Content-Type: message/rfc822\r\n\r\nContent-Type: message/rfc822\r\n\r\nSubject: deep\r\n\r\nx\r\n",
]


class Parser:
    """Responses as nested lists: bytes for strings and atoms, None for NIL. Anything out of the grammar is an error."""

    def __init__(self, data):
        self.d, self.i = data, 0

    def value(self):
        c = self.d[self.i:self.i + 1]
        if c == b"(":
            self.i += 1
            out = []
            while self.d[self.i:self.i + 1] != b")":
                if out and self.d[self.i:self.i + 1] == b" ":
                    self.i += 1
                elif out and not (isinstance(out[-1], list) and self.d[self.i:self.i + 1] == b"("):
                    raise AssertionError(f"no blank at {self.d[self.i - 40:self.i + 40]!r}")
                out.append(self.value())
            self.i += 1
            return out
        if c == b'"':
            m = re.compile(rb'"((?:[\x01-\x09\x0b\x0c\x0e-\x21\x23-\x5b\x5d-\x7f]|\\["\\])*)"').match(self.d, self.i)
            if not m:
                raise AssertionError(f"no quoted string: {self.d[self.i:self.i + 80]!r}")
            self.i = m.end()
            return re.sub(rb"\\(.)", rb"\1", m[1])
        if c == b"{":
            m = re.compile(rb"\{(\d+)\}\r\n").match(self.d, self.i)
            start = m.end()
            self.i = start + int(m[1])
            return self.d[start:self.i]
        m = re.compile(rb"[A-Za-z0-9.\\$_-]+(?:\[[^\]]*\](?:<\d+>)?)?").match(self.d, self.i)
        if not m:
            raise AssertionError(f"no atom: {self.d[self.i:self.i + 80]!r}")
        self.i = m.end()
        return None if m[0] == b"NIL" else m[0]


def fetch(raw, what):
    """{number: {item: value}}"""
    answer = raw.ask(b"FETCH " + what)
    out, p = {}, Parser(answer)
    while True:
        m = re.compile(rb"\* (\d+) FETCH ").match(answer, p.i)
        if not m:
            break
        p.i = m.end()
        items = p.value()
        if answer[p.i:p.i + 2] != b"\r\n":
            raise AssertionError(f"no line end: {answer[p.i:p.i + 80]!r}")
        p.i += 2
        out[int(m[1])] = dict(zip(items[::2], items[1::2]))
    if not answer[p.i:].startswith(b"TAG OK"):
        raise AssertionError(f"{what!r}: {answer[p.i:p.i + 200]!r}")
    return out


def leaves(structure, path=()):
    """(part number, octets, lines or None) of every part that is no multipart."""
    if isinstance(structure[0], list):
        for n, child in enumerate((c for c in structure if isinstance(c, list) and c and is_body(c)), 1):
            yield from leaves(child, path + (n,))
        return
    path = path or (1,)
    kind = (structure[0].lower(), structure[1].lower())
    if kind == (b"message", b"rfc822"):
        yield path, int(structure[6]), int(structure[9])
        inner = structure[8]
        yield from leaves(inner, path if isinstance(inner[0], list) else path + (1,))
    else:
        yield path, int(structure[6]), int(structure[7]) if kind[0] == b"text" else None


def is_body(value):
    return isinstance(value[0], list) or (len(value) >= 7 and isinstance(value[0], bytes) and isinstance(value[1], bytes))


class Structure(ImapCase):
    FLAGS = ["--proxies", 1, "--backends", 1, "--users", 3]

    def fill(self, raw, messages):
        for m in messages:
            self.assertIn(b"TAG OK [APPENDUID", raw.ask(b"APPEND INBOX {%d+}\r\n%s" % (len(m), m)))
        raw.ask(b"SELECT INBOX")

    def check(self, raw, number, message):
        items = fetch(raw, b"%d (ENVELOPE BODYSTRUCTURE BODY RFC822.SIZE INTERNALDATE BODY.PEEK[] BODY.PEEK[HEADER] BODY.PEEK[TEXT] "
                           b"RFC822.HEADER BODY.PEEK[]<3.17>)" % number)[number]
        self.assertEqual(items[b"BODY[]"], message)
        self.assertEqual(int(items[b"RFC822.SIZE"]), len(message))
        self.assertEqual(items[b"BODY[HEADER]"] + items[b"BODY[TEXT]"], message)
        self.assertEqual(items[b"RFC822.HEADER"], items[b"BODY[HEADER]"])
        self.assertEqual(items[b"BODY[]<3>"], message[3:20])
        self.assertEqual(len(items[b"ENVELOPE"]), 10)
        parts = list(leaves(items[b"BODYSTRUCTURE"]))
        self.assertEqual([p[:2] for p in leaves(items[b"BODY"])], [p[:2] for p in parts])
        self.assertTrue(parts)
        for path, octets, lines in parts[:200]:
            name = b".".join(b"%d" % n for n in path)
            got = fetch(raw, b"%d (BODY.PEEK[%s] BODY.PEEK[%s.MIME])" % (number, name, name))[number]
            body = got[b"BODY[%s]" % name] or b""
            self.assertEqual(len(body), octets, f"part {name} of {message[:200]!r}")
            self.assertIsNotNone(got[b"BODY[%s.MIME]" % name])
            if lines is not None:
                self.assertIn(lines, (body.count(b"\n"), body.count(b"\n") + (body[-1:] not in (b"", b"\n"))))

    def test_messages_of_our_own(self):
        raw = self.raw(1)
        self.fill(raw, OWN)
        for i, m in enumerate(OWN, 1):
            self.check(raw, i, m)

    def corpus_messages(self, name, most):
        path = mt.corpus(name)
        if not path:
            self.skipTest(f"{name} is not here")
        out = []
        with tarfile.open(path) as t:
            for member in t:
                if member.isfile() and len(out) < most:
                    data = re.sub(rb"\r?\n", b"\r\n", t.extractfile(member).read())
                    if data and b"\0" not in data:
                        out.append(data)
        return out

    def test_real_messages(self):
        messages = self.corpus_messages("real-mail.tar.xz", 400) + self.corpus_messages("tricky-mail.tar.xz", 200)
        raw = self.raw(2)
        self.fill(raw, messages)
        for i, m in enumerate(messages, 1):
            self.check(raw, i, m)


if __name__ == "__main__":
    import unittest
    unittest.main()
