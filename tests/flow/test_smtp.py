"""SMTP through the proxy: the dialogue, its limits, and what attackers try (security classes 1, 2, 3, 4, 12, 13), by raw sockets."""
import base64
import imaplib
import os
import re
import smtplib
import socket
import ssl
import tempfile
import time
import unittest

import mt

PASSWORD = "secret"
A, B, C = "user0001@example.test", "user0002@example.test", "user0003@example.test"  # on b1, b2, b1


class Raw:
    """Sends octets as they are; reads replies."""

    def __init__(self, where, source=None, tls=None, banner=True):
        self.socket = socket.create_connection(where, 20, source_address=(source, 0) if source else None)
        if tls:
            self.socket = tls.wrap_socket(self.socket)
        self.file = self.socket.makefile("rb")
        self.banner = self.reply() if banner else None

    def reply(self):
        """(code, text of all lines); (0, "") at the end of the connection."""
        lines = []
        while True:
            try:
                text = self.file.readline()
            except OSError:
                text = b""
            if not text:
                return 0, ""
            lines.append(text.decode("utf-8", "replace").rstrip("\r\n"))
            if text[3:4] != b"-":
                return int(text[:3]), "\n".join(lines)

    def send(self, data):
        self.socket.sendall(data)

    def say(self, *commands):
        """The codes of commands that are sent in as few pieces as RFC 2920 allows."""
        codes, group = [], []
        for c in commands:
            group.append((c.encode() if isinstance(c, str) else c) + b"\r\n")
            if c is not commands[-1] and not re.match(rb"(?i)(helo|ehlo|auth|data|vrfy|expn|starttls)\b", group[-1]):
                continue
            self.send(b"".join(group))
            codes += [self.reply()[0] for _ in group]
            group = []
        return codes[0] if len(codes) == 1 else codes

    def begin(self, *recipients, sender="sender@example.net", extra=""):
        return self.say("EHLO client.example", f"MAIL FROM:<{sender}>{extra}", *[f"RCPT TO:<{r}>" for r in recipients or (A,)], "DATA")

    def close(self):
        self.socket.close()


class Base(mt.ClusterCase):
    FLAGS = ["--proxies", 1, "--backends", 2, "--users", 4, "--password", PASSWORD]

    def context(self):
        context = ssl.create_default_context(cafile=self.cluster.ca)
        context.check_hostname = False
        return context

    def raw(self, service="smtp", name="p1", **more):
        return Raw(self.cluster.at(name, service), **more)

    def inbox(self, user=A):
        m = imaplib.IMAP4_SSL(*self.cluster.at("p1", "imaps"), ssl_context=self.context(), timeout=20)
        m.login(user, PASSWORD)
        n = int(m.select(readonly=True)[1][0])
        data = [d[1] for d in m.fetch("1:*", "(BODY.PEEK[])")[1] if isinstance(d, tuple)] if n else []
        m.logout()
        return data


class Dialogue(Base):
    def test_pipelined_replies_come_in_order(self):
        c = self.raw()
        codes = c.say("EHLO x.example", "MAIL FROM:<a@b.example>", f"RCPT TO:<{A}>", "RCPT TO:<nobody@example.test>", "RCPT TO:<bad", f"RCPT TO:<{B}>",
                      "RCPT TO:<x@elsewhere.example>", "NOOP", "DATA")
        self.assertEqual(codes, [250, 250, 250, 550, 501, 250, 550, 250, 354])
        self.assertEqual(c.say(b"Subject: order\r\n\r\nx\r\n."), 250)

    def test_unknown_user_and_relaying(self):
        c = self.raw()
        c.say("EHLO x.example", "MAIL FROM:<>")
        c.send(b"RCPT TO:<nobody@example.test>\r\nRCPT TO:<a@elsewhere.example>\r\n")
        self.assertRegex(c.reply()[1], r"^550 5\.1\.1 ")
        self.assertRegex(c.reply()[1], r"^550 5\.7\.1 ")
        self.assertEqual(c.say("DATA"), 554)

    def test_orders(self):
        c = self.raw()
        self.assertEqual(c.say("MAIL FROM:<a@b.example>"), 503)
        self.assertEqual(c.say("EHLO x"), 250)
        self.assertEqual(c.say(f"RCPT TO:<{A}>", "DATA", "LHLO x", "FOO", "VRFY a", "EXPN a", "HELP", "NOOP", "RSET"),
                         [503, 503, 500, 500, 252, 502, 214, 250, 250])
        self.assertEqual(c.say("MAIL FROM:<a@b.example>", "MAIL FROM:<a@b.example>"), [250, 503])
        self.assertEqual(c.say("RSET", "MAIL FROM:<a@b.example> FOO=1", "MAIL FROM:<a@b.example> BODY=BINARYMIME"), [250, 555, 555])
        self.assertEqual(c.say("QUIT"), 221)
        self.assertEqual(c.reply()[0], 0)

    def test_size(self):
        c = self.raw()
        self.assertEqual(c.say("EHLO x", "MAIL FROM:<a@b.example> SIZE=99999999999999999999"), [250, 552])
        self.assertEqual(c.say("MAIL FROM:<a@b.example> SIZE=10"), 250)

    def test_chunks(self):
        c = self.raw()
        self.assertEqual(c.say("EHLO x", "MAIL FROM:<a@b.example>", f"RCPT TO:<{A}>"), [250, 250, 250])
        c.send(b"BDAT 19\r\nSubject: chunks\r\n\r\nBDAT 5 LAST\r\n.\r\na.")
        self.assertEqual([c.reply()[0], c.reply()[0]], [250, 250])
        self.assertTrue(any(m.endswith(b"Subject: chunks\r\n\r\n.\r\na.\r\n") for m in self.inbox()))
        self.assertEqual(c.say("MAIL FROM:<a@b.example>"), 250)
        c.send(b"BDAT 6 LAST\r\nQUIT\r\nNOOP\r\n")
        self.assertEqual([c.reply()[0], c.reply()[0]], [503, 250])
        c.send(b"RSET\r\nBDAT x\r\n")
        self.assertEqual([c.reply()[0], c.reply()[0], c.reply()[0]], [250, 501, 0])

    def test_limits_of_lines_errors_and_recipients(self):
        c = self.raw()
        c.send(b"NOOP " + b"x" * 4000 + b"\r\n")
        self.assertEqual([c.reply()[0], c.reply()[0]], [500, 0])
        c = self.raw()
        c.send(b"NOOP " + b"x" * 4000)
        self.assertEqual([c.reply()[0], c.reply()[0]], [500, 0])
        c = self.raw()
        c.say("EHLO x")
        codes = []
        for _ in range(30):
            c.send(b"FOO\r\n")
            codes.append(c.reply()[0])
            if codes[-1] != 500:
                break
        self.assertEqual(codes[-1], 421)
        self.assertLessEqual(len(codes), 22)
        c = self.raw()
        c.say("EHLO x", "MAIL FROM:<a@b.example>")
        codes = c.say(*[f"RCPT TO:<{A}>"] * 1001)
        self.assertEqual((codes[999], codes[1000]), (250, 452))


class Dead(Base):
    def test_back_end_is_dead(self):
        c = self.raw()
        self.cluster.kill("b2")
        mt.wait_for(lambda: not self.cluster.is_alive("b2"), 5, "b2 is dead")
        begin = time.monotonic()
        self.assertEqual(c.say("EHLO x", "MAIL FROM:<a@b.example>", f"RCPT TO:<{A}>", f"RCPT TO:<{B}>", "DATA"), [250, 250, 250, 451, 354])
        self.assertLess(time.monotonic() - begin, 2)
        self.assertEqual(c.say(b"Subject: half\r\n\r\nx\r\n."), 250)


class Submission(Base):
    def login(self, c, user=A, password=PASSWORD):
        return c.say("AUTH PLAIN " + base64.b64encode(f"\0{user}\0{password}".encode()).decode())

    def test_auth(self):
        c = self.raw("submissions", tls=self.context())
        self.assertEqual(c.say("EHLO x", "MAIL FROM:<a@b.example>"), [250, 530])
        self.assertEqual(self.login(c), 235)
        self.assertEqual(self.login(c), 503)
        self.assertEqual(c.say(f"MAIL FROM:<{A}>", f"RCPT TO:<{C}>"), [250, 250])
        self.assertEqual(c.say("DATA"), 354)
        self.assertEqual(c.say(b"Subject: submitted\r\n\r\nx\r\n."), 250)
        got = [m for m in self.inbox(C) if b"Subject: submitted" in m]
        self.assertEqual(len(got), 1)
        self.assertIn(b"with ESMTPSA id", got[0])

    def test_auth_login_and_failures(self):
        b64 = lambda s: base64.b64encode(s.encode()).decode()
        c = self.raw("submissions", tls=self.context())
        c.say("EHLO x")
        self.assertEqual(c.say("AUTH LOGIN", b64(A), b64(PASSWORD)), [334, 334, 235])
        c = self.raw("submissions", tls=self.context())
        c.say("EHLO x")
        self.assertEqual(c.say("AUTH PLAIN ====", "AUTH FOO", "AUTH PLAIN", "*"), [501, 504, 334, 501])
        self.assertEqual(self.login(c, password="wrong"), 535)
        self.assertEqual(c.say("AUTH PLAIN " + b64(f"{B}\0{A}\0{PASSWORD}")), 535)

    def test_msmtp_like_session_by_smtplib(self):
        with smtplib.SMTP(*self.cluster.at("p1", "submission"), timeout=20) as s:
            s.starttls(context=self.context())
            s.login(A, PASSWORD)
            s.sendmail(A, [A, C], "Subject: smtplib\r\n\r\nhello\r\n")


class Security(Base):
    def test_security_01_starttls_injection(self):
        for service in ("smtp", "submission"):
            c = self.raw(service)
            c.say("EHLO x")
            c.send(b"STARTTLS\r\nRSET\r\n")
            self.assertEqual([c.reply()[0], c.reply()[0]], [554, 0])
            c = self.raw(service)
            c.say("EHLO before.example", "MAIL FROM:<early@example.net>")
            self.assertEqual(c.say("STARTTLS"), 220)
            secure = self.context().wrap_socket(c.socket)
            c.socket, c.file = secure, secure.makefile("rb")
            # nothing of the clear dialogue counts
            self.assertEqual(c.say("MAIL FROM:<a@b.example>"), 503)
            c.send(b"EHLO x\r\n")
            self.assertNotIn("STARTTLS", c.reply()[1])

    def test_security_02_other_protocols(self):
        c = self.raw()
        c.send(b"POST / HTTP/1.1\r\nHost: x\r\n\r\n")
        self.assertEqual(c.reply()[0], 0)
        context = self.context()
        context.set_alpn_protocols(["imap"])
        with self.assertRaises((ssl.SSLError, OSError)):
            self.raw("submissions", tls=context)

    def test_security_03_smuggling(self):
        """Whatever another program might take for the end of data stays data: one message, and no second reply."""
        ends = [b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r.\r\n", b"\r\n.\r", b"\n.\r", b"\r\r\n.\r\r\n", b"\r\n.\r\r\n", b"\n\n.\n\n", b"\r\n\x1a.\r\n",
                b"\r\n.\x1a\r\n"]
        for i, end in enumerate(ends):
            with self.subTest(end=end):
                c = self.raw()
                self.assertEqual(c.begin(), [250, 250, 250, 354])
                c.send(f"Subject: smuggle{i}\r\n\r\none".encode() + end + b"MAIL FROM:<evil@example.net>\r\n" + f"RCPT TO:<{A}>\r\nDATA\r\n".encode() +
                       f"Subject: smuggled{i}\r\n\r\ntwo\r\n.\r\n".encode())
                self.assertEqual(c.reply()[0], 250)
                self.assertEqual(c.say("QUIT"), 221)
                got = [m for m in self.inbox() if f"Subject: smuggle{i}\r\n".encode() in m]
                self.assertEqual(len(got), 1)
                self.assertIn(f"Subject: smuggled{i}".encode(), got[0])
        self.assertFalse([m for m in self.inbox() if re.match(rb"Return-Path: <evil", m)])

    def test_security_03_pipelining_violators(self):
        c = self.raw()
        c.say("EHLO x", "MAIL FROM:<a@b.example>", f"RCPT TO:<{A}>")
        c.send(b"DATA\r\nSubject: early\r\n\r\nx\r\n.\r\n")
        self.assertEqual([c.reply()[0], c.reply()[0]], [554, 0])

    def test_security_03_bare_line_ends_of_commands(self):
        c = self.raw()
        for line in (b"EHLO x\n", b"NO\rOP\r\n", b"NOOP a\0b\r\n"):
            c.send(line)
            self.assertEqual(c.reply()[0], 500)

    def test_security_04_injection(self):
        """No client can slip octets into what we say to back-ends, into trace fields or logs."""
        c = self.raw()
        self.assertEqual(c.say("EHLO x"), 250)
        for command in ("XCLIENT ADDR=192.0.2.1", "XCLIENT LOGIN=a"):
            self.assertEqual(c.say(command), 550)
        self.assertEqual(c.say("EHLO a\tb", "EHLO a(b", "EHLO " + "x" * 300), [501, 501, 501])
        self.assertEqual(c.say("MAIL FROM:<a@b.example> XMARK=1"), 555)
        self.assertEqual(c.say("MAIL FROM:<a\tb@c.example>", 'MAIL FROM:<"a\x01"@c.example>', "MAIL FROM:<a@b.example> AUTH=a+0D+0Ab"), [501, 500, 555])
        self.assertEqual(c.say('MAIL FROM:<"a> SIZE=1 XMARK=3 <b"@c.example>', f"RCPT TO:<{A}>", "DATA"), [250, 250, 354])
        self.assertEqual(c.say(b"Subject: injected\r\n\r\nx\r\n."), 250)
        got = [m for m in self.inbox() if b"Subject: injected" in m]
        self.assertTrue(got[0].startswith(b'Return-Path: <"a> SIZE=1 XMARK=3 <b"@c.example>\r\n'), got[0][:200])

    def test_security_04_lmtp_believes_proxies_only(self):
        c = self.raw("lmtps", "b1", source="127.0.0.9", tls=self.context())
        self.assertEqual(c.banner[0], 554)
        self.assertEqual(c.reply()[0], 0)
        c = self.raw("lmtps", "b1", tls=self.context())
        c.send(b"LHLO x\r\n")
        words = c.reply()[1]
        self.assertIn("XMARK", words)
        self.assertIn("XCLIENT", words)
        self.assertEqual(c.say("XCLIENT HELO=a+0D+0Ab", "XCLIENT SESSION=a/../b+20", "XCLIENT ADDR=nowhere"), [501, 501, 501])
        self.assertEqual(c.say("XCLIENT ADDR=IPV6:2001:db8::1 SESSION=abc", "MAIL FROM:<a@b.example> XMARK=0", f"RCPT TO:<{A}>"), [220, 250, 250])

    def test_security_12_headers(self):
        c = self.raw()
        self.assertEqual(c.begin()[-1], 354)
        self.assertEqual(c.say(b"Received: x\r\n" * 51 + b"\r\nx\r\n."), 554)
        self.assertEqual(c.say("MAIL FROM:<a@b.example>", f"RCPT TO:<{A}>", "DATA")[-1], 354)
        self.assertEqual(c.say(b"Received: x\r\n" * 40 + b"Subject: hops\r\n\r\n" + b"Received: x\r\n" * 100 + b"."), 250)
        # a header of 8 MB, an address list of 100,000: in time that grows with the size and no faster
        for header in (b"X-A: b\r\n" * 400000, b"To: " + b"a@b.example,\r\n " * 100000 + b"c@d.example\r\n"):
            begin = time.monotonic()
            self.assertEqual(c.say("MAIL FROM:<a@b.example>", f"RCPT TO:<{A}>", "DATA")[-1], 354)
            self.assertEqual(c.say(b"Subject: big\r\n" + header + b"\r\nx\r\n."), 250)
            self.assertLess(time.monotonic() - begin, 20)

    def test_security_13_utf8(self):
        c = self.raw()
        c.say("EHLO x")
        self.assertEqual(c.say("MAIL FROM:<j\u00fcrgen@b\u00fccher.example>", b"MAIL FROM:<a\xff@b.example> SMTPUTF8", b"MAIL FROM:<a\xc3@b.example> SMTPUTF8",
                               b'MAIL FROM:<""@b.example>'), [553, 501, 501, 501])
        self.assertEqual(c.say("MAIL FROM:<j\u00fcrgen@b\u00fccher.example> SMTPUTF8", f"RCPT TO:<{A}>", "DATA"), [250, 250, 354])
        self.assertEqual(c.say("Subject: utf8 \u00fc\r\n\r\nx\r\n."), 250)
        got = [m for m in self.inbox() if b"Subject: utf8" in m]
        self.assertIn("Return-Path: <j\u00fcrgen@b\u00fccher.example>".encode(), got[0])
        self.assertIn(b"with UTF8SMTP", got[0])


class Settings(Base):
    @classmethod
    def setUpClass(cls):
        cls.files = tempfile.mkdtemp(prefix="mt-conf-")
        with open(os.path.join(cls.files, "p"), "w") as f:
            f.write("smtp {\n\tbare-newline = reject\n\tbanner-delay = 500ms\n\tmessage-size = 10000\n\tvrfy = yes\n}\nlistener submission {\n\tallow-clear = no\n}\n")
        with open(os.path.join(cls.files, "b"), "w") as f:
            f.write("quota-size = 20000\n")
        cls.FLAGS = Base.FLAGS + ["--conf", os.path.join(cls.files, "p"), "--backend-conf", os.path.join(cls.files, "b")]
        super().setUpClass()

    def test_early_talkers(self):
        c = self.raw(banner=False)
        c.send(b"EHLO x\r\n")
        self.assertEqual([c.reply()[0], c.reply()[0]], [554, 0])
        self.assertEqual(self.raw().banner[0], 220)

    def test_bare_newlines_are_refused(self):
        c = self.raw()
        self.assertEqual(c.begin()[-1], 354)
        self.assertEqual(c.say(b"Subject: a\r\n\r\none\ntwo\r\n."), 550)
        self.assertEqual(c.say("MAIL FROM:<a@b.example>", f"RCPT TO:<{A}>", "DATA")[-1], 354)
        self.assertEqual(c.say(b"Subject: a\r\n\r\none\rtwo\r\n."), 550)
        self.assertEqual(c.say("MAIL FROM:<a@b.example>", f"RCPT TO:<{A}>", "DATA")[-1], 354)
        self.assertEqual(c.say(b"Subject: fine\r\n\r\none\r\n."), 250)

    def test_vrfy(self):
        """Who is here by the maps; whoever guesses is disconnected; submission tells nobody anything."""
        c = self.raw()
        c.send(f"EHLO x\r\n".encode())
        self.assertEqual(c.reply()[0], 250)
        for whom in (A, f"<{A.upper()}>", f"<{A}>", A.replace("@", "+detail@")):
            c.send(f"VRFY {whom}\r\n".encode())
            code, text = c.reply()
            self.assertEqual(code, 250)
            self.assertEqual(text, f"250 2.1.5 <{whom.strip('<>')}>")
        self.assertEqual(c.say("VRFY nobody@example.test", "VRFY user0001", "VRFY", "VRFY <a@b.example", "EXPN staff@example.test"), [550, 501, 501, 501, 502])
        self.assertEqual(c.say("VRFY x@elsewhere.example"), 252)
        # Amid a transaction, which goes on.
        self.assertEqual(c.say("MAIL FROM:<a@b.example>", f"RCPT TO:<{A}>", f"VRFY {B}", f"RCPT TO:<{B}>", "DATA"), [250, 250, 250, 250, 354])
        self.assertEqual(c.say(b"Subject: verified\r\n\r\nx\r\n."), 250)
        codes = []
        while len(codes) < 30 and codes[-1:] not in ([421], [0]):
            codes.append(c.say(f"VRFY guess{len(codes)}@example.test"))
        self.assertEqual(set(codes[:-1]), {550})
        self.assertIn(codes[-1], (0, 421))
        self.assertLess(len(codes), 22)
        self.assertEqual(self.raw("submission").say("EHLO x", f"VRFY {A}", "VRFY nobody@example.test"), [250, 252, 252])

    def test_no_auth_in_clear(self):
        c = self.raw("submission")
        c.send(b"EHLO x\r\n")
        words = c.reply()[1]
        self.assertIn("STARTTLS", words)
        self.assertNotIn("AUTH", words)
        self.assertEqual(c.say("AUTH PLAIN AGEAYg=="), 538)

    def test_message_size(self):
        c = self.raw()
        self.assertEqual(c.begin()[-1], 354)
        self.assertEqual(c.say(b"x" * 1000 + b"\r\n" + (b"y" * 998 + b"\r\n") * 11 + b"."), 552)

    def test_quota(self):
        c = self.raw()
        self.assertEqual(c.say("EHLO x"), 250)
        codes = []
        for _ in range(4):
            codes.append(c.say("MAIL FROM:<a@b.example> SIZE=9000", f"RCPT TO:<{B}>")[1])
            if codes[-1] != 250:
                break
            self.assertEqual(c.say("DATA"), 354)
            self.assertEqual(c.say(b"Subject: q\r\n\r\n" + (b"z" * 998 + b"\r\n") * 8 + b"."), 250)
        self.assertEqual(codes, [250, 250, 452])


if __name__ == "__main__":
    unittest.main()
