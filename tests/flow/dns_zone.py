"""A name server on loopback for tests: nsd with the given zones, each signed, badly signed or not signed.

    zone = DnsServer({"example.test": "mx1 A 127.0.0.1\\n@ MX 10 mx1\\n"}, signed=["example.test"])
    mt.Cluster("--conf", zone.conf_file)        # resolvers = {...}, dnssec-anchor = "..."
    zone.update("example.test", "...")          # served when it returns; programs keep what they have cached: ttl=1
    zone.stop()

zones: name -> lines of a master file (RFC 1035); $TTL, SOA and NS are added. signed: names of zones that are signed, with trust anchors
in the file `anchor`. bogus: zones whose anchor is there and whose signatures have expired. ttl: of records that bring none of their
own. recursive: unbound stands in front, as a resolver of a site (`address` is its own).

As a program, for tests in C: reads {"zones": {...}, "signed": [...], "bogus": [...]} from standard input, up to the end of a line,
prints "ready ADDRESS ANCHOR", and ends with its standard input.
"""
import glob
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import mt

PORT = 5300


def is_there():
    return all(shutil.which(p, path=os.environ.get("PATH", "") + ":/usr/sbin") for p in ("nsd", "ldns-signzone", "ldns-keygen"))


def _question(name, kind):
    """An ordinary question, as octets."""
    labels = b"".join(bytes([len(p)]) + p.encode() for p in name.split(".") if p)
    return b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00" + labels + b"\x00" + bytes([kind >> 8, kind & 255]) + b"\x00\x01"


class DnsServer:
    def __init__(self, zones, signed=(), bogus=(), ttl=60, recursive=False):
        self.zones, self.signed, self.bogus, self.ttl = dict(zones), set(signed) | set(bogus), set(bogus), ttl
        self.dir = tempfile.mkdtemp(prefix="mt-dns-")
        os.chmod(self.dir, 0o755)
        self.host = mt.fresh_host()
        self.address = f"{self.host}:{PORT}"
        self.anchor = os.path.join(self.dir, "anchors") if self.signed else None
        self.serial = int(time.time())
        self.processes = []
        self._path = {**os.environ, "PATH": os.environ.get("PATH", "") + ":/usr/sbin:/sbin"}
        try:
            self._keys()
            for name in self.zones:
                self._write(name)
            self._start_nsd()
            if recursive:
                self._start_unbound()
        except BaseException:
            self.stop()
            raise
        self.conf = f'resolvers = {{"{self.address}"}}\n' + (f'dnssec-anchor = "{self.anchor}"\n' if self.anchor else "")
        self.conf_file = os.path.join(self.dir, "dns.conf")
        with open(self.conf_file, "w") as f:
            f.write(self.conf)

    def _run(self, *command):
        done = subprocess.run(command, cwd=self.dir, env=self._path, capture_output=True, text=True, timeout=60)
        if done.returncode:
            raise AssertionError(f"{' '.join(command)}: {done.stdout}{done.stderr}")
        return done.stdout

    def _keys(self):
        self._key = {}
        for name in sorted(self.signed):
            self._key[name] = self._run("ldns-keygen", "-k", "-a", "ECDSAP256SHA256", "-r", "/dev/urandom", name).strip()
        if self.signed:
            with open(self.anchor, "w") as out:
                for name, key in self._key.items():
                    with open(os.path.join(self.dir, key + ".ds")) as f:
                        out.write(f.read())

    def _file(self, name):
        return os.path.join(self.dir, name.rstrip(".").replace("/", "_") + ".zone")

    def _write(self, name):
        text = self.zones[name]
        self.serial += 1
        head = f"$ORIGIN {name.rstrip('.')}.\n$TTL {self.ttl}\n"
        if " SOA " not in text:
            head += f"@ SOA ns.invalid. hostmaster.invalid. {self.serial} 3600 600 86400 {self.ttl}\n@ NS ns.invalid.\n"
        path = self._file(name)
        with open(path + ".new", "w") as f:
            f.write(head + text + "\n")
        if name in self.signed:
            times = ["-i", "20200101000000", "-e", "20200201000000"] if name in self.bogus else []
            self._run("ldns-signzone", "-n", *times, "-o", name, "-f", path + ".signed", path + ".new", self._key[name])
            os.replace(path + ".signed", path + ".new")
        os.replace(path + ".new", path)

    def _start(self, program, conf, log):
        with open(os.path.join(self.dir, log), "w") as out:
            self.processes.append(subprocess.Popen([shutil.which(program, path=self._path["PATH"]), "-d", "-c", conf],
                                                   cwd=self.dir, stdin=subprocess.DEVNULL, stdout=out, stderr=out))

    def _start_nsd(self):
        conf = os.path.join(self.dir, "nsd.conf")
        with open(conf, "w") as f:
            f.write(f'server:\n ip-address: {self.host}@{PORT}\n username: ""\n chroot: ""\n zonesdir: "{self.dir}"\n pidfile: ""\n'
                    f' database: ""\n xfrdfile: "{self.dir}/xfrd.state"\n zonelistfile: "{self.dir}/zone.list"\n zonefiles-check: yes\n'
                    f' server-count: 1\n logfile: "{self.dir}/nsd.log"\n rrl-ratelimit: 0\nremote-control:\n control-enable: no\n')
            for name in self.zones:
                f.write(f'zone:\n name: "{name.rstrip(".")}"\n zonefile: "{self._file(name)}"\n')
        self._start("nsd", conf, "nsd.out")
        self._wait(next(iter(self.zones)))

    def _start_unbound(self):
        self.address = f"{self.host}:{PORT + 1}"
        conf = os.path.join(self.dir, "unbound.conf")
        with open(conf, "w") as f:
            f.write(f'server:\n interface: {self.host}@{PORT + 1}\n username: ""\n chroot: ""\n pidfile: ""\n use-syslog: no\n'
                    f' directory: "{self.dir}"\n do-not-query-localhost: no\n access-control: 127.0.0.0/8 allow\n'
                    ' local-zone: "test." transparent\n local-zone: "127.in-addr.arpa." transparent\n unblock-lan-zones: yes\n'
                    ' module-config: "iterator"\n num-threads: 1\nremote-control:\n control-enable: no\n')
            for name in self.zones:
                f.write(f'stub-zone:\n name: "{name.rstrip(".")}"\n stub-addr: {self.host}@{PORT}\n')
        self._start("unbound", conf, "unbound.out")
        self._wait(next(iter(self.zones)))

    def _ask(self, address, name):
        """The octets of the answer to a question for the SOA; empty: none."""
        host, port = address.rsplit(":", 1)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.settimeout(0.2)
            try:
                s.sendto(_question(name, 6), (host, int(port)))
                return s.recv(4096)
            except OSError:
                return b""

    def _wait(self, name):
        def is_up():
            for p in self.processes:
                if p.poll() is not None:
                    raise AssertionError("the name server ended: " + self.log())
            return self._ask(self.address, name)
        mt.wait_for(is_up, 30, "the name server answers")

    def log(self):
        text = ""
        for path in glob.glob(os.path.join(self.dir, "*.log")) + glob.glob(os.path.join(self.dir, "*.out")):
            with open(path) as f:
                text += f.read()
        return text

    def update(self, name, text):
        """The zone's new lines; returns when they are served."""
        self.zones[name] = text
        self._write(name)
        self.processes[0].send_signal(signal.SIGHUP)
        want = self.serial.to_bytes(4, "big")
        mt.wait_for(lambda: want in self._ask(f"{self.host}:{PORT}", name), 20, f"the new zone {name} is served")

    def stop(self):
        for p in self.processes:
            p.terminate()
        for p in self.processes:
            try:
                p.wait(10)
            except subprocess.TimeoutExpired:
                p.kill()
                p.wait()
        self.processes = []
        shutil.rmtree(self.dir, ignore_errors=True)


def main():
    server = DnsServer(**json.loads(sys.stdin.readline()))
    try:
        # In one piece: whoever reads may do so at once, and Python may be told not to buffer.
        print(f"ready {server.address} {server.anchor or '-'}", flush=True)
        sys.stdin.read()
    finally:
        server.stop()


if __name__ == "__main__":
    main()
