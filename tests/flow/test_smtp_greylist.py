"""Greylisting by the back-end, exact behind two proxies and the same for its own service; what `smtp explain` says of it; and messages that a rule
of a proxy has put into quarantine."""
import base64
import hashlib
import os
import re
import unittest

import mt
from test_smtp import Base

A, B = "user0001@example.test", "user0002@example.test"
RULES = """
rule known { at = "rcpt" when = {"sender friend@*"} then = {"accept"} }
rule grey { at = "rcpt" then = {"greylist"} }
"""
PROXY = RULES + """
rule held { at = "header" when = {"header Subject *bad*"} then = {"quarantine looks bad to me"} }
rule nosuch { at = "mail" when = {"sender no@*"} then = {"reject 553 5.7.1 Not you"} }
"""
BACKEND = RULES + """
rule own { at = "mail" services = {"submission"} when = {"sender-is-own", "size >1K"} then = {"reject 552 5.3.4 Yours, but too much"} }
rule others { at = "mail" services = {"submission"} when = {"not sender-is-own"} then = {"reject 553 5.7.1 A rule says: not yours"} }
greylist { delay = 2s }
"""


class Greylist(Base):
    FLAGS = ["--proxies", 2, "--backends", 1, "--users", 2, "--password", "secret"]

    @classmethod
    def setUpClass(cls):
        cls.files = []
        for name, text in (("proxy", PROXY), ("backend", BACKEND)):
            path = f"/tmp/mt-grey-{os.getpid()}-{name}.conf"
            with open(path, "w") as f:
                f.write(text)
            cls.files.append(path)
        cls.FLAGS = Greylist.FLAGS + ["--conf", cls.files[0], "--backend-conf", cls.files[1]]
        super().setUpClass()

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        for path in cls.files:
            os.unlink(path)

    def rcpt(self, proxy, sender, recipient=A):
        raw = self.raw(name=proxy)
        try:
            self.assertEqual([250, 250], raw.say("EHLO c.example", f"MAIL FROM:<{sender}>"))
            raw.send(f"RCPT TO:<{recipient}>\r\n".encode())
            return raw.reply()
        finally:
            raw.file.close()
            raw.close()

    def test_one_table_behind_two_proxies(self):
        self.assertEqual(250, self.rcpt("p1", "friend@example.net")[0])
        code, text = self.rcpt("p1", "stranger@example.net")
        self.assertEqual(450, code, text)
        self.assertIn("4.7.1 Not known here yet, try again in 2 seconds", text)
        # Too soon, at the other proxy: it is the same first try.
        code, text = self.rcpt("p2", "STRANGER@example.net")
        self.assertEqual(450, code, text)
        mt.wait_for(lambda: self.rcpt("p2", "stranger@example.net")[0] == 250, 20, "the second try to pass")
        self.assertEqual(250, self.rcpt("p1", "stranger@example.net")[0])
        self.assertEqual(250, self.rcpt("p2", "stranger@example.net")[0])
        # Another recipient is another triplet; an unknown one is refused and not remembered.
        self.assertEqual(450, self.rcpt("p1", "stranger@example.net", B)[0])
        self.assertEqual(550, self.rcpt("p1", "stranger@example.net", "nobody@example.test")[0])

    def explain(self, program, *words, code=0):
        return self.cluster.ctl_json(program, "smtp", "explain", *words)

    def test_explain(self):
        got = self.explain("p1", "--ip", "192.0.2.7", "--from", "x@example.net", "--to", A, "--no-dns")
        rules = {(r["phase"], r["rule"]): r["holds"] for r in got["rows"]}
        self.assertEqual("yes", rules["rcpt", "grey"])
        self.assertEqual("no", rules["rcpt", "known"])
        self.assertEqual(("accepted", "grey", [A]), (got["verdict"], got["rule"], got["greylisted"]))
        got = self.explain("p1", "--ip", "192.0.2.7", "--from", "x@example.net", "--to", A, "--no-dns", "--header", "Subject: a bad one")
        self.assertEqual("held", got["verdict"])
        got = self.explain("p1", "--ip", "192.0.2.7", "--from", "no@example.net", "--to", A)
        self.assertEqual(("refused", "mail", "nosuch", 553, "5.7.1", "Not you"),
                         tuple(got[k] for k in ("verdict", "phase", "rule", "code", "enhanced", "text")))
        got = self.explain("b1", "--ip", "2001:db8::1", "--from", "", "--to", A, "--header", "Subject: x")
        self.assertEqual("grey", got["rule"])
        self.cluster.ctl("p1", "smtp", "explain", "--ip", "192.0.2.7", "--from", "x@example.net", code=64)

    def test_whose_a_sender_is(self):
        """On the back-end's own submission a rule knows whether the sender is the user's."""
        raw = self.raw(service="submissions", name="b1", tls=self.context())
        login = base64.b64encode(f"\0{A}\0secret".encode()).decode()
        self.assertEqual([250, 235], raw.say("EHLO c.example", f"AUTH PLAIN {login}"))
        self.assertEqual([552, 250, 250], raw.say(f"MAIL FROM:<{A}> SIZE=5000", f"MAIL FROM:<{A}> SIZE=500", "RSET"))
        raw.send(f"MAIL FROM:<{B}>\r\n".encode())
        self.assertIn("A rule says", raw.reply()[1])

    def lmtp(self):
        raw = self.raw(service="lmtp", name="b1")
        raw.send(b"LHLO proxy.example\r\n")
        self.assertIn("XMARK", raw.reply()[1])
        return raw

    def deliver(self, raw, mark, body):
        self.assertEqual([250, 250], raw.say("MAIL FROM:<marks@example.net> XMARK=0", f"RCPT TO:<{A}>"))
        self.assertEqual(250, raw.say(f"XMARK {mark}"))
        raw.send(b"BDAT %d LAST\r\n" % len(body) + body)
        self.assertEqual(250, raw.reply()[0])

    def test_an_edited_message_is_known_again(self):
        """What a rule or filter has written differs from one try to the next; the digest of the client's octets does not. A leg that is cut
        keeps its mark, one that ends in order does not."""
        client = b"Subject: edited\r\n\r\ntext\r\n"
        digest = hashlib.sha256(client).hexdigest()
        for i in range(2):
            raw = self.lmtp()
            self.deliver(raw, f"0:{digest}", b"X-Try: %d\r\n" % i + client)
            raw.file.close()
            raw.socket.shutdown(2)
            raw.close()
        self.assertEqual([b"X-Try: 0"], [m for text in self.inbox(A) for m in re.findall(rb"X-Try: \d", text)])
        # A field of ours before the client's octets: the prefix tells.
        for i in range(2):
            raw = self.lmtp()
            self.deliver(raw, "10", b"X-Two: %d\r\n" % i + client.replace(b"edited", b"prefix"))
            raw.file.close()
            raw.socket.shutdown(2)
            raw.close()
        self.assertEqual([b"X-Two: 0"], [m for text in self.inbox(A) for m in re.findall(rb"X-Two: \d", text)])

    def test_security_04_marks(self):
        """The word between the tiers: from nobody else, not out of order, and no line end in it."""
        raw = self.raw(name="p1")
        self.assertEqual([250, 250, 550], raw.say("EHLO c", "MAIL FROM:<friend@example.net>", "XMARK 0"))
        raw = self.lmtp()
        self.assertEqual(503, raw.say("XMARK 0"))
        self.assertEqual([250, 250, 503], raw.say("MAIL FROM:<a@example.net>", f"RCPT TO:<{A}>", "XMARK 0"))
        self.assertEqual([250, 250, 250, 501, 501, 501],
                         raw.say("RSET", "MAIL FROM:<a@example.net> XMARK=0", f"RCPT TO:<{A}>", "XMARK 0 HOLD=a+0D+0Ab", "XMARK x", "XMARK 0:12"))
        self.assertEqual(501, raw.say(f"RCPT TO:<{B}> XGREY=a+20b"))
        raw = self.raw(name="p1")
        self.assertEqual([250, 250, 555], raw.say("EHLO c", "MAIL FROM:<friend@example.net>", f"RCPT TO:<{A}> XGREY=192.0.2.0/24"))

    def test_quarantine(self):
        """The back-end takes it, and no mailbox gets it."""
        raw = self.raw(name="p1")
        raw.begin(A, sender="friend@example.net")
        raw.send(b"Subject: this is bad\r\n\r\nx\r\n.\r\n")
        self.assertEqual(250, raw.reply()[0])
        self.assertEqual([], [m for m in self.inbox(A) if b"this is bad" in m])
        held = [r for r in self.cluster.ctl_json("b1", "queue", "list", "--state", "held")["rows"]]
        self.assertEqual([(A, "looks bad to me")], [(r["recipient"], r["reason"]) for r in held], held)
        self.cluster.ctl("b1", "queue", "release", str(held[0]["id"]))
        mt.wait_for(lambda: [m for m in self.inbox(A) if b"this is bad" in m], 20, "the released message in its mailbox")
        raw.begin(A, sender="friend@example.net")
        raw.send(b"Subject: this is good\r\n\r\nx\r\n.\r\n")
        self.assertEqual(250, raw.reply()[0])
        self.assertEqual(1, len([m for m in self.inbox(A) if b"this is good" in m]))


if __name__ == "__main__":
    unittest.main()
