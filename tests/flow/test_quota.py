"""Quota as an operator and a user meet it: roots and limits by mailtierctl, refusals at RCPT and in IMAP, the verifier, and warnings that come
once an interval, over a restart too."""
import email
import email.header
import os
import re
import signal
import smtplib
import socket
import tempfile

from backend_case import BackendCase
from imap_wire import Wire, fetch_items
import mt

MAIL = b"Subject: x\r\n\r\n" + b"0123456789012345678901234567890\r\n" * 30


class Quota(BackendCase):
    USERS = 6
    TEXT = "Subject: ${user}: ${percent}% für ${domain}\n\nAt ${threshold}: ${used} of ${limit}\n"

    @classmethod
    def setUpClass(cls):
        fd, cls.template = tempfile.mkstemp(suffix=".txt")
        os.close(fd)
        os.chmod(cls.template, 0o644)
        cls.write_template(cls.TEXT)
        cls.CONF = f'quota-warning {{\n\tthresholds = {{50%, "80%"}}\n\ttemplate = "{cls.template}"\n\tinterval = 1d\n}}\n'
        cls.STARTER = ["--restart"]
        super().setUpClass()

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        os.unlink(cls.template)

    @classmethod
    def write_template(cls, text):
        with open(cls.template, "w") as f:
            f.write(text)

    def imap(self, i):
        wire = Wire(self.cluster.at("b1", "imap"))
        self.addCleanup(wire.close)
        self.assertRegex(wire.ask(f"LOGIN {self.user(i)} {self.password(i)}".encode())[1], rb"\AOK")
        return wire

    def ctl(self, *words, code=0):
        return self.cluster.ctl("b1", "quota", *words, code=code)

    def verified(self):
        for words in (), ("--repair",):
            self.assertEqual(self.cluster.ctl_json("b1", "quota", "verify", *words)["drift"], 0)
        self.cluster.ctl("b1", "store", "check")

    def test_roots_and_folders(self):
        user, wire = self.user(1), self.imap(1)
        wire.ask(b"CREATE Team/one")
        self.ctl("set", f"{user}/Team", "--size", "2500", "--mailboxes", "3")
        self.ctl("set", f"{user}/Sent", "--folder-count", "1")
        self.ctl("set", f"{user}/nowhere", "--size", "1M", code=1)
        self.ctl("set", "nobody@example.test/x", "--size", "1M", code=1)
        self.ctl("set", user, "--folder-size", "1M", code=64)
        self.ctl("set", user, code=64)
        append = b"APPEND %%s {%d+}\r\n%s" % (len(MAIL), MAIL)
        self.assertRegex(wire.ask(append % b"Team")[1], rb"\AOK")
        self.assertRegex(wire.ask(append % b"Team/one")[1], rb"\AOK")
        self.assertRegex(wire.ask(append % b"Team/one")[1], rb"\ANO \[OVERQUOTA\]")
        self.assertRegex(wire.ask(append % b"Sent")[1], rb"\AOK")
        self.assertRegex(wire.ask(append % b"Sent")[1], rb"\ANO \[OVERQUOTA\]")
        self.assertRegex(wire.ask(b"CREATE Team/two")[1], rb"\AOK")
        self.assertRegex(wire.ask(b"CREATE Team/three")[1], rb"\ANO \[OVERQUOTA\]")
        told = b"".join(wire.ask(b"GETQUOTAROOT Team/one")[0])
        self.assertRegex(told, rb'\* QUOTAROOT Team/one "" Team\r\n')
        self.assertRegex(told, rb"\* QUOTA Team \(STORAGE 2 2 MAILBOX 3 3\)\r\n")
        shown = self.cluster.ctl_json("b1", "quota", "show", user)
        self.assertIn((user, 0), [(shown["account"], shown["bytes_limit"])])
        self.assertIn("Team", self.ctl("show", user))
        self.ctl("set", f"{user}/Team", "--size", "none", "--mailboxes", "none")
        self.assertRegex(wire.ask(append % b"Team/one")[1], rb"\AOK")
        self.assertNotIn("Team", self.ctl("show", user))
        self.verified()

    def test_deliveries_meet_the_limits_of_inbox_at_rcpt(self):
        user = self.user(2)
        self.ctl("set", f"{user}/INBOX", "--folder-count", "2")
        self.deliver(user, MAIL)
        wire = self.imap(2)
        mt.wait_for(lambda: self.warnings(wire), 20, "the warning, which is the second message")
        with self.assertRaises(smtplib.SMTPRecipientsRefused) as refused:
            self.deliver(user, MAIL)
        self.assertRegex(str(refused.exception), r"452, b'4\.2\.2")
        self.verified()

    def at_once(self, user, told, mail, count=8):
        """So many deliveries stand behind RCPT at the same time, then send: (replies to RCPT, replies to the message)."""
        sessions, rcpt, data = [], [], []
        for _ in range(count):
            lmtp = smtplib.LMTP(*self.cluster.at("b1", "lmtp"))
            sessions.append(lmtp)
            lmtp.ehlo_or_helo_if_needed()
            lmtp.mail("sender@elsewhere.test", [f"SIZE={told}"] if told else [])
            rcpt.append(lmtp.rcpt(user)[0])
        for lmtp, code in zip(sessions, rcpt):
            if code == 250:
                data.append(lmtp.data(mail)[0])
            lmtp.close()
        return rcpt, data

    def test_deliveries_at_once_do_not_exceed_the_limit_together(self):
        """With a size, without one, and with one that is not true."""
        user, mail = self.user(6), b"Subject: x\r\n\r\n" + b"0123456789012345678901234567890\r\n" * 3200
        self.ctl("set", user, "--size", str(3 * len(mail)))
        rcpt, data = self.at_once(user, len(mail), mail)
        self.assertEqual((sorted(rcpt), data), ([250] * 3 + [452] * 5, [250] * 3))
        self.ctl("set", user, "--size", str(4 * len(mail)))
        rcpt, data = self.at_once(user, None, mail)
        self.assertEqual((sorted(rcpt), data), ([250] + [450] * 7, [250]))
        self.ctl("set", user, "--size", str(6 * len(mail)))
        rcpt, data = self.at_once(user, 10, mail)
        self.assertEqual(rcpt, [250] * 8)
        self.assertEqual(sorted(data), [250] + [451] * 7)  # the next try is answered at RCPT
        self.verified()

    def warnings(self, wire):
        count = int(re.search(rb"EXISTS|(\d+) EXISTS", b"".join(wire.ask(b"SELECT INBOX")[0]))[1])
        if not count:
            return []
        texts = [fetch_items(u)[1][b"BODY[]"] for u in wire.ask(b"FETCH 1:* BODY.PEEK[]")[0] if b" FETCH (" in u[:30]]
        return [t for t in texts if b"Auto-Submitted" in t]

    def test_warnings_come_once(self):
        user, wire = self.user(3), self.imap(3)
        self.ctl("set", user, "--count", "10")
        for _ in range(4):
            self.deliver(user, MAIL)
        self.assertEqual(self.warnings(wire), [])
        self.deliver(user, MAIL)
        mt.wait_for(lambda: self.warnings(wire), 20, "the first warning")
        text = self.warnings(wire)[0]
        self.assertRegex(text, rb"Subject: =\?UTF-8\?B\?")
        self.assertIn(b"To: <%s>" % user.encode(), text)
        self.assertRegex(text, rb"\r\n\r\nAt 50: \d[^\r]* of no limit\r\n\Z")
        self.assertTrue(text.startswith(b"Return-Path: <>\r\n"))
        old = self.cluster.pid("b1")
        self.cluster.kill("b1", signal.SIGKILL)
        self.cluster.wait_restarted("b1", old, 60)

        def back():
            try:
                socket.create_connection(self.cluster.at("b1", "lmtp")).close()  # listeners begin one after the other
                return self.imap(3)
            except (OSError, AssertionError):
                return None
        wire = mt.wait_for(back, 30, "logins are taken again")
        self.deliver(user, MAIL)
        self.deliver(user, MAIL)  # 8 of 10 with the warning
        mt.wait_for(lambda: len(self.warnings(wire)) == 2, 20, "the second warning, of the other threshold")
        self.deliver(user, MAIL)  # 10
        self.verified()
        self.assertEqual(sorted(re.search(rb"At (\d+)", t)[1] for t in self.warnings(wire)), [b"50", b"80"])

    @staticmethod
    def subject(text):
        return str(email.header.make_header(email.header.decode_header(email.message_from_bytes(text)["Subject"])))

    def test_folders_are_warned_of(self):
        """Of a folder its owner is told; of a public one those who administer it."""
        user, wire, other = self.user(4), self.imap(4), self.imap(5)
        self.assertRegex(wire.ask(b"CREATE Team/one")[1], rb"\AOK")
        self.ctl("set", f"{user}/Team", "--count", "2")
        append = b"APPEND %%s {%d+}\r\n%s" % (len(MAIL), MAIL)
        self.assertRegex(wire.ask(append % b"Team/one")[1], rb"\AOK")
        mt.wait_for(lambda: self.warnings(wire), 20, "the warning of a folder")
        self.assertIn(b"To: <%s>" % user.encode(), self.warnings(wire)[0])
        self.assertTrue(self.subject(self.warnings(wire)[0]).startswith(f"{user}/Team: 50% "))
        self.cluster.ctl("b1", "public", "add", "example.test", "Ads")
        self.cluster.ctl("b1", "acl", "set", "@example.test", "Ads", user, "lrswia")
        self.ctl("set", "#public@example.test/Ads", "--count", "2")
        self.assertRegex(wire.ask(append % b"Public/Ads")[1], rb"\AOK")
        mt.wait_for(lambda: len(self.warnings(wire)) == 2, 20, "the warning of a public folder")
        self.assertTrue(self.subject(self.warnings(wire)[1]).startswith("#public@example.test/Ads: 50% "))
        self.assertEqual(self.warnings(other), [])

    def test_a_template_that_is_none_is_refused(self):
        self.write_template("Subject: ${nonsense}\n\ntext\n")
        try:
            self.cluster.kill("b1", signal.SIGHUP)
            mt.wait_for(lambda: f"{self.template}:1: has a ${{word}}" in self.cluster.log("b1"), 20, "the reload is refused")
        finally:
            self.write_template(self.TEXT)


if __name__ == "__main__":
    import unittest
    unittest.main()
