"""Writes a small MaxMind database (format 2.0: a binary tree of 24-bit records, then data, then metadata) of IPv4 addresses to
countries: write(path, {"192.0.2.1": "DE"}). As a program: PATH ADDRESS=COUNTRY... A test's own, after the published
specification."""
import ipaddress
import os
import sys


def _control(kind, size):
    assert size < 285
    low = size if size < 29 else 29
    head = bytes([kind << 5 | low]) if kind <= 7 else bytes([low, kind - 7])
    return head + (bytes([size - 29]) if size >= 29 else b"")


def _encode(value):
    if isinstance(value, str):
        raw = value.encode()
        return _control(2, len(raw)) + raw
    if isinstance(value, dict):
        return _control(7, len(value)) + b"".join(_encode(k) + _encode(v) for k, v in value.items())
    if isinstance(value, list):
        return _control(11, len(value)) + b"".join(_encode(v) for v in value)
    kind, number = value  # ("u16", 5)
    raw = number.to_bytes(8, "big").lstrip(b"\0")
    return _control({"u16": 5, "u32": 6, "u64": 9}[kind], len(raw)) + raw


def write(path, countries):
    nodes, data, leaves = [[None, None]], b"", []
    for text, code in countries.items():
        bits = f"{int(ipaddress.IPv4Address(text)):032b}"
        at = 0
        for bit in bits[:-1]:
            if nodes[at][int(bit)] is None:
                nodes.append([None, None])
                nodes[at][int(bit)] = len(nodes) - 1
            at = nodes[at][int(bit)]
        nodes[at][int(bits[-1])] = ("data", len(data))
        data += _encode({"country": {"iso_code": code}})
    tree = b""
    for node in nodes:
        for record in node:
            number = len(nodes) if record is None else record if isinstance(record, int) else len(nodes) + 16 + record[1]
            tree += number.to_bytes(3, "big")
    about = {"node_count": ("u32", len(nodes)), "record_size": ("u16", 24), "ip_version": ("u16", 4), "database_type": "Test-Country",
             "languages": ["en"], "binary_format_major_version": ("u16", 2), "binary_format_minor_version": ("u16", 0),
             "build_epoch": ("u64", 1700000000), "description": {"en": "test"}}
    with open(path + ".new", "wb") as f:
        f.write(tree + b"\0" * 16 + data + b"\xab\xcd\xefMaxMind.com" + _encode(about))
    os.replace(path + ".new", path)


if __name__ == "__main__":
    write(sys.argv[1], dict(word.split("=") for word in sys.argv[2:]))
