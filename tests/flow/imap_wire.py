"""An IMAP client of the tests' own: raw sockets, responses as nested Python values, nothing swallowed and nothing guessed."""
import re
import socket
import ssl
import time
import zlib


class Closed(AssertionError):
    pass


class Parser:
    """One response: atoms and quoted strings as bytes, NIL as None, lists as lists, literals as bytes."""
    ATOM = re.compile(rb"[^\s()\"{\[]+(?:\[[^\]]*\](?:<\d+>)?)?|\[[^\]]*\]")

    def __init__(self, data):
        self.data, self.at = data, 0

    def value(self):
        d = self.data
        if d[self.at:self.at + 1] == b"(":
            self.at += 1
            out = []
            while d[self.at:self.at + 1] != b")":
                out.append(self.value())
                if d[self.at:self.at + 1] == b" ":
                    self.at += 1
            self.at += 1
            return out
        if d[self.at:self.at + 1] == b'"':
            m = re.compile(rb'"((?:[^"\\\r\n]|\\["\\])*)"').match(d, self.at)
            if not m:
                raise AssertionError(f"bad string at {d[self.at:self.at + 60]!r}")
            self.at = m.end()
            return re.sub(rb"\\(.)", rb"\1", m[1])
        m = re.compile(rb"\{(\d+)\}\r\n").match(d, self.at)
        if m:
            self.at = m.end() + int(m[1])
            return d[m.end():self.at]
        m = self.ATOM.match(d, self.at)
        if not m:
            raise AssertionError(f"bad value at {d[self.at:self.at + 60]!r}")
        self.at = m.end()
        return None if m[0].upper() == b"NIL" else m[0]


def parse_values(data):
    """All values of a text, separated by blanks."""
    p, out = Parser(data), []
    while p.at < len(data):
        out.append(p.value())
        if p.at < len(data):
            if data[p.at:p.at + 1] != b" ":
                raise AssertionError(f"no blank at {data[p.at:p.at + 60]!r}")
            p.at += 1
    return out


def fetch_items(response):
    """(number, {NAME: value}) of "* n FETCH (...)"."""
    m = re.match(rb"\* (\d+) FETCH (?=\()", response)
    values = parse_values(response[m.end():-2])[0]
    return int(m[1]), {values[i].upper(): values[i + 1] for i in range(0, len(values), 2)}


class Wire:
    def __init__(self, where, tls=None, timeout=30, source=None):
        sock = socket.create_connection(where, timeout=timeout, source_address=(source, 0) if source else None)
        self.sock = tls.wrap_socket(sock) if tls else sock
        self.buffer = b""
        self.n = 0
        self.greeting = self.response()

    def send(self, data):
        self.sock.sendall(data)

    def _more(self, end):
        if end is not None:
            left = end - time.monotonic()
            if left <= 0:
                raise TimeoutError
            self.sock.settimeout(left)
        try:
            data = self.sock.recv(65536)
        except (TimeoutError, ssl.SSLWantReadError):
            raise TimeoutError from None
        finally:
            if end is not None:
                self.sock.settimeout(30)
        if not data:
            raise Closed(f"closed; left {self.buffer[-500:]!r}")
        self.buffer += data

    def response(self, seconds=None):
        """One whole response with its literals; TimeoutError keeps what has come."""
        end = time.monotonic() + seconds if seconds is not None else None
        at = 0
        while True:
            eol = self.buffer.find(b"\r\n", at)
            if eol < 0:
                self._more(end)
                continue
            m = re.search(rb"\{(\d+)\}$", self.buffer[at:eol])
            at = eol + 2
            if not m:
                out, self.buffer = self.buffer[:at], self.buffer[at:]
                return out
            at += int(m[1])
            while len(self.buffer) < at:
                self._more(end)

    def ask(self, command):
        """(untagged responses, tagged answer without its tag). Literals of the command are non-synchronising ones."""
        self.n += 1
        tag = b"t%d" % self.n
        self.send(tag + b" " + command + b"\r\n")
        return self.answer(tag)

    def answer(self, tag):
        out = []
        while True:
            line = self.response()
            if line.startswith(tag + b" "):
                return out, line[len(tag) + 1:]
            out.append(line)

    def close(self):
        self.sock.close()


class Deflated:
    """A socket behind which both sides compress; flushes after each send, as clients do."""

    def __init__(self, sock):
        self.sock = sock
        self.out = zlib.compressobj(6, zlib.DEFLATED, -15)
        self.back = zlib.decompressobj(-15)
        self.wire_in = self.wire_out = 0

    def sendall(self, data):
        packed = self.out.compress(data) + self.out.flush(zlib.Z_SYNC_FLUSH)
        self.wire_out += len(packed)
        self.sock.sendall(packed)

    def recv(self, most):
        while True:
            packed = self.sock.recv(most)
            self.wire_in += len(packed)
            data = self.back.decompress(packed)
            if data or not packed:
                return data

    def settimeout(self, seconds):
        self.sock.settimeout(seconds)

    def close(self):
        self.sock.close()
