"""A remote mail server that records what it gets and does as a recipient's local part says: bad… 550, later… 451, drop… closes after the body."""
import os
import socket
import socketserver
import threading


class Message:
    def __init__(self, sender, recipients, data):
        self.sender = sender          # the rest of MAIL FROM:, as it was written
        self.recipients = recipients  # the same of each RCPT TO:
        self.data = data

    def to(self):
        return [r.partition("<")[2].partition(">")[0] for r in self.recipients]


class _Handler(socketserver.StreamRequestHandler):
    def say(self, text):
        self.wfile.write(text.encode() + b"\r\n")

    def finish_message(self, data):
        sink = self.server.sink
        if any("<drop" in r for r in self.rcpts):
            raise ConnectionError
        message = Message(self.sender, self.rcpts, data)
        with sink.changed:
            sink.messages.append(message)
            sink.changed.notify_all()
        if sink.file:
            with sink.lock:
                os.write(sink.file, sink.note(message).encode())
        self.say("250 2.0.0 Ok")
        self.sender, self.rcpts = None, []

    def handle(self):
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sender, self.rcpts = None, []
        with self.server.sink.lock:
            self.server.sink.connections += 1
        try:
            self.say("220 sink.test ESMTP")
            while True:
                line = self.rfile.readline()
                if not line:
                    return
                self.command(line.decode("utf-8", "surrogateescape").rstrip("\r\n"))
        except (ConnectionError, OSError, ValueError):
            pass

    def command(self, line):
        verb = line.upper()
        with self.server.sink.lock:
            self.server.sink.commands.append(line)
        if verb.startswith("EHLO"):
            self.say("250-sink.test")
            for word in self.server.sink.words:
                self.say(f"250-{word}")
            self.say("250 SIZE 50000000")
        elif verb.startswith("MAIL FROM:"):
            self.sender = line[10:]
            self.say("250 2.1.0 Ok")
        elif verb.startswith("RCPT TO:"):
            rcpt = line[8:]
            if "<bad" in rcpt:
                self.say("550 5.1.1 No such\tuser \x1b[2J here")
            elif "<later" in rcpt and not self.server.sink.is_kind:
                self.say("451 4.7.1 Come back later")
            else:
                self.rcpts.append(rcpt)
                self.say("250 2.1.5 Ok")
        elif verb == "DATA":
            if not self.rcpts:
                self.say("554 5.5.1 No valid recipients")
                return
            self.say("354 Go on")
            data = b""
            while True:
                got = self.rfile.readline()
                if not got:
                    raise ConnectionError
                if got == b".\r\n":
                    break
                data += got[1:] if got.startswith(b".") else got
            self.finish_message(data)
        elif verb.startswith("BDAT"):
            parts = verb.split()
            self.chunks = getattr(self, "chunks", b"") + self.rfile.read(int(parts[1]))
            if len(parts) > 2:
                data, self.chunks = self.chunks, b""
                self.finish_message(data)
            else:
                self.say("250 2.0.0 Go on")
        elif verb == "RSET":
            self.sender, self.rcpts = None, []
            self.say("250 2.0.0 Ok")
        elif verb == "QUIT":
            self.say("221 2.0.0 Bye")
            raise ConnectionError
        else:
            self.say("250 2.0.0 Ok")


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 200


class Sink:
    """words: of its EHLO. file: a descriptor to which a line by note() is written before each 250."""

    def __init__(self, words=("PIPELINING", "8BITMIME", "ENHANCEDSTATUSCODES"), host="127.0.0.1", port=0, file=None, note=None):
        self.words, self.file, self.note = words, file, note
        self.messages, self.commands, self.connections = [], [], 0
        self.is_kind = False  # takes mail for later… now
        self.lock = threading.Lock()
        self.changed = threading.Condition(self.lock if file is None else threading.Lock())
        self.server = _Server((host, port), _Handler)
        self.server.sink = self
        self.host, self.port = self.server.server_address
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def to(self, address):
        return [m for m in list(self.messages) if address in m.to()]

    def stop(self):
        self.server.shutdown()
        self.server.server_close()
