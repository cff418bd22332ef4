"""Our ENVELOPE and BODYSTRUCTURE beside Dovecot's: a message for each class of docs/mime.md, and what is alike. `make mime-compare` does
the same with a folder."""
import io
import os
import unittest

import mime_compare
import mt

HEAD = b"From: Ann <ann@example.org>\nTo: b@example.org\nDate: Mon, 7 Feb 1994 21:52:25 -0800\nMIME-Version: 1.0\n"
MIXED = (b'Content-Type: multipart/mixed; boundary="b"\n\npre\n--b\nContent-Type: text/plain; charset=utf-8\n\none\n'
         b'--b\nContent-Type: message/rfc822\n\nSubject: inner\nContent-Type: text/html; charset=utf-8\n\n<b>x</b>\n--b\n'
         b'Content-Type: image/png; name="x y.png"\nContent-Transfer-Encoding: base64\n'
         b'Content-Disposition: attachment; filename="x y.png"\n\nAAAA\n--b--\n')
MESSAGES = {
    "alike": (HEAD + b"Subject: plain\nContent-Type: text/plain; charset=utf-8\n\nx\n", set()),
    "alike, parts": (HEAD + MIXED, set()),
    "alike, groups": (HEAD + b"Cc: friends: a@example.org, B <b@example.org>;, c@example.org\nContent-Type: text/plain; charset=x\n\nx\n", set()),
    "text without a charset": (HEAD + b"Content-Type: text/plain\n\nx\n", {"default charset"}),
    "capitals": (HEAD + b"Content-Type: TEXT/PLAIN; charset=US-ASCII\n\nx\n", {"case"}),
    "folded": (HEAD + b"Subject: one\n    two\nContent-Type: text/plain; charset=x\n\nx\n", {"blanks"}),
    "no address": (b"From: Ann <ann@example.org>\nTo: Undisclosed Recipients@example.org\n\nx\n", {"addresses"}),
    "boundary without quotes": (HEAD + b"Content-Type: multipart/mixed; boundary=--=b\n\n----=b\n\nx\n----=b--\n", {"boundaries"}),
    "no parts": (HEAD + b"Content-Type: multipart/mixed; boundary=b\n\nnothing\n", {"multiparts without parts"}),
    "name without quotes": (HEAD + b"Content-Type: text/plain; charset=x\nContent-Disposition: attachment; filename=a b.txt\n\nx\n",
                            {"values without quotes"}),
    "two subjects": (HEAD + b"Subject: a\nSubject: b\nContent-Type: text/plain; charset=x\n\nx\n", {"fields that come twice"}),
    "no encoding": (HEAD + b"Content-Type: text/plain; charset=x\nContent-Transfer-Encoding: quoted printable\n\nx\n", {"encodings"}),
    "no disposition": (HEAD + b"Content-Type: text/plain; charset=x\nContent-Disposition: \n\nx\n", {"dispositions without a type"}),
}


class BesideDovecot(unittest.TestCase):
    def test_each_class_of_the_page_and_no_other(self):
        with mime_compare.Servers() as servers:
            out = io.StringIO()
            messages = [(name, mime_compare.prepare(data)) for name, (data, _) in MESSAGES.items()]
            lost, counts = servers.compare(messages, True, out)
            self.assertEqual(lost, [])
            self.assertNotIn(None, counts, out.getvalue())
            for name, (_, wants) in MESSAGES.items():
                got = {line.rpartition("(")[2].rstrip(")") for line in out.getvalue().splitlines() if line.startswith(name + ": ")}
                self.assertEqual(got, wants, (name, out.getvalue()))

    def test_the_page_has_every_class(self):
        with open(os.path.join(mt.ROOT, "docs", "mime.md"), encoding="utf-8") as f:
            page = f.read()
        for heading, _ in mime_compare.EXPLAINED:
            self.assertIn(f"| {heading} |", page)

    def test_what_is_no_class_is_not_explained(self):
        data = mime_compare.prepare(MESSAGES["alike"][0])
        for name, a, b in (("subject", b"a", b"b"), ("octets", b"1", b"2"), ("parts", 1, 2), ("type", b"text", b"image"), ("lines", b"1", b"2"),
                           ("to", [[None, None, b"a", b"b.c"]], None), ("params", [b"charset", b"x"], [b"charset", b"y"]),
                           ("encoding", b"base64", b"7bit"), ("disposition", None, [b"inline", None]), ("date", b"x", None)):
            self.assertIsNone(mime_compare.explain(data, name, a, b), name)


if __name__ == "__main__":
    unittest.main()
