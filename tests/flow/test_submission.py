"""Submission through the proxy: whole transactions go to the submission service of the sender's back-end; users without a mailbox to those of
submission-route; what the client's MAIL and RCPT ask for goes along; back-ends that are down."""
import base64
import os
import re
import socket
import tempfile
import unittest

import balancer
import mt
from test_smtp import Base, Raw

PASSWORD = "secret"
BALANCER = "127.9.9.9"
A, B, C = "user0001@example.test", "user0002@example.test", "user0003@example.test"  # on b1, b2, b1
GUEST = "guest@cloud.test"


class Submission(Base):
    @classmethod
    def setUpClass(cls):
        cls.files = tempfile.mkdtemp(prefix="mt-sub-")
        with open(os.path.join(cls.files, "p"), "w") as f:
            f.write("service submission {\n\tmaps = {users, guests}\n\tsubmission-route = {b2, b1}\n}\n"
                    "".join(f"listener {name} {{\n\tproxy-protocol = optional\n\tproxy-networks = {{\"{BALANCER}\"}}\n}}\n"
                            for name in ("submissions", "smtp")) +
                                        f"map guests {{\n\ttype = file\n\tfile = \"{cls.files}/guests\"\n}}\n")
        with open(os.path.join(cls.files, "guests"), "w") as f:
            f.write(f"{GUEST} - password={{PLAIN}}{PASSWORD} send-only\n# end 1\n")
        os.chmod(os.path.join(cls.files, "guests"), 0o600)
        cls.FLAGS = ["--proxies", 1, "--backends", 2, "--users", 4, "--password", PASSWORD, "--conf", os.path.join(cls.files, "p")]
        super().setUpClass()

    def submit(self, user=A):
        c = self.raw("submissions", tls=self.context())
        self.assertEqual(c.say("EHLO client.example"), 250)
        self.assertEqual(c.say("AUTH PLAIN " + base64.b64encode(f"\0{user}\0{PASSWORD}".encode()).decode()), 235)
        return c

    def balanced(self, user, name, client="192.0.2.9"):
        """A session that a load balancer calls by that name."""
        c = Raw.__new__(Raw)
        c.socket = socket.create_connection(self.cluster.at("p1", "submissions"), 20, source_address=(BALANCER, 0))
        c.socket.sendall(balancer.header(client, more=balancer.tlv(5, name.encode())))
        c.socket = self.context().wrap_socket(c.socket)
        c.file = c.socket.makefile("rb")
        self.assertEqual(c.reply()[0], 220)
        self.assertEqual(c.say("EHLO client.example"), 250)
        self.assertEqual(c.say("AUTH PLAIN " + base64.b64encode(f"\0{user}\0{PASSWORD}".encode()).decode()), 235)
        return c

    def test_security_07_a_login_at_the_back_end_serves_its_user_alone(self):
        """A balancer that calls two sessions by one name: the connection to the back-end on which one user is logged in is none of the other's."""
        first = self.balanced(A, "one-name-for-all")
        self.assertEqual(first.say(f"MAIL FROM:<{A}>", f"RCPT TO:<{C}>", "DATA"), [250, 250, 354])
        self.assertEqual(first.say(b"Subject: first of the name\r\n\r\nx\r\n."), 250)
        # one of them is served by the thread that keeps A's connection
        for _ in range(6):
            other = self.balanced(C, "one-name-for-all")
            self.assertEqual(other.say(f"MAIL FROM:<{A}>", f"MAIL FROM:<{C}>"), [553, 250])
            other.close()

    def test_the_client_that_is_told_is_the_sessions(self):
        """The same user twice under one name, from two places: each message comes from where it came."""
        sessions = []
        for n in range(6):
            c = self.balanced(A, "one-user-for-all", f"192.0.2.{n + 40}")
            self.assertEqual(c.say(f"MAIL FROM:<{A}>", f"RCPT TO:<{C}>", "DATA"), [250, 250, 354])
            self.assertEqual(c.say(f"Subject: from {n}\r\n\r\nx\r\n.".encode()), 250)
            sessions.append(c)
        told = re.findall(r"submission: one-user-for-all: message from=\S+ .* client=192\.0\.2\.4(\d) ", self.cluster.log("b1"))
        self.assertEqual(told, [str(n) for n in range(6)])
        for c in sessions:
            c.close()

    def test_the_client_that_is_told_is_the_transactions(self):
        """Nor does a connection of the pool keep what it was told of another client."""
        for n in range(6):
            c = Raw.__new__(Raw)
            c.socket = socket.create_connection(self.cluster.at("p1", "smtp"), 20, source_address=(BALANCER, 0))
            c.socket.sendall(balancer.header(f"192.0.2.{n + 30}", more=balancer.tlv(5, b"the-same-for-all")))
            c.file = c.socket.makefile("rb")
            self.assertEqual(c.reply()[0], 220)
            self.assertEqual(c.say("EHLO first.example", f"MAIL FROM:<{n}@b.example>", f"RCPT TO:<{C}>", "DATA"), [250, 250, 250, 354])
            self.assertEqual(c.say(b"Subject: told\r\n\r\nx\r\n."), 250)
            c.close()
        told = re.findall(r"lmtp: the-same-for-all: message from=<(\d)@b\.example> .* client=192\.0\.2\.3(\d) ", self.cluster.log("b1"))
        self.assertEqual(told, [(str(n), str(n)) for n in range(6)])

    def test_a_transaction_goes_to_the_senders_back_end(self):
        c = self.submit()
        c.send(b"EHLO client.example\r\n")
        words = c.reply()[1]
        for word in ("DSN", "REQUIRETLS", "SMTPUTF8", "8BITMIME", "CHUNKING"):
            self.assertIn(word, words)
        self.assertNotIn("XMARK", words)
        self.assertEqual(c.say(f"MAIL FROM:<{A}> SIZE=100 BODY=8BITMIME RET=HDRS ENVID=QQ1", f"RCPT TO:<{C}> NOTIFY=FAILURE ORCPT=rfc822;c@example.test",
                               "RCPT TO:<friend@elsewhere.invalid>", "DATA"), [250, 250, 250, 354])
        c.send(b"Subject: handed over\r\nBcc: x@y.example\r\n\r\nx\r\n.\r\n")
        self.assertRegex(c.reply()[1], r"^250 2\.0\.0 Queued, session ")
        edge = self.cluster.log("p1")
        session = re.search(r"INFO submission: (\S+): from=<user0001@example\.test> to=<user0003@example\.test> relay=b1 \S+ tls=TLS\S+ dsn=2\.0\.0 status=accepted",
                            edge).group(1)
        # the edge's id is in the back-end's lines
        self.assertRegex(self.cluster.log("b1"), rf"INFO submission: {session}: from=<user0001@example\.test> to=<friend@elsewhere\.invalid> relay=queue ")
        self.assertNotIn(session + ": from=", self.cluster.log("b2"))

    def test_the_header_is_completed_and_the_trace_is_whole(self):
        c = self.submit()
        self.assertEqual(c.say(f"MAIL FROM:<{A}>", f"RCPT TO:<{C}>", "DATA"), [250, 250, 354])
        c.send(b"Subject: trace\r\nBcc: x@y.example\r\n\r\nx\r\n.\r\n")
        self.assertEqual(c.reply()[0], 250)
        got = [m for m in self.inbox(C) if b"Subject: trace" in m][0]
        self.assertRegex(got, rb"(?s)^Return-Path: <user0001@example\.test>\r\nReceived: from p1\.example\.test .*by b1\.example\.test with ESMTPSA .*"
                              rb"Received: from client\.example .*by p1\.example\.test with ESMTPSA ")
        self.assertIn(b"\r\nMessage-ID: <", got)
        self.assertNotIn(b"x@y.example", got)

    def test_recipients_of_all_back_ends(self):
        """One transaction: A and C live where the sender does, B elsewhere: the queue brings it there, through the proxy."""
        c = self.submit()
        self.assertEqual(c.say(f"MAIL FROM:<{A}>", f"RCPT TO:<{B}>", f"RCPT TO:<{C}>", "DATA"), [250, 250, 250, 354])
        c.send(b"Subject: everywhere\r\n\r\nx\r\n.\r\n")
        self.assertEqual(c.reply()[0], 250)
        for user in (B, C):
            mt.wait_for(lambda: [m for m in self.inbox(user) if b"Subject: everywhere" in m], 20, f"{user} has it")
        # nobody of that name anywhere: the proxy says no, and the sender hears of it
        self.assertEqual(c.say(f"MAIL FROM:<{A}>", "RCPT TO:<nobody@example.test>", "DATA"), [250, 250, 354])
        c.send(b"Subject: lost\r\n\r\nx\r\n.\r\n")
        self.assertEqual(c.reply()[0], 250)
        notice = mt.wait_for(lambda: [m for m in self.inbox(A) if b"report-type=delivery-status" in m and b"nobody@example.test" in m], 20, "the notice")
        self.assertIn(b"5.1.1", notice[0])

    def test_success_is_told_to_who_asks(self):
        c = self.submit()
        self.assertEqual(c.say(f"MAIL FROM:<{A}> RET=HDRS ENVID=want-success", f"RCPT TO:<{C}> NOTIFY=SUCCESS", "DATA"), [250, 250, 354])
        c.send(b"Subject: tell me\r\n\r\nx\r\n.\r\n")
        self.assertEqual(c.reply()[0], 250)
        notice = mt.wait_for(lambda: [m for m in self.inbox(A) if b"want-success" in m], 20, "the notice")
        self.assertRegex(notice[0], rb"(?i)Action: delivered")

    def test_mail_in_carries_wishes_too(self):
        c = self.raw("smtp")
        self.assertEqual(c.say("EHLO mx.elsewhere.example"), 250)
        self.assertEqual(c.say(f"MAIL FROM:<{A}> ENVID=from-outside", f"RCPT TO:<{B}> NOTIFY=SUCCESS ORCPT=rfc822;b@elsewhere.example", "DATA"), [250, 250, 354])
        self.assertEqual(c.say(b"Subject: wishes\r\n\r\nx\r\n."), 250)
        notice = mt.wait_for(lambda: [m for m in self.inbox(A) if b"from-outside" in m], 20, "the notice")
        self.assertRegex(notice[0], rb"(?i)Original-Recipient: rfc822; ?b@elsewhere\.example")
        # REQUIRETLS is offered over TLS alone, and kept: the way to the back-ends is TLS
        self.assertEqual(c.say("RSET", f"MAIL FROM:<{A}> REQUIRETLS"), [250, 555])
        self.assertEqual(c.say("STARTTLS"), 220)
        c.socket = self.context().wrap_socket(c.socket)
        c.file = c.socket.makefile("rb")
        self.assertEqual(c.say("EHLO x", f"MAIL FROM:<{A}> REQUIRETLS", f"RCPT TO:<{B}>", "DATA"), [250, 250, 250, 354])
        self.assertEqual(c.say(b"Subject: by TLS\r\n\r\nx\r\n."), 250)

    def test_refusals_are_the_back_ends(self):
        c = self.submit()
        self.assertEqual(c.say(f"MAIL FROM:<{C}>", "MAIL FROM:<a@elsewhere.example>"), [553, 553])
        self.assertEqual(c.say(f"MAIL FROM:<{A}>", f"RCPT TO:<{C}> ORCPT=rfc822;a+0Ab", "RSET"), [250, 501, 250])
        # many in one session, over one connection to the back-end
        for i in range(3):
            self.assertEqual(c.say(f"MAIL FROM:<{A}>", f"RCPT TO:<{C}>", "DATA"), [250, 250, 354])
            c.send(f"Subject: row {i}\r\n\r\nx\r\n.\r\n".encode())
            self.assertEqual(c.reply()[0], 250)
        self.assertEqual(c.say("QUIT"), 221)

    def test_senders_that_were_taken_are_not_asked_about_again(self):
        """The next MAIL of the same sender goes with its first recipient; what the back-end says to it then is the recipient's answer."""
        other = "sales@example.test"
        self.cluster.ctl("b1", "account", "set", A, "--alias", other)
        c = self.submit()
        for i in range(2):
            self.assertEqual(c.say(f"MAIL FROM:<{other}>", f"RCPT TO:<{C}>", "RSET", f"MAIL FROM:<{other}>", f"RCPT TO:<{C}>", f"RCPT TO:<{A}>", "DATA"),
                             [250, 250, 250, 250, 250, 250, 354])
            self.assertEqual(c.say(f"Subject: known {i}\r\n\r\nx\r\n.".encode()), 250)
        self.cluster.ctl("b1", "account", "set", A, "--remove-alias", other)
        self.assertEqual(c.say(f"MAIL FROM:<{other}>", f"RCPT TO:<{C}>", f"RCPT TO:<{A}>", "DATA", "RSET"), [250, 553, 553, 554, 250])
        self.assertEqual(c.say(f"MAIL FROM:<{other}>", f"MAIL FROM:<{A}>", f"RCPT TO:<{C}>", "DATA"), [553, 250, 250, 354])
        self.assertEqual(c.say(b"Subject: own\r\n\r\nx\r\n."), 250)
        # nobody's sender but his own who is logged in
        d = self.submit()
        self.assertEqual(d.say(f"MAIL FROM:<{other}>"), 553)

    def test_users_without_a_mailbox(self):
        c = self.submit(GUEST)
        self.assertEqual(c.say(f"MAIL FROM:<{A}>", f"MAIL FROM:<{GUEST}>", "RCPT TO:<friend@elsewhere.invalid>", "DATA"), [553, 250, 250, 354])
        c.send(b"Subject: guest\r\n\r\nx\r\n.\r\n")
        self.assertRegex(c.reply()[1], r"^250 2\.0\.0 Queued")
        self.assertRegex(self.cluster.log("p1"), r"from=<guest@cloud\.test> to=<friend@elsewhere\.invalid> relay=b2 ")

    def test_zz_back_ends_that_are_down(self):
        open_before, guest_before, owed = self.submit(B), self.submit(GUEST), self.submit(GUEST)
        mail = f"MAIL FROM:<{GUEST}>"
        # Taken before, so that its next MAIL is answered at once, and goes with the first recipient.
        self.assertEqual(owed.say(mail, "RCPT TO:<friend@elsewhere.invalid>", "RSET", mail), [250, 250, 250, 250])
        self.cluster.kill("b2")
        mt.wait_for(lambda: not self.cluster.is_alive("b2"), 5, "b2 is dead")
        self.assertEqual(owed.say("RCPT TO:<friend@elsewhere.invalid>", "RCPT TO:<other@elsewhere.invalid>", "DATA"), [250, 250, 354])
        self.assertEqual(owed.say(b"Subject: owed\r\n\r\nx\r\n."), 250)
        self.assertRegex(self.cluster.log("p1"), r"from=<guest@cloud\.test> to=<other@elsewhere\.invalid> relay=b1 ")
        self.assertEqual(open_before.say(f"MAIL FROM:<{B}>"), 451)
        # the next of the route
        self.assertEqual(guest_before.say(f"MAIL FROM:<{GUEST}>"), 250)
        self.assertEqual(self.submit().say(f"MAIL FROM:<{A}>"), 250)
        self.cluster.kill("b1")
        mt.wait_for(lambda: not self.cluster.is_alive("b1"), 5, "b1 is dead")
        # Whether MAIL hears of it or its first recipient: it is not now.
        self.assertIn(guest_before.say("RSET", mail, "RCPT TO:<friend@elsewhere.invalid>"), ([250, 451, 503], [250, 250, 451]))


class Crowd(Base):
    @classmethod
    def setUpClass(cls):
        fd, cls.conf = tempfile.mkstemp(suffix=".conf")
        with os.fdopen(fd, "w") as f:
            f.write("loops = 1\n")
        cls.FLAGS = ["--proxies", 1, "--backends", 1, "--users", 4, "--password", PASSWORD, "--conf", cls.conf]
        super().setUpClass()

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        os.unlink(cls.conf)

    def arrived(self):
        return sum(v for k, v in self.cluster.metrics("b1").items()
                   if k.startswith("mailtier_net_connections_accepted_total") and "lmtp" in k)

    def test_sessions_that_rest_leave_room_for_mail_that_comes_in(self):
        """More submission sessions than connections to a back-end are kept (SMTP_LEG_POOL_MOST): those for all are kept nonetheless."""
        resting = []
        for i in range(66):
            c = self.raw("submissions", tls=self.context())
            self.assertEqual(c.say("EHLO client.example", "AUTH PLAIN " + base64.b64encode(f"\0{A}\0{PASSWORD}".encode()).decode()), [250, 235])
            self.assertEqual(c.say(f"MAIL FROM:<{A}>", f"RCPT TO:<{C}>", "DATA"), [250, 250, 354])
            self.assertEqual(c.say(b"Subject: one of many\r\n\r\nx\r\n."), 250)
            resting.append(c)
        before = self.arrived()
        for _ in range(6):
            c = self.raw("smtp")
            self.assertEqual(c.say("EHLO mx.example", "MAIL FROM:<x@elsewhere.example>", f"RCPT TO:<{C}>", "DATA"), [250, 250, 250, 354])
            self.assertEqual(c.say(b"Subject: mail in\r\n\r\nx\r\n."), 250)
            c.close()
        self.assertLessEqual(self.arrived() - before, 2)
        for c in resting:
            c.close()


if __name__ == "__main__":
    unittest.main()
