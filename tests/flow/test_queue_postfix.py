"""Postfix as the server on the other side: what a back-end's queue brings there arrives whole, by TLS where it is offered; what Postfix refuses comes back;
who asked for a success is told by Postfix, which does DSN, and not by us."""
import email
import email.policy
import os
import subprocess
import tempfile
import unittest

import mt
import peers
import test_queue

FLOW_LONG = True


class QueueToPostfix(test_queue.Queue):
    USERS = 2

    @classmethod
    def setUpClass(cls):
        cls.dir = tempfile.mkdtemp(prefix="mt-queue-postfix-")
        cls.addClassCleanup(subprocess.run, ["rm", "-rf", cls.dir])
        os.chmod(cls.dir, 0o755)
        certs = peers.Certificates(cls.dir)
        certs.make("server", "DNS:postfix.example.test")
        cls.peer = peers.Postfix((certs.path("server.pem"), certs.path("server.key")))
        cls.addClassCleanup(cls.peer.stop)
        cls.ROUTE = (f"route postfix {{\n\tdomains = {{\"example.test\", \"refused.test\"}}\n\thosts = {{\"[{cls.peer.host}]:{cls.peer.ports['smtp']}\"}}\n"
                     "\ttls = encrypt\n}\nsubmission {\n\tcluster-domains = {\"example.test\"}\n}\n")
        super().setUpClass()

    def test_it_arrives_whole(self):
        body = "one\r\n.two\r\n..three\r\n" + "x" * 998 + "\r\n" + "gr\u00fc\u00dfe\r\n" * 20000
        message = ("Subject: whole\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n" + body).encode()
        self.submit(1, ["nobody.here@example.test"], message, ["BODY=8BITMIME"])
        mt.wait_for(lambda: [m for m in self.peer.messages() if "Subject: whole" in m], 30, f"the message\n{self.peer.log()}")
        text = next(m for m in self.peer.messages() if "Subject: whole" in m)
        self.assertTrue(text.endswith(body.replace("\r\n", "\n")), text[:1000])
        self.assertIn("by postfix.example.test (Postfix) with ESMTPS id", text[:1000])
        self.wait_empty()

    def test_a_refusal_of_postfix_comes_back(self):
        self.submit(2, ["someone@refused.test"], "Subject: back\r\n\r\nx\r\n")
        m = self.wait_inbox(2, 1)[0]
        status = m.get_payload(1).get_payload()[1]
        self.assertEqual((status["Action"], status["Status"]), ("failed", "5.7.1"))
        self.assertIn("Relay access denied", status["Diagnostic-Code"])
        self.assertEqual(email.message_from_string(m.get_payload(2).as_string(), policy=email.policy.default).get_payload(0)["Subject"], "back")

    def test_who_asks_for_success_is_told_by_postfix(self):
        self.submit(1, ["told@example.test"], "Subject: told\r\n\r\nx\r\n", ["ENVID=abc"], ["NOTIFY=SUCCESS"])
        mt.wait_for(lambda: [m for m in self.peer.messages() if "Subject: told" in m], 30, "the message")
        # Postfix writes one to our user, and as it takes his domain for its own it lies there.
        mt.wait_for(lambda: [m for m in self.peer.messages() if "Original-Envelope-Id: abc" in m], 30, f"its notice\n{self.peer.log()}")
        self.wait_empty()
        self.assertEqual(self.inbox(1), [])


# The tests of the class below it are run where they belong.
for name in [n for n in dir(test_queue.Queue) if n.startswith("test_")]:
    setattr(QueueToPostfix, name, None)
del name

if __name__ == "__main__":
    unittest.main()
