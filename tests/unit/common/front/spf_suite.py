#!/usr/bin/env python3
"""Serves the zones of a suite of SPF cases, for test_spf.c: spf_suite.py FILE. The file has scenarios as the openspf.org suite for RFC 7208
has them (YAML, or JSON where it ends so): description, tests {name: {helo, host, mailfrom, result}}, zonedata {name: [{TYPE: data}]}.
Prints, tab-separated, "scenario ADDRESS TEXT" and "test NAME HOST HELO MAILFROM RESULTS" for its tests, at the end "end"; serves until its
standard input ends. TIMEOUT in a zone is answered as a failure of the server."""
import json
import selectors
import socket
import struct
import sys

TYPES = {"A": 1, "CNAME": 5, "PTR": 12, "MX": 15, "TXT": 16, "AAAA": 28, "SPF": 99}


def wire_name(name):
    labels = [p.encode() for p in name.rstrip(".").split(".") if p]
    if any(len(p) > 63 for p in labels):
        raise ValueError(name)
    return b"".join(bytes([len(p)]) + p for p in labels) + b"\0"


def wire_text(text):
    parts = [text] if isinstance(text, str) else text
    out = b""
    for part in parts:
        octets = part.encode("latin-1", "replace") if all(ord(c) < 256 for c in part) else part.encode()
        for i in range(0, max(len(octets), 1), 255):
            out += bytes([len(octets[i:i + 255])]) + octets[i:i + 255]
    return out


def wire(kind, data):
    if kind in ("TXT", "SPF"):
        return wire_text(data)
    if kind == "A":
        return socket.inet_aton(data)
    if kind == "AAAA":
        return socket.inet_pton(socket.AF_INET6, data)
    if kind == "MX":
        return struct.pack(">H", data[0]) + wire_name(data[1])
    return wire_name(data)


class Zone:
    def __init__(self, zonedata):
        self.names, self.failing, self.between = {}, set(), set()
        for name, rows in zonedata.items():
            key = name.lower().rstrip(".")
            records, has_txt = [], any(isinstance(r, dict) and "TXT" in r for r in rows)
            for row in rows:
                if row == "TIMEOUT":
                    self.failing.add(key)
                    continue
                (kind, data), = row.items()
                if data == "NONE":
                    continue
                if kind == "SPF" and not has_txt:
                    kind = "TXT"
                if data == "TIMEOUT":
                    self.failing.add((key, TYPES[kind]))
                    continue
                if kind == "RCODE":
                    self.failing.add(key)
                    continue
                try:
                    records.append((TYPES[kind], wire(kind, data)))
                except (ValueError, OSError):
                    pass
            self.names[key] = records
            parts = key.split(".")
            for i in range(1, len(parts)):
                self.between.add(".".join(parts[i:]))

    def answer(self, query):
        at, labels = 12, []
        while query[at]:
            labels.append(query[at + 1:at + 1 + query[at]].decode("latin-1"))
            at += query[at] + 1
        kind = int.from_bytes(query[at + 1:at + 3], "big")
        name = ".".join(labels).lower()
        code, records = 0, []
        if name in self.names:
            records = self.names[name]
            has_failed = name in self.failing and not any(r[0] == kind for r in records)
            if has_failed or (name, kind) in self.failing:
                code, records = 2, []
            records = [r for r in records if r[0] in (kind, 5)]
        elif name not in self.between:
            code = 3
        out = query[:2] + struct.pack(">HHHHH", 0x8580 | code, 1, len(records), 0, 0) + query[12:at + 5]
        for t, data in records:
            out += b"\xc0\x0c" + struct.pack(">HHIH", t, 1, 60, len(data)) + data
        return out


def main():
    with open(sys.argv[1], encoding="utf-8") as f:
        if sys.argv[1].endswith(".json"):
            scenarios = json.load(f)
        else:
            import yaml
            scenarios = list(yaml.safe_load_all(f))
    watch = selectors.DefaultSelector()
    for s in scenarios:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(("127.0.0.1", 0))
        watch.register(sock, selectors.EVENT_READ, Zone(s["zonedata"]))
        print("scenario", "127.0.0.1:%d" % sock.getsockname()[1], s["description"], sep="\t")
        for name, t in s["tests"].items():
            results = t["result"] if isinstance(t["result"], list) else [t["result"]]
            print("test", name, t["host"], t["helo"] or "", t["mailfrom"] or "", ",".join(results), sep="\t")
    print("end", flush=True)
    watch.register(sys.stdin, selectors.EVENT_READ, None)
    while True:
        for key, _ in watch.select():
            if key.data is None:
                return
            query, sender = key.fileobj.recvfrom(4096)
            try:
                key.fileobj.sendto(key.data.answer(query), sender)
            except (IndexError, OSError):
                pass


if __name__ == "__main__":
    main()
