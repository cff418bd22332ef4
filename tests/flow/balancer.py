"""What a load balancer says: PROXY headers of both versions (haproxy's proxy-protocol.txt), made here and not by our own writer."""
import ipaddress
import socket
import struct

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
SSL, CERT_CONN, CERT_SESS = 1, 2, 4


def line(client, server="198.51.100.7", client_port=40000, server_port=143):
    family = "TCP6" if ":" in client else "TCP4"
    return f"PROXY {family} {client} {server} {client_port} {server_port}\r\n".encode()


def tlv(kind, value):
    return struct.pack("!BH", kind, len(value)) + value


def tls(version="TLSv1.3", client=SSL, verify=0, name=None):
    inner = struct.pack("!BI", client, verify) + tlv(0x21, version.encode()) + (tlv(0x22, name.encode()) if name else b"")
    return tlv(0x20, inner)


def header(client, server="198.51.100.7", client_port=40000, server_port=143, more=b""):
    a, b = ipaddress.ip_address(client), ipaddress.ip_address(server)
    body = a.packed + b.packed + struct.pack("!HH", client_port, server_port) + more
    return SIGNATURE + struct.pack("!BBH", 0x21, 0x11 if a.version == 4 else 0x21, len(body)) + body


def local():
    return SIGNATURE + struct.pack("!BBH", 0x20, 0, 0)


class Wire:
    """A connection from a chosen address, with a header in front or none; lines after it."""

    def __init__(self, place, source, first=b"", context=None, name=None):
        self.socket = socket.create_connection(place, 20, source_address=(source, 0))
        if first:
            self.socket.sendall(first)
        if context:
            self.socket = context.wrap_socket(self.socket, server_hostname=name)
        self.stream = self.socket.makefile("rb")

    def send(self, data):
        self.socket.sendall(data)

    def line(self):
        """b"" at the end, however it came."""
        try:
            return self.stream.readline()
        except OSError:
            return b""

    def rest(self):
        try:
            return self.stream.read()
        except OSError:
            return b""

    def ask(self, text):
        """IMAP: all lines to the tagged one."""
        self.send(b"x " + text.encode() + b"\r\n")
        lines = [self.line()]
        while lines[-1] and not lines[-1].startswith(b"x "):
            lines.append(self.line())
        return lines

    def start_tls(self, context, name):
        self.stream.close()
        self.socket = context.wrap_socket(self.socket, server_hostname=name)
        self.stream = self.socket.makefile("rb")

    def close(self):
        try:
            self.stream.close()
        finally:
            self.socket.close()
