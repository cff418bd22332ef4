"""The queue of a back-end, whole: forwarding to another server with rewritten senders, bounces to them, the schedule, notices as Python reads them,
what operators do with the queue, mail that waits over a restart."""
import base64
import email
import email.policy
import imaplib
import re
import signal
import smtplib
import subprocess
import tempfile
import unittest

import dkim_oracle
import mt
import smtp_sink
from backend_case import BackendCase


class Queue(BackendCase):
    USERS = 5
    ROUTE = ""
    STARTER = ["--restart"]

    @classmethod
    def setUpClass(cls):
        cls.sink = smtp_sink.Sink(host="127.0.0.1")
        cls.keys = tempfile.NamedTemporaryFile("w", suffix=".keys")
        cls.keys.write("0123456789abcdef0123456789abcdef\n")
        cls.keys.flush()
        cls.template = tempfile.NamedTemporaryFile("w", suffix=".txt")
        cls.template.write("Subject: Nicht zugestellt: zur\u00fcck\n\nHallo ${sender}, von ${host}:\n${recipients}\nEnde\n")
        cls.template.flush()
        cls.signing = tempfile.NamedTemporaryFile("w", suffix=".pem")  # made with mode 0600
        subprocess.run(["openssl", "genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"], stdout=cls.signing,
                       stderr=subprocess.DEVNULL, check=True)
        cls.DKIM = f"dkim own {{\n\tdomains = {{example.test}}\n\tsubdomains = yes\n\tselector = s1\n\tkey = \"{cls.signing.name}\"\n}}\n"
        cls.CONF = (cls.DKIM + f"slots = 2\nqueue {{\n\tretry-first = 1s\n\tretry-most = 2s\n\tsrs-domain = srs.test\n\tsrs-keys = \"{cls.keys.name}\"\n"
                    f"\tfailure-template = \"{cls.template.name}\"\n}}\n"
                    f"route all {{\n\tdomains = {{\"*\"}}\n\thosts = {{\"[127.0.0.1]:{cls.sink.port}\"}}\n}}\n{cls.ROUTE}"
                    "route dead {\n\tdomains = {\"dead.test\"}\n\thosts = {\"[127.0.0.1]:9\"}\n}\n")
        super().setUpClass()

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        cls.sink.stop()

    def ctl(self, *words, code=0):
        return self.cluster.ctl("b1", *words, code=code)

    def forward(self, i, *to, keep=False):
        self.ctl("account", "set", self.user(i), "--forward", ",".join(to), "--keep" if keep else "--no-keep")

    def list(self, *words):
        return self.cluster.ctl_json("b1", "queue", "list", *words).get("rows", [])

    def wait_sent(self, address, count=1, seconds=15):
        mt.wait_for(lambda: len(self.sink.to(address)) >= count, seconds, f"{count} messages to {address}")
        return self.sink.to(address)[-1]

    def wait_empty(self):
        mt.wait_for(lambda: not self.list(), 15, "the queue to be empty")

    def test_forwarding_elsewhere_with_a_rewritten_sender(self):
        self.forward(1, "friend@far.test", keep=True)
        self.deliver(self.user(1), "Subject: on\r\n\r\n.dot\r\nbody\r\n")
        got = self.wait_sent("friend@far.test")
        sender = got.sender.partition("<")[2].partition(">")[0]
        self.assertRegex(sender, r"^SRS0=[a-z2-7]{8}=[a-z2-7]{2}=elsewhere\.test=sender@srs\.test$")
        self.assertTrue(got.data.startswith(f"Delivered-To: {self.user(1)}\r\nReceived: ".encode()), got.data)
        self.assertIn(b"\r\n\r\n.dot\r\nbody\r\n", got.data)
        self.assertNotIn(b"Return-Path", got.data)
        self.wait_empty()
        # A bounce comes back to it, and goes on to whom it is for.
        self.deliver_as("", sender, "Subject: bounced\r\n\r\nx\r\n")
        back = self.wait_sent("sender@elsewhere.test")
        self.assertTrue(back.sender.startswith("<>"), back.sender)
        # Nobody else's do.
        forged = sender.replace("=sender@", "=someone@")
        with self.assertRaisesRegex(Exception, "550"):
            self.deliver_as("", forged, "Subject: bounced\r\n\r\nx\r\n")

    def deliver_as(self, sender, to, message):
        host, port = self.cluster.at("b1", "lmtp")
        with smtplib.LMTP(host, port) as lmtp:
            lmtp.sendmail(sender, [to], message)

    def test_a_refusal_comes_back_as_a_notice(self):
        before = len(self.sink.to("sender@elsewhere.test"))
        self.forward(2, "bad.one@far.test", "bad.two@far.test", "good@far.test")
        self.deliver(self.user(2), "Subject: on\r\nX-Mark: 1\r\n\r\nthe body\r\n")
        # The forwarded message's sender is ours to rewrite back: the notice goes to him.
        got = self.wait_sent("sender@elsewhere.test", before + 1)
        self.wait_sent("good@far.test")
        m = email.message_from_bytes(got.data, policy=email.policy.default)
        self.assertEqual(m.get_content_type(), "multipart/report")
        self.assertEqual(m.get_param("report-type"), "delivery-status")
        self.assertEqual(m["Subject"], "Nicht zugestellt: zur\u00fcck")
        self.assertEqual(m["Auto-Submitted"], "auto-replied")
        text, status, returned = m.get_payload()
        self.assertIn("said: 550 5.1.1 No such", text.get_content())
        parts = status.get_payload()
        self.assertEqual(len(parts), 3)
        self.assertTrue(parts[0]["Reporting-MTA"].startswith("dns;"))
        self.assertEqual({p["Final-Recipient"] for p in parts[1:]}, {"rfc822;bad.one@far.test", "rfc822;bad.two@far.test"})
        for p in parts[1:]:
            self.assertEqual((p["Action"], p["Status"]), ("failed", "5.1.1"))
            self.assertTrue(p["Diagnostic-Code"].startswith("smtp;550 5.1.1 No such"), p["Diagnostic-Code"])
            self.assertNotIn("\x1b", p["Diagnostic-Code"])
        self.assertEqual(returned.get_content_type(), "message/rfc822")
        self.assertEqual(returned.get_payload(0)["X-Mark"], "1")
        self.assertIn("d=example.test; s=s1;", " ".join(m["DKIM-Signature"].split()))
        if dkim_oracle.is_there():
            public = subprocess.run(["openssl", "pkey", "-in", self.signing.name, "-pubout", "-outform", "DER"], capture_output=True, check=True).stdout
            oracle = dkim_oracle.Oracle({"s1._domainkey.example.test": "v=DKIM1; k=rsa; p=" + base64.b64encode(public).decode()})
            try:
                self.assertEqual(oracle.verify(got.data), [("example.test", "s1", True)])
            finally:
                oracle.stop()
        self.wait_empty()

    def submit(self, i, to, message, mail=(), rcpt=()):
        context = self.tls()
        context.check_hostname = False
        with smtplib.SMTP_SSL(*self.cluster.at("b1", "submissions"), context=context, timeout=20) as s:
            s.login(self.user(i), self.password(i))
            s.sendmail(self.user(i), to, message, mail_options=mail, rcpt_options=rcpt)

    def inbox(self, i):
        """The messages of a user, parsed; they go."""
        m = imaplib.IMAP4_SSL(*self.cluster.at("b1", "imaps"), ssl_context=self.tls(), timeout=20)
        try:
            m.login(self.user(i), self.password(i))
            m.select()
            found = []
            for number in m.search(None, "ALL")[1][0].split():
                found.append(email.message_from_bytes(m.fetch(number, "BODY[]")[1][0][1], policy=email.policy.default))
                m.store(number, "+FLAGS", "\\Deleted")
            m.expunge()
            return found
        finally:
            m.logout()

    def wait_inbox(self, i, count):
        found = []

        def look():
            found.extend(self.inbox(i))
            return len(found) >= count

        mt.wait_for(look, 15, f"{count} messages for user {i}")
        return found

    def test_submission_to_here_and_elsewhere_with_wishes(self):
        self.submit(4, [self.user(5), "there@far.test", "bad.three@far.test"], "Subject: wishes\r\n\r\nsee\r\n",
                    ["RET=HDRS", "ENVID=QQ+3D1"], ["NOTIFY=SUCCESS,FAILURE"])
        self.assertEqual(self.wait_inbox(5, 1)[0]["Subject"], "wishes")
        got = self.wait_sent("there@far.test")
        self.assertIn(f"<{self.user(4)}>", got.sender)  # nobody's sender is rewritten who sends himself
        told = {}
        for m in self.wait_inbox(4, 3):
            text, status, returned = m.get_payload()
            self.assertEqual(returned.get_content_type(), "text/rfc822-headers")
            self.assertEqual(status.get_payload()[0]["Original-Envelope-Id"], "QQ=1")
            self.assertEqual(m["Return-Path"], "<>")
            for p in status.get_payload()[1:]:
                told[p["Final-Recipient"].partition(";")[2]] = p["Action"]
        self.assertEqual(told, {self.user(5): "delivered", "there@far.test": "relayed", "bad.three@far.test": "failed"})
        # A server that does DSN is asked to tell, and never is told to for two.
        self.submit(4, ["quiet@far.test"], "Subject: never\r\n\r\nsee\r\n", [], ["NOTIFY=NEVER"])
        self.submit(4, ["bad.quiet@far.test"], "Subject: never\r\n\r\nsee\r\n", [], ["NOTIFY=NEVER"])
        self.wait_sent("quiet@far.test")
        self.wait_empty()
        # An operator finds what a user has submitted, and what others have not.
        self.submit(4, ["there@dead.test"], "Subject: waits\r\n\r\nsee\r\n")
        self.assertEqual((len(self.list("--user", self.user(4))), self.list("--user", self.user(5))), (1, []))
        self.ctl("queue", "hold", "--user", self.user(5), code=None)
        self.assertEqual(self.list("--state", "held"), [])
        self.ctl("queue", "hold", "--user", self.user(4).upper())
        self.assertEqual([r["recipient"] for r in self.list("--state", "held")], ["there@dead.test"])
        self.ctl("queue", "remove", "--user", self.user(4))
        self.wait_empty()
        self.assertEqual(self.inbox(4), [])

    def test_what_is_deferred_is_tried_again_and_can_be_seen_held_and_removed(self):
        self.forward(3, "later@far.test", "x@dead.test")
        self.deliver(self.user(3), "Subject: on\r\n\r\nx\r\n")
        mt.wait_for(lambda: all(r["tries"] > 1 for r in self.list()) and len(self.list()) == 2, 20, "second tries")
        rows = {r["recipient"]: r for r in self.list()}
        self.assertEqual(rows["later@far.test"]["status"], "4.7.1")
        self.assertIn("Come back later", rows["later@far.test"]["text"])
        self.assertEqual(rows["x@dead.test"]["state"], "waiting")
        self.assertEqual(len(self.list("--domain", "dead.test")), 1)
        self.assertEqual(len(self.list("--sender", "nobody@x.test")), 0)
        self.assertEqual(len(self.list("--older", "1h")), 0)
        id = rows["later@far.test"]["id"]
        # Numbers for scripts, dates for people.
        self.assertGreater(rows["later@far.test"]["arrived"], 1600000000)
        self.assertRegex(self.ctl("queue", "show", id), r" 20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ ")
        self.ctl("queue", "hold", id, "--reason", "looks odd")
        shown = self.cluster.ctl_json("b1", "queue", "show", id)
        self.assertEqual((shown["rows"][0]["state"], shown["rows"][0]["reason"]), ("held", "looks odd"))
        self.ctl("queue", "remove", "--domain", "dead.test")
        self.assertEqual([r["recipient"] for r in self.list()], ["later@far.test"])
        self.assertEqual(self.cluster.metric("b1", 'mailtier_queue_recipients{state="held"}'), 1)
        # Held and waiting ones are there after a crash.
        old = self.cluster.pid("b1")
        self.cluster.kill("b1", signal.SIGKILL)
        self.cluster.wait_restarted("b1", old)
        mt.wait_for(lambda: self.ctl("queue", "list", code=None)[0] == 0, 20, "the control socket to answer")
        self.assertEqual([r["state"] for r in self.list()], ["held"])
        self.sink.is_kind = True
        self.ctl("queue", "release", id)
        self.wait_sent("later@far.test")
        self.wait_empty()
        code, text = self.ctl("queue", "retry", id, code=None)
        self.assertEqual(code, 1, text)
        code, text = self.ctl("queue", "remove", code=None)
        self.assertEqual(code, 64, text)
        log = self.cluster.log("b1")
        line = re.search(r"queue: (\S+): from=<SRS0=\S+@srs\.test> to=<later@far\.test> relay=\S+ delay=[\d./]+ tls=none "
                         r"dsn=4\.7\.1 status=deferred \(Come back later\) queue=\S+ tries=2", log)
        self.assertTrue(line)
        self.assertIn(f"lmtp: {line.group(1)}: message from=", log)  # one id from the edge on
        self.assertRegex(log, r"to=<x@dead\.test> relay=none delay=[\d.]+/0\.000/0\.000/0\.000 tls=none dsn=4\.\S+ status=removed \(by an operator\) queue=")
        self.assertRegex(log, r"to=<later@far\.test> relay=none delay=\S+ tls=none dsn=4\.7\.1 status=held \(by an operator: looks odd\) queue=")


if __name__ == "__main__":
    unittest.main()
