"""What the flow tests share: a cluster of real programs on loopback, started by deploy/demo/run; conditions with deadlines; metrics,
logs, control verbs. Standard library only.

    class Some(mt.ClusterCase):          # one cluster for the tests of the class
        FLAGS = ["--proxies", 1, "--backends", 2, "--users", 10]

        def test_x(self):
            host, port = self.cluster.at("p1", "imap")

MAILTIER_VARIANT=asan|faults|tsan runs that variant's programs. Clusters take addresses of their own in 127.0.0.0/8, claimed from
the kernel, so that files of tests, and several trees, may run at the same time.
"""
import glob
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
VARIANT = os.environ.get("MAILTIER_VARIANT", "release")
TSAN = {"TSAN_OPTIONS": "suppressions=" + os.path.join(ROOT, "tests", "flow", "tsan.supp")}
_claims, _hosts = [], []


def bin_dir(variant=None):
    variant = variant or VARIANT
    return os.path.join(ROOT, "build", "bin") if variant == "release" else os.path.join(ROOT, "build", variant, "bin")


def corpus(name):
    """An archive of a corpus of mail, or None: in the directory that MAILTIER_CORPUS names, or in one that is called corpus
    and stands beside the project or in a directory beside it (as tests/corpus-files has it)."""
    named = os.environ.get("MAILTIER_CORPUS")
    above = os.path.dirname(ROOT)
    places = [named] if named else sorted(glob.glob(f"{above}/corpus") + glob.glob(f"{above}/*/corpus")
                                          + glob.glob(f"{os.path.dirname(above)}/*/corpus"))
    for place in places:
        if os.path.exists(os.path.join(place, name)):
            return os.path.join(place, name)
    return None


def wait_for(condition, seconds, what):
    """Returns the condition's first true value; fails after the deadline, saying what was waited for."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.02)


def _claim(kind, first, count):
    """A number from first on, of count ones, that no other process on this machine has claimed; it is ours until we end. The claim is
    a name among the kernel's abstract sockets: nothing is left behind by whoever is killed."""
    start = os.getpid() * 7
    for i in range(count):
        n = first + (start + i) % count
        s = socket.socket(socket.AF_UNIX)
        try:
            s.bind(f"\0mailtier-test-{kind}-{n}")
        except OSError:
            s.close()
            continue
        _claims.append(s)
        return n
    raise AssertionError(f"no {kind} is free")


def fresh_host():
    """A loopback address that nobody else has. The seven behind it are free too, and the eight that are 100 further: proxies and back-ends
    of a cluster."""
    if not _hosts:
        net = _claim("net", 0, 96 * 256)
        _hosts.extend(f"127.{128 + net // 256}.{net % 256}.{low}" for low in range(92, 0, -8))
    return _hosts.pop()


def fresh_port():
    """A port of 127.0.0.1 below those that the kernel gives to connections."""
    while True:
        port = _claim("port", 22000, 10000)
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue


class Cluster:
    """flags as deploy/demo/run takes them, without --dir, --host and --port-base. around(dir): a command that runs the starter,
    for instance in a namespace of its own."""

    def __init__(self, *flags, variant=None, env=None, host=None, port_base=None, around=None):
        self.dir = tempfile.mkdtemp(prefix="mt-")
        os.chmod(self.dir, 0o755)
        self.host = host or fresh_host()
        self.pids, self.places, self.ca = {}, {}, None
        self.lines = []
        self.variant = variant or VARIANT
        command = [os.path.join(ROOT, "deploy", "demo", "run"), "--dir", os.path.join(self.dir, "c"), "--pids", "--host", self.host,
                   "--port-base", str(port_base or 20000)] + [str(f) for f in flags]
        if around:
            command = around(self.dir) + command
        self.errors = open(os.path.join(self.dir, "starter.err"), "w+")
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self.errors, text=True,
                                        env={**os.environ, "MAILTIER_BIN": bin_dir(self.variant), **TSAN, **(env or {})})
        self._ready = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        limit = 60 if self.variant == "release" else 180
        end = time.monotonic() + limit
        while not self._ready.wait(0.05):
            if self.process.poll() is not None or time.monotonic() > end:
                words = self.report()
                self.stop()
                raise AssertionError("the cluster did not start\n" + words)

    def _read(self):
        for line in self.process.stdout:
            self.lines.append(line)
            words = line.split()
            if words[:1] == ["pid"] and len(words) == 3:
                self.pids[words[1]] = int(words[2])
            elif words[:1] == ["at"] and len(words) == 4:
                self.places[words[1], words[2]] = words[3]
            elif words[:1] == ["ca"]:
                self.ca = words[1]
            elif words[:1] == ["ready"]:
                self._ready.set()

    def at(self, name, service):
        """(host, port) of a listener, or the path of ctl, data, conf, log."""
        where = self.places[name, service]
        host, colon, port = where.rpartition(":")
        return (host.strip("[]"), int(port)) if colon and port.isdigit() else where

    def pid(self, name):
        return self.pids[name]

    def kill(self, name, number=signal.SIGKILL):
        os.kill(self.pids[name], number)

    def is_alive(self, name):
        try:
            with open(f"/proc/{self.pids[name]}/stat") as f:
                return f.read().rsplit(")", 1)[1].split()[0] != "Z"
        except OSError:
            return False

    def wait_restarted(self, name, old_pid, seconds=30):
        """With --restart: the starter has begun the program anew, and says so by a new pid line."""
        return wait_for(lambda: self.pids[name] != old_pid and self.pids[name], seconds, f"{name} started again")

    def ctl(self, name, *words, code=0):
        """mailtierctl against one program; its output. code None: any exit status."""
        done = subprocess.run([os.path.join(bin_dir(self.variant), "mailtierctl"), "-s", self.places[name, "ctl"]] + [str(w) for w in words],
                              capture_output=True, text=True, timeout=60)
        if code is not None and done.returncode != code:
            raise AssertionError(f"mailtierctl {' '.join(map(str, words))}: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout if code is not None else (done.returncode, done.stdout + done.stderr)

    def ctl_json(self, name, *words):
        return json.loads(self.ctl(name, "--json", *words))

    def metrics(self, name):
        """{name or name{labels}: value} of a program's /metrics."""
        import urllib.request
        host, port = self.at(name, "status")
        with urllib.request.urlopen(f"http://{host}:{port}/metrics", timeout=10) as f:
            text = f.read().decode()
        return {k: float(v) for k, v in re.findall(r"^([a-zA-Z_:][^ ]*(?:\{.*\})?) ([^ \n]+)$", text, re.M)}

    def metric(self, name, metric):
        """The sum over all labels; 0 when there is none."""
        return sum(v for k, v in self.metrics(name).items() if k == metric or k.startswith(metric + "{"))

    def log(self, name):
        try:
            with open(self.places[name, "log"], errors="replace") as f:
                return f.read()
        except (KeyError, OSError):
            return ""

    def report(self):
        """The ends of all logs, for a failed test."""
        self.errors.flush()
        self.errors.seek(0)
        parts = ["".join(self.lines[-30:]), self.errors.read()[-3000:]]
        for root, _, names in os.walk(self.dir):
            for n in names:
                if n.endswith(".log"):
                    with open(os.path.join(root, n), errors="replace") as f:
                        parts.append(f"--- {n}\n" + f.read()[-3000:])
        return "\n".join(parts)

    def sanitizer_findings(self):
        found = []
        for root, _, names in os.walk(self.dir):
            for n in names:
                if n.endswith(".log"):
                    with open(os.path.join(root, n), errors="replace") as f:
                        text = f.read()
                    at = re.search(r"(ERROR: \w+Sanitizer|WARNING: ThreadSanitizer|runtime error:|broken invariant:)", text)
                    if at:
                        found.append(f"{n}: {text[max(0, at.start() - 200):at.start() + 4000]}")
        return found

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.process.stdout.close()
        findings = self.sanitizer_findings()
        self.errors.close()
        if os.environ.get("MAILTIER_KEEP"):
            print(f"kept {self.dir}", file=sys.stderr)
        else:
            shutil.rmtree(self.dir, ignore_errors=True)
        if findings:
            raise AssertionError("\n".join(findings))


class ClusterCase(unittest.TestCase):
    """One cluster for all tests of the class; a failed test shows the ends of the logs."""
    FLAGS = []
    VARIANT = None
    ENV = None
    maxDiff = 4000

    @classmethod
    def setUpClass(cls):
        cls.cluster = Cluster(*cls.FLAGS, variant=cls.VARIANT, env=cls.ENV)

    @classmethod
    def tearDownClass(cls):
        cls.cluster.stop()

    def run(self, result=None):
        before = len(result.failures) + len(result.errors) if result else 0
        super().run(result)
        if result and len(result.failures) + len(result.errors) > before:
            print(self.cluster.report(), file=sys.stderr)
        return result
