"""What filters answer that libmilter does not say, and what it means for the session: a filter that is played here, before a back-end's own SMTP."""
import re
import socket
import struct
import tempfile
import threading
import unittest

import mt
from backend_case import BackendCase
from test_smtp import Raw

EDITS = 200  # of a MiB each


class Filter:
    """The filter's end of the protocol: 'y' with an answer where a step's text has "codeNNN", '4' (shutdown) where it has "goaway"."""

    def __init__(self, path):
        self.steps = []
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen(50)
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                conn = self.listener.accept()[0]
            except OSError:
                return
            threading.Thread(target=self.serve, args=(conn,), daemon=True).start()

    def serve(self, conn):
        wants = b""
        with conn, conn.makefile("rb") as f:
            while len(head := f.read(4)) == 4:
                packet = f.read(struct.unpack("!I", head)[0])
                kind, text = packet[:1], packet[1:]
                self.steps.append(kind.decode())
                if kind in b"DAQ":
                    continue
                if kind == b"L":
                    wants += text
                try:
                    conn.sendall(b"".join(struct.pack("!I", len(a)) + a for a in self.answers(kind, text, wants)))
                except OSError:
                    return

    def answers(self, kind, text, wants):
        code = re.search(rb"code(\d\d\d)", text if kind != b"E" else wants)
        if kind == b"O":
            yield b"O" + struct.pack("!III", 6, 0x1ff, 0)
        elif b"192.0.2.66" in text:
            yield b"y550 5.7.1 nobody from there\0"
        elif code and kind != b"L":
            yield b"y" + code[1] + b" 4.7.1 says the filter\0"
        elif b"goaway" in text and kind != b"L":
            yield b"4"
        else:
            if kind == b"E" and b"flood" in wants:
                yield from (b"hX-Flood\0" + b"x" * (1024 * 1024 - 16) + b"\0" for _ in range(EDITS))
            yield b"c"


class Answers(BackendCase):
    TRUSTED = '"127.0.0.9"'
    USERS = 1

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory(prefix="mt-milter-")
        cls.addClassCleanup(cls.folder.cleanup)
        path = f"{cls.folder.name}/filter"
        cls.filter = Filter(path)
        cls.addClassCleanup(cls.filter.listener.close)
        cls.CONF = f'milter played {{ address = "{path}" }}\nservice smtp {{ milters = {{played}} }}\n'
        super().setUpClass()

    def raw(self, source=None):
        c = Raw(self.cluster.at("b1", "smtp"), source=source)
        self.addCleanup(c.close)
        return c

    def ends(self, c, *commands):
        """The codes; the last one is 421 and the connection is closed behind it."""
        codes = c.say(*commands)
        self.assertEqual(c.file.read(1), b"")
        return codes

    def test_421_ends_the_session(self):
        me = f"RCPT TO:<{self.user(1)}>"
        for word in ("code421", "goaway"):
            with self.subTest(word):
                self.assertEqual(self.ends(self.raw(), f"EHLO {word}.example"), 421)
                self.assertEqual(self.ends(self.raw(), "EHLO x", f"NONSENSE {word}"), [250, 421])
                self.assertEqual(self.ends(self.raw(), "EHLO x", f"MAIL FROM:<{word}@y.example>"), [250, 421])
                self.assertEqual(self.ends(self.raw(), "EHLO x", "MAIL FROM:<x@y.example>", me, f"RCPT TO:<{word}@example.test>"), [250, 250, 250, 421])
        c = self.raw()
        self.assertEqual(c.say("EHLO x", "MAIL FROM:<x@y.example>", me, "DATA"), [250, 250, 250, 354])
        self.assertEqual(self.ends(c, b"X-Do: code421\r\n\r\nx\r\n."), 421)
        # other answers do not
        c = self.raw()
        self.assertEqual(c.say("EHLO x", "MAIL FROM:<code450@y.example>", "MAIL FROM:<x@y.example>", "RCPT TO:<code551@example.test>", me),
                         [250, 450, 250, 551, 250])

    def test_a_refused_connection_stays_refused(self):
        """Its proxy has told of the client after the banner: the filter hears of him with the next command, and refuses him, not that command."""
        c = self.raw("127.0.0.9")
        self.assertEqual(c.say("XCLIENT ADDR=192.0.2.66", "EHLO x", "EHLO x", "HELO x", "NONSENSE"), [220, 550, 550, 550, 550])
        self.assertEqual(c.say("XCLIENT ADDR=192.0.2.67", "EHLO x", "MAIL FROM:<x@y.example>"), [220, 250, 250])
        # He has greeted before: MAIL is refused, however often.
        self.assertEqual(c.say("RSET", "XCLIENT ADDR=192.0.2.66", "MAIL FROM:<x@y.example>", "MAIL FROM:<x@y.example>"), [250, 220, 550, 550])
        # The same of a greeting; the next client is another matter.
        c = self.raw("127.0.0.9")
        self.assertEqual(c.say("EHLO x", "XCLIENT ADDR=192.0.2.67 HELO=code550.example", "MAIL FROM:<x@y.example>", "MAIL FROM:<x@y.example>"),
                         [250, 220, 550, 550])
        self.assertEqual(c.say("XCLIENT ADDR=192.0.2.67 HELO=fine.example", "MAIL FROM:<x@y.example>"), [220, 250])

    def peak(self):
        with open(f"/proc/{self.cluster.pid('b1')}/status") as f:
            return int(re.search(r"VmHWM:\s+(\d+)", f.read())[1])

    def test_security_12_edits_are_bounded_as_they_come(self):
        before = self.peak()
        c = self.raw()
        self.assertEqual(c.say("EHLO x", "MAIL FROM:<x@y.example>", f"RCPT TO:<{self.user(1)}>", "DATA"), [250, 250, 250, 354])
        self.assertEqual(c.say(b"X-Do: flood\r\n\r\nx\r\n."), 451)
        if mt.VARIANT == "release":  # others keep what is freed
            self.assertLess(self.peak() - before, EDITS * 1024 // 2)


if __name__ == "__main__":
    unittest.main()
