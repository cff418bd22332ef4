"""The back-end's own services smtp and submission, without a proxy: mail in for accounts here, no relay, logins, whose sender it is, what is done to
headers, limits, what a trusted proxy may say, and the security classes of the dialogue on these services too."""
import base64
import imaplib
import os
import re
import shutil
import smtplib
import socket
import ssl
import subprocess
import sys
import tempfile
import unittest

import mt
from backend_case import BackendCase
from test_smtp import Raw


class BackendSmtp(BackendCase):
    TRUSTED = '"127.0.0.9"'
    HOST = mt.fresh_host()
    SECRET = os.path.join(tempfile.mkdtemp(prefix="mt-smart-"), "secret")
    CONF = f"""
listener only-login {{
	service = submission
	listen = {{"{HOST}:23587"}}
	tls = none
	allow-clear = yes
	mechanisms-clear = {{LOGIN}}
}}
listener only-scram {{
	service = submission
	listen = {{"{HOST}:24587"}}
	tls = none
	allow-clear = yes
	mechanisms-clear = {{SCRAM-SHA-256}}
}}
route smarthost {{
	domains = {{smart.test}}
	hosts = {{"[{HOST}]:24587"}}
	user = "user0002@example.test"
	password = "{SECRET}"
	tls = none
}}
""" + """
smtp {
	relay-networks = {"127.0.0.7"}
	message-size = 1M
	vrfy = yes
}
submission {
	sent-copy = yes
	cluster-domains = {"spread.test"}
}
send-limit few {
	accounts = {"user0004@example.test"}
	messages-per-hour = 2
	recipients-per-day = 3
}
"""

    @classmethod
    def setUpClass(cls):
        with open(cls.SECRET, "w", opener=lambda path, flags: os.open(path, flags, 0o600)) as f:
            f.write(cls.password(2))
        cls.addClassCleanup(shutil.rmtree, os.path.dirname(cls.SECRET))
        super().setUpClass()
        cls.cluster.ctl("b1", "account", "set", cls.user(1), "--alias", "boss@example.test")

    def raw(self, service="smtp", source=None, tls=False):
        where = self.cluster.at("b1", service)
        context = self.tls()
        context.check_hostname = False
        return Raw(where, source=source, tls=context if tls else None)

    def plain(self, user, password, authzid=""):
        return "AUTH PLAIN " + base64.b64encode(f"{authzid}\0{user}\0{password}".encode()).decode()

    def submit(self, i=1):
        c = self.raw("submissions", tls=True)
        self.assertEqual(c.say("EHLO client.example"), 250)
        self.assertEqual(c.say(self.plain(self.user(i), self.password(i))), 235)
        return c

    def mails(self, i, folder="INBOX"):
        context = self.tls()
        context.check_hostname = False
        m = imaplib.IMAP4_SSL(*self.cluster.at("b1", "imaps"), ssl_context=context, timeout=20)
        m.login(self.user(i), self.password(i))
        n = int(m.select(folder, readonly=True)[1][0])
        data = [d[1] for d in m.fetch("1:*", "(BODY.PEEK[])")[1] if isinstance(d, tuple)] if n else []
        m.logout()
        return data

    def find(self, i, subject, folder="INBOX"):
        return [m for m in self.mails(i, folder) if f"Subject: {subject}\r\n".encode() in m]

    # ---- smtp ----

    def test_mail_for_accounts_here_and_no_relay(self):
        c = self.raw()
        c.send(b"EHLO client.example\r\n")
        words = c.reply()[1]
        for word in ("PIPELINING", "8BITMIME", "SMTPUTF8", "CHUNKING", "ENHANCEDSTATUSCODES", "STARTTLS", "SIZE 1048576", "DSN", "LIMITS RCPTMAX=1000"):
            self.assertIn(word, words)
        for word in ("AUTH", "XCLIENT", "XMARK", "REQUIRETLS", "BINARYMIME"):
            self.assertNotIn(word, words)
        c.send(f"MAIL FROM:<a@elsewhere.example>\r\nRCPT TO:<{self.user(1)}>\r\nRCPT TO:<nobody@example.test>\r\nRCPT TO:<x@elsewhere.example>\r\n".encode())
        answers = [c.reply()[1] for _ in range(4)]
        self.assertEqual([a[:9] for a in answers], ["250 2.1.0", "250 2.1.5", "550 5.1.1", "550 5.7.1"])
        self.assertEqual(c.say("DATA"), 354)
        self.assertEqual(c.say(b"Subject: to an account\r\nBcc: stays@x.example\r\n\r\nhello\r\n."), 250)
        got = self.find(1, "to an account")
        self.assertEqual(len(got), 1)
        self.assertTrue(got[0].startswith(b"Return-Path: <a@elsewhere.example>\r\nReceived: from client.example ([127.0.0.1])\r\n\tby b1.example.test with ESMTP id "))
        self.assertIn(b"Bcc: stays", got[0])  # whose Bcc it is, is his server's affair
        self.assertRegex(self.cluster.log("b1"),
                         r"INFO smtp: \S+: from=<a@elsewhere\.example> to=<user0001@example\.test> relay=local "
                         r"delay=\d+\.\d{3}/\d+\.\d{3}/\d+\.\d{3}/\d+\.\d{3} tls=none dsn=2\.0\.0 status=sent \(Stored, session \S+\)")
        self.assertRegex(self.cluster.log("b1"), r"to=<x@elsewhere\.example> relay=none \S+ tls=none dsn=5\.7\.1 status=rejected")

    def test_relay_networks(self):
        c = self.raw(source="127.0.0.7")
        self.assertEqual(c.say("EHLO x", "MAIL FROM:<a@elsewhere.example>", "RCPT TO:<x@elsewhere.example>", "RCPT TO:<nobody@example.test>"), [250, 250, 250, 550])

    def test_no_login_at_smtp(self):
        self.assertEqual(self.raw().say("EHLO x", self.plain(self.user(1), self.password(1))), [250, 503])

    def test_a_message_that_has_been_here_too_often(self):
        c = self.raw()
        self.assertEqual(c.say("EHLO x", "MAIL FROM:<a@b.example>", f"RCPT TO:<{self.user(1)}>", "DATA"), [250, 250, 250, 354])
        self.assertEqual(c.say(b"Received: from x\r\n\tby B1.example.test with SMTP;\r\n\tdate\r\n" * 11 + b"Subject: loop\r\n\r\nx\r\n."), 554)

    def test_swaks(self):
        if not shutil.which("swaks"):
            self.skipTest("swaks is not installed")
        host, port = self.cluster.at("b1", "smtp")
        done = subprocess.run(["swaks", "--server", host, "--port", str(port), "--tls", "--from", "swaks@elsewhere.example", "--to", self.user(2),
                               "--header", "Subject: swaks", "--h-X-Test", "1"], capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertEqual(len(self.find(2, "swaks")), 1)

    # ---- submission ----

    def test_submission_completes_headers_and_keeps_a_copy(self):
        c = self.submit()
        self.assertEqual(c.say(f"MAIL FROM:<{self.user(1)}>", f"RCPT TO:<{self.user(2)}>", "DATA"), [250, 250, 354])
        c.send(f"From: {self.user(1)}\r\nBcc: secret@x.example,\r\n more@x.example\r\nSubject: complete\r\n\r\nBcc: body\r\n.\r\n".encode())
        self.assertRegex(c.reply()[1], r"^250 2\.0\.0 Stored, session ")
        got = mt.wait_for(lambda: self.find(2, "complete"), 10, "the local recipient has it")
        self.assertNotIn(b"secret@x", got[0])
        self.assertNotIn(b"more@x", got[0])
        self.assertIn(b"\r\n\r\nBcc: body\r\n", got[0])
        self.assertRegex(got[0], rb"\r\nDate: \w+, \d+ \w+ \d+ ")
        self.assertRegex(got[0], rb"\r\nMessage-ID: <[a-z2-7]{32}@b1\.example\.test>\r\n")
        self.assertIn(b"with ESMTPSA id", got[0])
        self.assertEqual(len(mt.wait_for(lambda: self.find(1, "complete", "Sent"), 10, "the copy")), 1)

    def test_recipients_elsewhere_go_to_the_queue(self):
        c = self.submit()
        self.assertEqual(c.say(f"MAIL FROM:<{self.user(1)}>", "RCPT TO:<friend@elsewhere.invalid>", "DATA"), [250, 250, 354])
        c.send(b"Subject: queued\r\n\r\nx\r\n.\r\n")
        self.assertRegex(c.reply()[1], r"^250 2\.0\.0 Queued, session ")
        self.assertRegex(self.cluster.log("b1"), r"to=<friend@elsewhere\.invalid> relay=queue \S+ tls=TLS\S+ dsn=2\.0\.0 status=accepted")

    def test_mechanisms_of_a_listener(self):
        c = Raw((self.HOST, 23587))
        c.send(b"EHLO x\r\n")
        self.assertRegex(c.reply()[1], r"(?m)^250[ -]AUTH LOGIN$")
        b64 = lambda s: base64.b64encode(s.encode()).decode()
        self.assertEqual(c.say(self.plain(self.user(1), self.password(1)), "AUTH LOGIN"), [504, 334])
        self.assertEqual([c.say(b64(self.user(1))), c.say(b64(self.password(1)))], [334, 235])

    def test_whose_sender(self):
        c = self.submit()
        own = f"MAIL FROM:<{self.user(1)}>"
        self.assertEqual(c.say(own, "RSET", "MAIL FROM:<USER0001+shop@EXAMPLE.test>", "RSET", "MAIL FROM:<boss@example.test>", "RSET", "MAIL FROM:<>", "RSET"),
                         [250] * 8)
        self.assertEqual(c.say(f"MAIL FROM:<{self.user(2)}>", "MAIL FROM:<nobody@example.test>", "MAIL FROM:<a@elsewhere.example>"), [553] * 3)

    def test_unknown_of_a_domain_that_is_spread(self):
        c = self.submit()
        self.assertEqual(c.say(f"MAIL FROM:<{self.user(1)}>", "RCPT TO:<nobody@example.test>", "RCPT TO:<other@spread.test>"), [250, 550, 250])

    def test_limits_are_counted_and_shown(self):
        self.cluster.ctl("b1", "submission", "clear")
        c = self.submit(4)
        own = f"MAIL FROM:<{self.user(4)}>"
        self.assertEqual(c.say(own, *[f"RCPT TO:<{self.user(i)}>" for i in (1, 2, 3, 1)]), [250, 250, 250, 250, 450])
        self.assertEqual(c.say("RSET", own, "RSET", own), [250, 250, 250, 450])
        shown = self.cluster.ctl_json("b1", "submission", "show", self.user(4))
        shown = shown.get("result", shown)
        self.assertEqual((shown["messages_hour"], shown["messages_hour_limit"], shown["recipients_day"], shown["recipients_day_limit"]), (2, 2, 3, 3))
        self.assertIn(self.user(4), self.cluster.ctl("b1", "submission", "list"))
        self.cluster.ctl("b1", "submission", "clear", self.user(4))
        self.assertEqual(c.say(own), 250)

    def test_smtplib_and_msmtp(self):
        context = self.tls()
        context.check_hostname = False
        with smtplib.SMTP(*self.cluster.at("b1", "submission"), timeout=20) as s:
            s.starttls(context=context)
            s.login(self.user(1), self.password(1))
            s.sendmail(self.user(1), [self.user(2)], "Subject: smtplib\r\n\r\nhello\r\n")
        self.assertEqual(len(self.find(2, "smtplib")), 1)
        if not shutil.which("msmtp"):
            return
        host, port = self.cluster.at("b1", "submission")
        done = subprocess.run(["msmtp", f"--host={host}", f"--port={port}", "--auth=plain", f"--user={self.user(1)}", f"--passwordeval=echo {self.password(1)}",
                               "--tls=on", "--tls-starttls=on", f"--tls-trust-file={self.cluster.ca}", f"--from={self.user(1)}", self.user(2)],
                              input="Subject: msmtp\n\nhello\n", capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(len(self.find(2, "msmtp")), 1)

    def test_vrfy(self):
        c = self.raw()
        self.assertEqual(c.say("EHLO x", f"VRFY <{self.user(1)}>", "VRFY boss@example.test", "VRFY nobody@example.test", "VRFY x@elsewhere.example"),
                         [250, 250, 250, 550, 252])
        # Other back-ends have users of this domain too.
        self.assertEqual(c.say("VRFY nobody@spread.test"), 252)
        self.cluster.ctl("b1", "account", "set", self.user(3), "--refuse-mail")
        self.assertEqual(c.say(f"VRFY {self.user(3)}"), 550)
        self.cluster.ctl("b1", "account", "set", self.user(3), "--take-mail")
        self.assertEqual(self.raw("submission").say("EHLO x", f"VRFY {self.user(1)}"), [250, 252])

    def test_a_smarthost_by_scram(self):
        """It is our own submission, by Cyrus SASL: it takes the login, and refuses a sender that is another's."""
        c = self.submit()
        self.assertEqual(c.say(f"MAIL FROM:<{self.user(1)}>", "RCPT TO:<x@smart.test>", "DATA"), [250, 250, 354])
        self.assertEqual(c.say(b"Subject: by the smarthost\r\n\r\nx\r\n."), 250)
        mt.wait_for(lambda: re.search(r"to=<x@smart\.test> relay=\S+:24587 .* status=bounced", self.cluster.log("b1")), 20, "the smarthost's answer")
        log = self.cluster.log("b1")
        self.assertRegex(log, r"submission: \S+: login ok user=user0002@example\.test mechanism=SCRAM-SHA-256")
        self.assertRegex(log, r"dsn=5\.7\.\d status=bounced")

    # ---- a trusted proxy ----

    def test_a_proxy_vouches(self):
        c = self.raw("submissions", source="127.0.0.9", tls=True)
        c.send(b"EHLO p1.example.test\r\n")
        words = c.reply()[1]
        self.assertIn("XCLIENT", words)
        self.assertIn("XMARK", words)
        self.assertEqual(c.say("XCLIENT ADDR=192.0.2.1 HELO=client.example SESSION=edge1 PROTO=ESMTPSA"), 220)
        self.assertEqual(c.say(self.plain("proxy", self.secret(), self.user(1))), 235)
        self.assertEqual(c.say("XCLIENT ADDR=192.0.2.2"), 550)
        self.assertEqual(c.say(f"MAIL FROM:<{self.user(1)}> XMARK=0", f"RCPT TO:<{self.user(2)}>", "DATA"), [250, 250, 354])
        self.assertEqual(c.say(b"Subject: vouched\r\n\r\nx\r\n."), 250)
        self.assertRegex(self.cluster.log("b1"), r"INFO submission: edge1: from=<user0001@example\.test> to=<user0002@example\.test> relay=local ")
        # a user without an account here
        c = self.raw("submissions", source="127.0.0.9", tls=True)
        self.assertEqual(c.say("EHLO p1.example.test", self.plain("proxy", self.secret(), "guest@cloud.test")), [250, 235])
        self.assertEqual(c.say("MAIL FROM:<guest@cloud.test>", "RSET", f"MAIL FROM:<{self.user(1)}>"), [250, 250, 553])

    def test_security_04_nobody_else_vouches(self):
        c = self.raw("submissions", tls=True)
        self.assertEqual(c.say("EHLO x", self.plain("proxy", self.secret(), self.user(1))), [250, 535])
        c = self.raw("submissions", tls=True)
        self.assertEqual(c.say("EHLO x", "XCLIENT ADDR=192.0.2.1"), [250, 550])
        c = self.submit()
        self.assertEqual(c.say(f"MAIL FROM:<{self.user(1)}> XMARK=5"), 555)

    def test_a_repeat_after_a_cut_is_one_message(self):
        """The answer was on its way when the connection broke: who sends the same again has sent one message."""
        body = b"Subject: once\r\n\r\nx\r\n.\r\n"
        for i in range(2):
            c = self.submit()
            self.assertEqual(c.say(f"MAIL FROM:<{self.user(1)}>", f"RCPT TO:<{self.user(3)}>", "DATA"), [250, 250, 354])
            c.send(body)
            self.assertEqual(c.reply()[0], 250)
            if i == 0:
                c.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                c.file.close()
                c.socket.close()
            else:
                self.assertEqual(c.say("QUIT"), 221)
        self.assertEqual(len(self.find(3, "once")), 1)
        c = self.submit()
        for _ in range(2):
            self.assertEqual(c.say(f"MAIL FROM:<{self.user(1)}>", f"RCPT TO:<{self.user(3)}>", "DATA"), [250, 250, 354])
            c.send(body.replace(b"once", b"twice"))
            self.assertEqual(c.reply()[0], 250)
        self.assertEqual(len(self.find(3, "twice")), 2)

    # ---- security ----

    def test_security_01_starttls_injection(self):
        for service in ("smtp", "submission"):
            c = self.raw(service)
            c.say("EHLO x")
            c.send(b"STARTTLS\r\nRSET\r\n")
            self.assertEqual([c.reply()[0], c.reply()[0]], [554, 0])
            c = self.raw(service)
            c.say("EHLO before.example", "MAIL FROM:<early@example.net>")
            self.assertEqual(c.say("STARTTLS"), 220)
            context = self.tls()
            context.check_hostname = False
            c.socket = context.wrap_socket(c.socket)
            c.file = c.socket.makefile("rb")
            self.assertEqual(c.say("MAIL FROM:<a@b.example>"), 503)

    def test_security_03_smuggling(self):
        ends = [b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r.\r\n", b"\r\n.\r", b"\n.\r", b"\r\r\n.\r\r\n", b"\r\n.\r\r\n", b"\n\n.\n\n", b"\r\n\x1a.\r\n",
                b"\r\n.\x1a\r\n"]
        for submits in (False, True):
            for i, end in enumerate(ends):
                with self.subTest(end=end, submits=submits):
                    c = self.submit() if submits else self.raw()
                    if not submits:
                        c.say("EHLO x")
                    name = f"smuggle{submits}{i}"
                    self.assertEqual(c.say(f"MAIL FROM:<{self.user(1)}>", f"RCPT TO:<{self.user(2)}>", "DATA"), [250, 250, 354])
                    c.send(f"Subject: {name}\r\n\r\none".encode() + end + f"MAIL FROM:<{self.user(1)}>\r\nRCPT TO:<{self.user(3)}>\r\nDATA\r\n".encode() +
                           b"Subject: smuggled\r\n\r\ntwo\r\n.\r\n")
                    self.assertEqual(c.reply()[0], 250)
                    self.assertEqual(c.say("QUIT"), 221)
        self.assertFalse(self.find(3, "smuggled"))
        # and by chunks, whose ends are counted and not sought
        c = self.raw()
        c.say("EHLO x")
        body = b"Subject: chunked\r\n\r\none\r\n.\r\nMAIL FROM:<evil@b.example>\r\n"
        self.assertEqual(c.say("MAIL FROM:<a@b.example>", f"RCPT TO:<{self.user(2)}>"), [250, 250])
        c.send(b"BDAT %d LAST\r\n%b" % (len(body), body))
        self.assertEqual(c.reply()[0], 250)
        self.assertEqual(c.say("QUIT"), 221)
        self.assertTrue(self.find(2, "chunked")[0].endswith(b"one\r\n.\r\nMAIL FROM:<evil@b.example>\r\n"))

    def test_security_03_early_talkers(self):
        for early in (b"EHLO x\r\nMAIL FROM:<a@b.example>\r\n", b"HELO x\r\nNOOP\r\n"):
            c = self.raw()
            c.send(early)
            self.assertEqual([c.reply()[0], c.reply()[0]], [554, 0])
        c = self.raw()
        self.assertEqual(c.say("HELO x"), 250)
        c.send(b"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\n")
        self.assertEqual([c.reply()[0], c.reply()[0]], [554, 0])

    def test_security_12_header_of_a_submission(self):
        c = self.submit()
        self.assertEqual(c.say(f"MAIL FROM:<{self.user(1)}>", f"RCPT TO:<{self.user(2)}>", "DATA")[-1], 354)
        self.assertEqual(c.say(b"X-A: b\r\n" * 150000 + b"\r\nx\r\n."), 552)
        self.assertEqual(c.say("NOOP"), 250)

    def test_security_17_newline_in_orcpt(self):
        c = self.raw()
        c.say("EHLO x")
        self.assertEqual(c.say("MAIL FROM:<a@b.example> RET=HDRS ENVID=QQ314159",
                               f"RCPT TO:<{self.user(1)}> ORCPT=rfc822;a+0Ab", f"RCPT TO:<{self.user(1)}> ORCPT=rfc822;a+0D+0A1", f"RCPT TO:<{self.user(1)}> ORCPT=rfc822;a+00",
                               f"RCPT TO:<{self.user(1)}> NOTIFY=NEVER,DELAY", f"RCPT TO:<{self.user(1)}> NOTIFY=NEVER ORCPT=rfc822;a+2Bb@c.example"),
                         [250, 501, 501, 501, 501, 250])

    def test_the_log_report_of_the_manual(self):
        c = self.raw()
        self.assertEqual(c.say("EHLO x", "MAIL FROM:<report@b.example>", f"RCPT TO:<{self.user(1)}>", "RCPT TO:<nobody@example.test>", "DATA")[-1], 354)
        self.assertEqual(c.say(b"Subject: report\r\n\r\nx\r\n."), 250)
        with open(os.path.join(mt.ROOT, "docs", "operations.md")) as f:
            script = re.search(r"<!-- log report -->\n```python\n(.*?)```", f.read(), re.S).group(1)
        lines = "".join(l + "\n" for l in self.cluster.log("b1").splitlines() if "from=<report@b.example>" in l)
        done = subprocess.run([sys.executable, "-c", script], input=lines, capture_output=True, text=True, timeout=30)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertRegex(done.stdout, r"(?m)^ +1 smtp +rejected +5\.1\.1$")
        self.assertRegex(done.stdout, r"(?m)^ +1 smtp +sent +2\.0\.0$")

    def test_zz_what_was_sent_outlives_the_program(self):
        self.cluster.ctl("b1", "submission", "clear")
        c = self.submit(3)
        self.assertEqual(c.say(f"MAIL FROM:<{self.user(3)}>", f"RCPT TO:<{self.user(1)}>"), [250, 250])
        c.close()
        path = os.path.join(self.cluster.at("b1", "data"), "send-limits")
        self.cluster.kill("b1", 15)
        mt.wait_for(lambda: not self.cluster.is_alive("b1"), 20, "the back-end has ended")
        with open(path) as f:
            self.assertRegex(f.read(), r"h \d+ 1 1 user0003@example\.test\n")


if __name__ == "__main__":
    unittest.main()
