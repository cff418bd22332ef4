"""Mail to back-ends of other makers: scripted LMTP and SMTP servers behind the proxy. How bodies look on that wire, how answers of several back-ends
become one, and how legs end."""
import os
import socket
import tempfile
import threading
import unittest

import mt


class Peer:
    """A scripted server. answers: what it says to RCPT, DATA, the end; None: it closes. Keeps what it was sent."""

    def __init__(self, host, is_lmtp, words=()):
        self.is_lmtp, self.words = is_lmtp, words
        self.listener = socket.create_server((host, 0))
        self.port = self.listener.getsockname()[1]
        self.lock = threading.Lock()
        self.script()
        threading.Thread(target=self.serve, daemon=True).start()

    def script(self, rcpt="250 2.1.5 fine", data="354 go", end="250 2.0.0 taken"):
        self.rcpt, self.data, self.end = rcpt, data, end
        self.log, self.bodies = [], []

    def serve(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.session, args=(client,), daemon=True).start()

    def session(self, client):
        f = client.makefile("rb")
        say = lambda text: client.sendall(text.encode() + b"\r\n")
        say("220 peer")
        taken = 0
        while True:
            try:
                line = f.readline()
            except OSError:
                line = b""
            self.log.append(line.decode().rstrip("\r\n") if line else "<end>")
            verb = line[:4].upper()
            if not line:
                break
            if verb in (b"LHLO", b"EHLO"):
                if (verb == b"LHLO") != self.is_lmtp:
                    say("500 not this")
                    continue
                for word in ("peer",) + tuple(self.words):
                    say("250-" + word)
                say("250 SIZE")
            elif verb == b"MAIL":
                taken = 0
                say("250 2.1.0 fine")
            elif verb == b"RCPT":
                if self.rcpt is None:
                    break
                taken += self.rcpt[0] == "2"
                say(self.rcpt)
            elif verb == b"DATA":
                say(self.data)
                if self.data[:3] != "354":
                    continue
                body = []
                while True:
                    piece = f.readline()
                    if not piece or piece == b".\r\n":
                        break
                    body.append(piece)
                self.bodies.append(b"".join(body))
                if self.end is None:
                    break
                for _ in range(taken if self.is_lmtp else 1):
                    say(self.end)
            elif verb == b"QUIT":
                say("221 bye")
                break
            else:
                say("250 fine")
        client.close()


class Foreign(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.dir = tempfile.mkdtemp(prefix="mt-foreign-")
        host = mt.fresh_host()
        cls.lmtp = Peer(host, True, ("PIPELINING", "8BITMIME"))
        cls.smtp = Peer(host, False)
        conf = "smtp {\n\tdomains = {foreign.example}\n}\n"
        for name, peer in (("f1", cls.lmtp), ("f2", cls.smtp)):
            conf += (f"backend {name} {{\n\thost = \"{host}\"\n\tlmtp-port = {peer.port}\n\ttls = none\n\ttrust = replay\n\tprobe-interval = 0\n"
                     f"\tdelivery = {'lmtp' if peer.is_lmtp else 'smtp'}\n}}\n")
        with open(os.path.join(cls.dir, "conf"), "w") as f:
            f.write(conf)
        with open(os.path.join(cls.dir, "map"), "w") as f:
            f.write("a@foreign.example f1\nb@foreign.example f1\nc@foreign.example f2 account=real@foreign.example\nd@foreign.example - send-only\n")
        cls.cluster = mt.Cluster("--proxies", 1, "--backends", 0, "--map", os.path.join(cls.dir, "map"), "--conf", os.path.join(cls.dir, "conf"))

    @classmethod
    def tearDownClass(cls):
        cls.cluster.stop()
        cls.lmtp.listener.close()
        cls.smtp.listener.close()

    def setUp(self):
        self.lmtp.script()
        self.smtp.script()

    def send(self, recipients, body=b"Subject: x\r\n\r\ny\r\n"):
        """Codes of RCPT, and the whole last reply."""
        with socket.create_connection(self.cluster.at("p1", "smtp"), 30) as s:
            f = s.makefile("rb")

            def say(data):
                s.sendall(data + b"\r\n")
                while True:
                    line = f.readline()
                    if line[3:4] != b"-":
                        return line.decode().rstrip()
            f.readline()
            say(b"EHLO x")
            say(b"MAIL FROM:<s@example.net>")
            codes = [int(say(b"RCPT TO:<" + r.encode() + b"@foreign.example>")[:3]) for r in recipients]
            last = say(b"DATA")
            if last.startswith("354"):
                last = say(body + b".")
            say(b"QUIT")
            return codes, last

    def test_bare_newlines_never_leave(self):
        body = b"Subject: x\r\n\r\na\rb\nc\r.d\n.e\r\n..f\r\n"
        self.assertEqual(self.send("ac", body)[1][:3], "250")
        for peer in (self.lmtp, self.smtp):
            sent = peer.bodies[0]
            self.assertTrue(sent.startswith(b"Received: from x "), sent)
            self.assertTrue(sent.endswith(b"Subject: x\r\n\r\na\r\nb\r\nc\r\n..d\r\n..e\r\n..f\r\n"), sent)
            self.assertEqual(sent.count(b"\r"), sent.count(b"\r\n"))
            self.assertEqual(sent.count(b"\n"), sent.count(b"\r\n"))

    def test_dialogue(self):
        self.assertEqual(self.send("abcd")[0], [250, 250, 250, 550])
        self.assertIn("RCPT TO:<real@foreign.example>", self.smtp.log)
        self.assertNotIn("XMARK", " ".join(self.lmtp.log + self.smtp.log))
        self.assertNotIn("XCLIENT", " ".join(self.lmtp.log + self.smtp.log))

    def test_all_yes(self):
        self.assertRegex(self.send("abc")[1], "^250 2.0.0 ")

    def test_all_no_is_the_first_no(self):
        self.lmtp.script(end="554 5.6.0 not this one")
        self.smtp.script(end="550 5.7.1 not this one either")
        self.assertRegex(self.send("abc")[1], "^55[04] 5.[67].[01] not this one")

    def test_a_mixture_is_later(self):
        self.lmtp.script(end="554 5.6.0 no")
        self.assertEqual(self.send("abc")[1][:3], "451")
        self.lmtp.script(end="452 4.2.2 full")
        self.assertEqual(self.send("abc")[1][:3], "451")
        self.assertNotIn("QUIT", self.lmtp.log)  # cut, not ended in order

    def test_a_lost_leg_is_later(self):
        self.lmtp.script(end=None)
        self.assertEqual(self.send("abc")[1][:3], "451")
        self.smtp.script(rcpt=None)
        self.assertEqual(self.send("ac")[0], [250, 451])

    def test_refusals_at_rcpt_and_data(self):
        self.lmtp.script(rcpt="550 5.1.1 unknown here\x07")
        codes, last = self.send("ac")
        self.assertEqual((codes, last[:3]), ([550, 250], "250"))
        self.smtp.script(data="451 4.3.0 busy")
        self.lmtp.script()
        self.assertEqual(self.send("ac")[1][:3], "451")
        self.smtp.script(data="554 5.5.0 never")
        self.assertRegex(self.send("c")[1], "^554 5.5.0 never")


if __name__ == "__main__":
    unittest.main()
