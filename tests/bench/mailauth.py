"""What checking who sent a message costs: 3,000 messages that this signs (half RSA-2048, half Ed25519, one in ten broken), keys and
policies in a zone of its own. Ours: DKIM, ARC and DMARC of each, by the code of the proxy's stage (bench_mail_auth), and the same with SPF before it, its
checker's time included. The peers, each through its milter, processor time of its process: opendkim, which does DKIM alone, and rspamd with DKIM,
SPF and DMARC and nothing else. All ask the same nsd.
"""
import os
import re
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.join(HERE, "..", "..")
sys.path[:0] = [HERE, os.path.join(HERE, "..", "flow")]
import dns_zone  # noqa: E402
import mt  # noqa: E402
from measure import cpu_seconds  # noqa: E402

PROGRAM = os.path.join(ROOT, "build", "bench", "common", "front", "bench_mail_auth")
DOMAIN = "example.test"
CLIENT = "192.0.2.1"
OPENDKIM_MOST = 600  # messages: it takes its time, asleep


def make_messages(folder, count):
    """Files; the broken ones are every tenth."""
    paths = []
    for i in range(count):
        body = "".join(f"Line {k} of message {i}, which says  nothing of any use to anybody.\r\n" for k in range(55))
        text = (f"Received: from a.example.net by b.example.test with ESMTP id {i}; Fri, 20 Nov 2026 12:00:00 +0000\r\n"
                f"From: Alice <alice@{DOMAIN}>\r\nTo: Bob <bob@example.org>\r\nSubject: Message {i}\r\n"
                f"Date: Fri, 20 Nov 2026 12:00:00 +0000\r\nMessage-ID: <{i}@{DOMAIN}>\r\nMIME-Version: 1.0\r\n"
                f"Content-Type: text/plain\r\n\r\n{body}")
        path = os.path.join(folder, f"{i:05}.eml")
        with open(path, "w", newline="") as f:
            f.write(text)
        paths.append(path)
    return paths


def run_program(paths, *words):
    done = subprocess.run([PROGRAM, *words], input="\n".join(paths) + "\n", capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return done.stdout


def sign_all(folder, paths):
    """Every second by RSA-2048, the others by Ed25519; the keys' records, for the zone "test"."""
    records = ""
    for name, algorithm, part in (("rsa", ["RSA", "-pkeyopt", "rsa_keygen_bits:2048"], paths[0::2]), ("ed", ["ED25519"], paths[1::2])):
        key = os.path.join(folder, name + ".pem")
        subprocess.run(["openssl", "genpkey", "-algorithm", *algorithm, "-out", key], check=True, stderr=subprocess.DEVNULL)
        der = subprocess.run(["openssl", "pkey", "-in", key, "-pubout", "-outform", "DER"], capture_output=True, check=True).stdout
        public = subprocess.run(["base64", "-w0"], input=der[-32:] if name == "ed" else der, capture_output=True, check=True).stdout.decode()
        text = f"v=DKIM1; k={'ed25519' if name == 'ed' else 'rsa'}; p={public}"
        records += f"{name}._domainkey.example TXT " + " ".join(f'"{text[i:i + 200]}"' for i in range(0, len(text), 200)) + "\n"
        run_program(part, "sign", key, name, DOMAIN)
    return records


def break_some(paths):
    for path in paths[::10]:
        with open(path, "rb+") as f:
            text = f.read()
            f.seek(text.index(b"nothing of any use"))
            f.write(b"N")


class Milter:
    """A mail server's side of the milter protocol, version 6, as far as opendkim wants it."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), 20)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.file = self.socket.makefile("rb")
        self._send(b"O", struct.pack("!III", 6, 0x1ff, 0))
        self.steps = struct.unpack("!III", self._read()[1][:12])[2]
        self._tell(b"C", b"client.example\0" + b"4" + struct.pack("!H", 25) + b"192.0.2.1\0", 0x1, 0x1000)
        self._tell(b"H", b"client.example\0", 0x2, 0x2000)

    def _send(self, command, data=b""):
        self.socket.sendall(struct.pack("!I", len(data) + 1) + command + data)

    def _read(self):
        size = struct.unpack("!I", self.file.read(4))[0]
        data = self.file.read(size)
        return data[:1], data[1:]

    def _tell(self, command, data, no_step, no_reply):
        """Sends it unless they do not want it, and reads the answer unless there is none."""
        if self.steps & no_step:
            return
        self._send(command, data)
        if not self.steps & no_reply:
            kind, _ = self._read()
            if kind not in (b"c", b"a"):
                raise RuntimeError(f"the milter says {kind} to {command}")

    def check(self, text):
        """The Authentication-Results that it wants to add."""
        head, body = text.split(b"\r\n\r\n", 1)
        self._tell(b"M", b"<alice@example.test>\0", 0x4, 0x4000)
        self._tell(b"R", b"<bob@example.org>\0", 0x8, 0x8000)
        self._tell(b"T", b"", 0x200, 0x10000)
        for field in re.split(rb"\r\n(?![ \t])", head):
            name, value = field.split(b":", 1)
            self._tell(b"L", name + b"\0" + value.replace(b"\r\n", b"\n").lstrip(b" ") + b"\0", 0x20, 0x80)
        self._tell(b"N", b"", 0x40, 0x40000)
        for at in range(0, len(body), 65535):
            self._tell(b"B", body[at:at + 65535], 0x10, 0x80000)
        self._send(b"E")
        results = b""
        while True:
            kind, data = self._read()
            if kind in (b"h", b"i") and b"Authentication-Results" in data:
                results += data
            if kind in (b"a", b"c", b"t", b"r", b"y", b"d"):
                break
        return results

    def stop(self):
        self._send(b"Q")
        self.socket.close()


def by_milter(command, port, paths):
    """(processor seconds, DKIM passed, all passed) of a program that listens as a milter."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 20
        while True:
            try:
                milter = Milter(port)
                break
            except OSError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.05)
        with open(paths[0], "rb") as f:
            milter.check(f.read())  # what it does once
        before = cpu_seconds([process.pid])
        dkim = every = 0
        for path in paths:
            with open(path, "rb") as f:
                results = milter.check(f.read())
            dkim += b"dkim=pass" in results
            every += all(word in results for word in (b"dkim=pass", b"spf=pass", b"dmarc=pass"))
        spent = cpu_seconds([process.pid]) - before
        milter.stop()
        return spent, dkim, every
    finally:
        process.terminate()
        process.wait(20)


def find(name):
    return shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin")


def opendkim(folder, zone, paths):
    """(processor seconds, passed), or None where it is not installed."""
    if not find("opendkim"):
        return None
    host, port = zone.address.split(":")
    listen = mt.fresh_port()
    with open(os.path.join(folder, "resolver.conf"), "w") as f:
        f.write(f'server:\n\tdo-not-query-localhost: no\n\tlocal-zone: "test." transparent\nforward-zone:\n\tname: "."\n\tforward-addr: {host}@{port}\n')
    conf = os.path.join(folder, "opendkim.conf")
    with open(conf, "w") as f:
        f.write(f"Mode v\nSyslog no\nSocket inet:{listen}@127.0.0.1\nResolverConfiguration {folder}/resolver.conf\nAlwaysAddARHeader yes\n")
    return by_milter([find("opendkim"), "-f", "-x", conf], listen, paths)[:2]


def rspamd(folder, zone, paths):
    """(processor seconds, passed by DKIM, SPF and DMARC), or None where it is not installed."""
    plugins = "/usr/share/rspamd/plugins"
    if not find("rspamd") or not os.path.exists(plugins):
        return None
    listen = mt.fresh_port()
    for name, text in (("tld", "com\nnet\norg\ntest\nexample\n"), ("rspamd.lua", 'require "global_functions" ()\nrspamd_maps = {}\n')):
        with open(os.path.join(folder, name), "w") as f:
            f.write(text)
    conf = os.path.join(folder, "rspamd.conf")
    with open(conf, "w") as f:
        f.write(f"""options {{
  pidfile = "{folder}/rspamd.pid"; filters = "dkim"; control_socket = "{folder}/rspamd.ctl mode=0600"; rrd = ""; local_addrs = [];
  dns {{ nameserver = ["{zone.address}"]; timeout = 2s; retransmits = 2; }}
  url_tld = "{folder}/tld"; tempdir = "{folder}"; cache_file = "{folder}/symbols.cache"; hs_cache_dir = "{folder}";
}}
logging {{ type = "file"; filename = "{folder}/rspamd.log"; level = "error"; }}
lua = "{folder}/rspamd.lua";
modules {{ {" ".join(f'path = "{plugins}/{name}.lua";' for name in ("spf", "dmarc", "milter_headers"))} }}
spf {{ spf_cache_size = 2k; }}
dkim {{ dkim_cache_size = 2k; time_jitter = 6h; trusted_only = false; }}
dmarc {{ }}
milter_headers {{ use = ["authentication-results"]; }}
worker "rspamd_proxy" {{
  bind_socket = "127.0.0.1:{listen}"; milter = yes; count = 1; timeout = 30s; upstream "local" {{ self_scan = yes; default = yes; }}
}}
""")
    spent, _, passed = by_milter([find("rspamd"), "-f", "-i", "-c", conf], listen, paths)
    return spent, passed


SPF = [CLIENT, "alice@" + DOMAIN, os.path.join(ROOT, "build", "libexec", "mailtier-spf")]


def ours(zone, paths, words, count):
    """Milliseconds of processor time a message; all that are whole must pass."""
    text = run_program(paths, "verify", zone.address, *words)
    passed = len(re.findall(r"^result pass pass none " + ("pass" if words else "-"), text, re.M))
    if passed != count:
        raise RuntimeError(f"{passed} of {count} pass here")
    return float(re.search(r"^cpu ([\d.]+)", text, re.M).group(1)) * 1e3 / len(paths)


def measure_all(say, count):
    subprocess.run(["make", "-s", "-C", ROOT, "build/bench/common/front/bench_mail_auth"], check=True)
    with tempfile.TemporaryDirectory(prefix="mt-mailauth-") as folder:
        os.chmod(folder, 0o755)
        paths = make_messages(folder, count)
        records = sign_all(folder, paths)
        break_some(paths)
        zone = dns_zone.DnsServer({"test": records + '_dmarc.example TXT "v=DMARC1; p=reject"\n'
                                           'example TXT "v=spf1 include:spf.example.test -all"\nspf.example TXT "v=spf1 ip4:192.0.2.0/28 ~all"\n'})
        try:
            whole = count - (count + 9) // 10
            for name, part, good in (("", paths, whole), ("-rsa", paths[0::2], whole - count // 2), ("-ed25519", paths[1::2], count // 2)):
                say("mail-auth-cpu" + name, "mailtier", ours(zone, part, [], good), "ms/message", f"DKIM, ARC, DMARC; {len(part)} messages, {good} pass")
                part = part[:OPENDKIM_MOST]
                theirs = opendkim(folder, zone, part)
                if theirs:
                    say("mail-auth-cpu" + name, "opendkim", theirs[0] * 1e3 / len(part), "ms/message",
                        f"DKIM alone; {theirs[0]:.3f} s for {len(part)}, {theirs[1]} pass")
            say("mail-auth-spf-cpu", "mailtier", ours(zone, paths, SPF, whole), "ms/message", f"SPF, DKIM, ARC, DMARC; {whole} pass")
            theirs = rspamd(folder, zone, paths)
            if theirs:
                say("mail-auth-spf-cpu", "rspamd", theirs[0] * 1e3 / count, "ms/message", f"SPF, DKIM, DMARC; {theirs[0]:.3f} s for {count}, {theirs[1]} pass")
        finally:
            zone.stop()


if __name__ == "__main__":
    measure_all(lambda name, target, value, unit, note="": print(f"{name:34} {target:16} {value:12.4g} {unit:18} {note}"), 3000)
