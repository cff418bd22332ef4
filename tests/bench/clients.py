"""Measures of one large mailbox that need more than a script of lines: an IMAP client that times commands and reads answers of any size
without looking into them, and a POP3 client that keeps so many RETR under way. For tests/bench/run."""
import socket
import time


class Imap:
    def __init__(self, where, user, password):
        self.socket = socket.create_connection(where, timeout=300)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.recv(4096)
        self.count = 0
        self.room = memoryview(bytearray(1 << 18))  # one for all answers: a new one for each recv(2) costs more than the octets
        self.ask(f"LOGIN {user} {password}")

    def ask(self, command):
        """Sends it, reads to its tagged OK: milliseconds. Nothing of a body can look like that: the tag is a new one each time."""
        self.count += 1
        tag = f"bench{self.count:06}".encode()
        begin = time.perf_counter()
        self.socket.sendall(tag + b" " + command.encode() + b"\r\n")
        tail, room = b"", self.room
        while True:
            n = self.socket.recv_into(room)
            if not n:
                raise RuntimeError(f"{command}: the connection ended")
            tail = bytes(room[n - 4096:n]) if n > 4096 else tail[-4096:] + bytes(room[:n])
            if tail.endswith(b"\r\n"):
                at = tail.rfind(b"\r\n", 0, -2) + 2 if b"\r\n" in tail[:-2] else 0
                if tail.startswith(tag + b" ", at):
                    break
        if not tail.startswith(tag + b" OK", at):
            raise RuntimeError(f"{command}: {tail[at:]!r}")
        return (time.perf_counter() - begin) * 1000

    def close(self):
        self.socket.close()


def retrieve_all(stream_socket, count, depth):
    """RETR 1 to count with depth of them under way: (octets, seconds). The end of a message is a line that is a lone dot."""
    return retrieve_in_turn(stream_socket, count) if depth == 1 else retrieve_ahead(stream_socket, count, depth)


def retrieve_in_turn(stream_socket, count):
    """The last octets alone tell whether a message has ended, since nothing comes behind it."""
    end, room = b"\r\n.\r\n", bytearray(1 << 16)
    commands = [b"RETR %d\r\n" % (i + 1) for i in range(count)]
    total, send, receive = 0, stream_socket.send, stream_socket.recv_into
    begin = time.perf_counter()
    for command in commands:
        send(command)
        tail = b""
        while tail != end:
            n = receive(room)
            if not n:
                raise RuntimeError("RETR: the connection ended")
            total += n
            tail = room[n - 5:n] if n >= 5 else (tail + room[:n])[-5:]
    return total, time.perf_counter() - begin


def retrieve_ahead(stream_socket, count, depth):
    end = b"\r\n.\r\n"
    total, sent, done, tail = 0, 0, 0, b""
    begin = time.perf_counter()
    while sent < min(depth, count):
        sent += 1
        stream_socket.sendall(b"RETR %d\r\n" % sent)
    while done < count:
        data = stream_socket.recv(1 << 18)
        if not data:
            raise RuntimeError("RETR: the connection ended")
        total += len(data)
        ended = (tail + data).count(end)
        tail = (tail + data[-4:])[-4:]
        done += ended
        for _ in range(min(ended, count - sent)):
            sent += 1
            stream_socket.sendall(b"RETR %d\r\n" % sent)
    return total, time.perf_counter() - begin
