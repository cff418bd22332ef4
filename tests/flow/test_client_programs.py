"""Other people's mail programs, each for a whole round trip through a proxy with TLS: what is there comes down, flags go up, a message is
moved, one is deleted, new mail comes in either direction, and another run moves nothing. OfflineIMAP, getmail, fetchmail, NeoMutt, aerc,
swaks; mbsync, curl, msmtp and Python's libraries are in test_clients.py. Versions are Debian 12's."""
import fcntl
import glob
import imaplib
import os
import pty
import select
import shutil
import signal
import smtplib
import ssl
import struct
import subprocess
import tempfile
import termios
import threading
import time

import mt

DOMAIN = "example.test"


def message(i, to):
    return (f"From: Sender {i} <sender{i}@example.org>\r\nTo: {to}\r\nSubject: message {i}\r\nMessage-ID: <{i}.{to}@example.org>\r\n"
            f"Date: Fri, 20 Nov 2026 12:00:{i % 60:02} +0000\r\n\r\nThis is number {i}.\r\n.leading dot\r\n").encode()


class Terminal:
    """A program that wants a terminal: keys go in, what it shows is read and forgotten but for its end."""

    def __init__(self, command, env):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            try:
                os.execvpe(command[0], command, env)
            finally:
                os._exit(127)
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
        self.shown = b""
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()

    def read(self):
        while True:
            select.select([self.fd], [], [], 1)
            try:
                data = os.read(self.fd, 65536)
            except OSError:
                return
            if not data:
                return
            self.shown = (self.shown + data)[-20000:]

    def keys(self, text):
        os.write(self.fd, text.encode())

    def wait_shown(self, text, seconds=30):
        mt.wait_for(lambda: text.encode() in self.shown, seconds, f"{text!r} on the screen, which ends with {self.shown[-600:]!r}")

    def has_ended(self):
        return os.waitpid(self.pid, os.WNOHANG)[0] != 0

    def end(self):
        try:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        except (ProcessLookupError, ChildProcessError):
            pass
        os.close(self.fd)


class Programs(mt.ClusterCase):
    FLAGS = ["--proxies", 1, "--backends", 1, "--users", 8]

    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="mt-programs-")
        self.addCleanup(shutil.rmtree, self.dir, True)
        self.tls = ssl.create_default_context(cafile=self.cluster.ca)
        self.env = {**os.environ, "HOME": self.dir, "TERM": "xterm", "LANG": "C.UTF-8", "XDG_CONFIG_HOME": self.path(".config"),
                    "XDG_CACHE_HOME": self.path(".cache"), "XDG_DATA_HOME": self.path(".local"), "SSL_CERT_FILE": self.cluster.ca}

    def path(self, name):
        return os.path.join(self.dir, name)

    def write(self, name, text, mode=0o600):
        os.makedirs(os.path.dirname(self.path(name)), exist_ok=True)
        with open(os.open(self.path(name), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "w") as f:
            f.write(text)
        return self.path(name)

    def need(self, program):
        if not shutil.which(program):
            self.skipTest(f"{program} is not installed")

    def run_client(self, *command, codes=(0,), again=None, **kw):
        """again: what a program says when it met a fault of its own, and is to be run once more (getmail: a child that ends while
        it sets its handler up)."""
        for _ in range(5):
            done = subprocess.run(command, capture_output=True, timeout=60, env=self.env, **kw)
            if not again or again not in done.stdout + done.stderr:
                break
        self.assertIn(done.returncode, codes, f"{command}: {(done.stdout + done.stderr).decode(errors='replace')[-3000:]}")
        return done.stdout

    def user(self, n):
        return f"user{n:04}@{DOMAIN}"

    def fill(self, n, numbers):
        with smtplib.SMTP(*self.cluster.at("p1", "smtp")) as s:
            for i in numbers:
                s.sendmail("sender@example.org", [self.user(n)], message(i, self.user(n)))

    def mails(self, n, box="INBOX"):
        """{number: flags} of a mailbox, by another session straight at the back-end."""
        m = imaplib.IMAP4(*self.cluster.at("b1", "imap"))
        m.login(self.user(n), f"pass{n:04}")
        found = {}
        if m.select(f'"{box}"', readonly=True)[0] == "OK":
            rows = m.fetch("1:*", "(FLAGS BODY.PEEK[HEADER.FIELDS (SUBJECT)])")[1]
            for row in rows:
                if isinstance(row, tuple):
                    number = int(row[1].split()[-1])
                    self.assertNotIn(number, found, f"message {number} is there twice")
                    found[number] = {f.decode() for f in imaplib.ParseFlags(row[0])} - {"\\Recent"}
        m.logout()
        return found

    def wait_mails(self, n, want, box="INBOX", seconds=30):
        mt.wait_for(lambda: self.mails(n, box) == want, seconds, f"{box} of {n} is {want}, and is {self.mails(n, box)}")

    # ---- mailboxes kept in step ----

    def test_offlineimap(self):
        self.need("offlineimap")
        n = 1
        self.fill(n, range(10))
        host, port = self.cluster.at("p1", "imaps")
        rc = self.write("rc", f"""[general]
accounts = a
metadata = {self.path('meta')}
socktimeout = 20
[Account a]
localrepository = here
remoterepository = there
[Repository here]
type = Maildir
localfolders = {self.path('box')}
[Repository there]
type = IMAP
remotehost = {host}
remoteport = {port}
ssl = yes
sslcacertfile = {self.cluster.ca}
remoteuser = {self.user(n)}
remotepass = pass{n:04}
""")

        def sync():
            return self.run_client("offlineimap", "-c", rc, "-o", "-u", "basic")

        def here(box="INBOX"):
            found = {}
            for path in glob.glob(self.path(f"box/{box}/*/*")):
                with open(path, "rb") as f:
                    text = f.read()
                found[int(text.split(b"Subject: message ")[1].split(b"\n")[0])] = path
            return found

        def flag(path, letters):
            folder, name = os.path.split(path)
            os.rename(path, os.path.join(os.path.dirname(folder), "cur", name.split(":")[0] + ":2," + letters))

        sync()
        self.assertEqual(sorted(here()), list(range(10)))
        # here: one is read and flagged, one deleted, one moved, one new; there: a new one, and one is answered
        flag(here()[0], "FS")
        os.unlink(here()[1])
        os.rename(here()[2], self.path("box/Archive/new/1.moved.here"))
        with open(self.path("box/INBOX/new/1.new.here"), "wb") as f:
            f.write(message(20, self.user(n)).replace(b"\r\n", b"\n"))
        self.fill(n, [21])
        m = imaplib.IMAP4(*self.cluster.at("b1", "imap"))
        m.login(self.user(n), f"pass{n:04}")
        m.select()
        m.store("4", "+FLAGS", "(\\Answered)")
        m.logout()
        sync()
        want = {i: set() for i in (3, 4, 5, 6, 7, 8, 9, 20, 21)}
        want[0], want[3] = {"\\Seen", "\\Flagged"}, {"\\Answered"}
        self.assertEqual(self.mails(n), want)
        self.assertEqual(list(self.mails(n, "Archive")), [2])
        self.assertEqual(sorted(here()), sorted(want))
        self.assertTrue(here()[3].endswith(":2,R"), here()[3])
        before = sorted(glob.glob(self.path("box/*/*/*")))
        sync()
        self.assertEqual(self.mails(n), want)
        self.assertEqual(sorted(glob.glob(self.path("box/*/*/*"))), before)

    # ---- programs that fetch ----

    def fetched(self):
        """The numbers of the messages that have been fetched, each whole."""
        numbers = []
        for path in glob.glob(self.path("box/new/*")):
            with open(path, "rb") as f:
                text = f.read().replace(b"\r\n", b"\n")
            numbers.append(int(text.split(b"Subject: message ")[1].split(b"\n")[0]))
            self.assertTrue(text.endswith(b"This is number %d.\n.leading dot\n" % numbers[-1]), text[-100:])
        return sorted(numbers)

    def mda(self):
        return self.write("mda", f"#!/bin/sh\nexec cat >{self.path('box/new')}/$$.$(date +%N)\n", 0o700)

    def test_getmail(self):
        self.need("getmail")
        mda = self.mda()
        for n, kind, service in ((2, "SimpleIMAPSSLRetriever", "imaps"), (3, "SimplePOP3SSLRetriever", "pop3s")):
            with self.subTest(kind):
                shutil.rmtree(self.path("box"), ignore_errors=True)
                os.makedirs(self.path("box/new"))
                os.makedirs(self.path(f"state{n}"))
                self.fill(n, range(10))
                host, port = self.cluster.at("p1", service)

                def get(delete):
                    rc = self.write("getmailrc", f"""[retriever]
type = {kind}
server = {host}
port = {port}
username = {self.user(n)}
password = pass{n:04}
ca_certs = {self.cluster.ca}
[destination]
type = MDA_external
path = {mda}
allow_root_commands = true
unixfrom = false
[options]
read_all = false
delete = {delete}
delivered_to = false
received = false
""")
                    command = ("getmail", f"--getmaildir={self.path(f'state{n}')}", f"--rcfile={rc}")
                    self.run_client(*command, again=b"_ForkingBase__orig_handler")

                get("false")
                self.assertEqual(self.fetched(), list(range(10)))
                get("false")  # it knows them by UIDVALIDITY and UID, or by UIDL
                self.assertEqual(self.fetched(), list(range(10)))
                self.fill(n, [10])
                get("true")
                self.assertEqual(self.fetched(), list(range(11)))
                left = self.mails(n)
                self.assertNotIn(10, left)
                self.fill(n, [11])
                get("true")
                self.assertEqual(self.fetched(), list(range(12)))

    def test_fetchmail(self):
        self.need("fetchmail")
        mda = self.mda()
        for n, protocol, service in ((4, "imap", "imaps"), (5, "pop3", "pop3s")):
            with self.subTest(protocol):
                shutil.rmtree(self.path("box"), ignore_errors=True)
                os.makedirs(self.path("box/new"))
                self.fill(n, range(10))
                host, port = self.cluster.at("p1", service)

                def fetch(keep, code):
                    rc = self.write("fetchmailrc", f"""set no bouncemail
poll {host} protocol {protocol} port {port} {'uidl' if protocol == 'pop3' else ''}
  user "{self.user(n)}" password "pass{n:04}" {keep}
  ssl sslcertck sslcertfile "{self.cluster.ca}" mda "{mda}"
""")
                    self.run_client("fetchmail", "-f", rc, "--pidfile", self.path("pid"), "-i", self.path(f"ids{n}"), codes=(code,))

                fetch("keep", 0)
                self.assertEqual(self.fetched(), list(range(10)))
                fetch("keep", 1)  # nothing new: seen flags, or UIDLs
                self.assertEqual(self.fetched(), list(range(10)))
                self.fill(n, [10])
                fetch("no keep", 0)
                self.assertEqual(self.fetched(), list(range(11)))
                self.assertNotIn(10, self.mails(n))

    # ---- programs with a screen ----

    def test_neomutt(self):
        self.need("neomutt")
        n = 6
        self.fill(n, range(5))
        host, port = self.cluster.at("p1", "imaps")
        smtp_host, smtp_port = self.cluster.at("p1", "submissions")
        rc = self.write("neomuttrc", f"""set folder = "imaps://{host}:{port}/"
set spoolfile = "+INBOX"
set imap_user = "{self.user(n)}"
set imap_pass = "pass{n:04}"
set ssl_ca_certificates_file = "{self.cluster.ca}"
set ssl_force_tls
set certificate_file = "{self.path('certificates')}"
set smtp_url = "smtps://{self.user(n)}@{smtp_host}:{smtp_port}/"
set smtp_pass = "pass{n:04}"
set smtp_authenticators = "plain"
set from = "{self.user(n)}"
set record = "+Sent"
set postponed = "+Drafts"
set quit = yes
set delete = yes
set move = no
set confirmappend = no
set confirmcreate = no
set wait_key = no
set editor = true
set abort_unmodified = no
set sort = date
set copy = yes
set imap_condstore
set imap_qresync
set header_cache = "{self.path('headers')}"
set message_cachedir = "{self.path('bodies')}"
set imap_check_subscribed
""")
        for attempt in range(2):  # the second time with what it has kept of the first, by QRESYNC
            t = Terminal(["neomutt", "-F", rc], self.env)
            self.addCleanup(t.end)
            if attempt == 0:
                t.wait_shown("message 4")
                t.keys("1\n")
                t.keys("F")                  # the first is flagged,
                t.keys("2\nd")               # the second deleted,
                t.keys("3\ns=Archive\n")     # the third moved,
                t.keys("4\n\n")              # the fourth read,
                t.wait_shown("This is number 3.")
                t.keys("i$")                 # and all of it written
                want = {0: {"\\Flagged"}, 3: {"\\Seen"}, 4: set()}
            else:
                t.wait_shown("message 30")
                t.keys("/~s \"message 30\"\n\n")
                t.wait_shown("This is number 30.")
                t.keys("i$")
                want[30] = {"\\Seen"}
            mt.wait_for(lambda: {k: v - {"Old", "$MDNSent"} for k, v in self.mails(n).items()} == want, 30,
                        f"{want}, and it is {self.mails(n)}; the screen ends with {t.shown[-1500:]!r}")
            self.assertEqual(list(self.mails(n, "Archive")), [2])
            if attempt == 1:  # mail goes out with TLS and a login, and a copy of it to Sent
                t.keys(f"m{self.user(n)}\nmessage 40\n")
                t.wait_shown("Compose")
                t.keys("y")
                mt.wait_for(lambda: 40 in self.mails(n), 20, "the mail of its own")
                self.wait_mails(n, {40: {"\\Seen"}}, "Sent")
            t.keys("q")
            mt.wait_for(t.has_ended, 30, f"it quits; {t.shown[-600:]!r}")
            if attempt == 0:
                self.fill(n, [30])

    def test_aerc(self):
        self.need("aerc")
        n = 7
        self.fill(n, range(5))
        host, port = self.cluster.at("p1", "imaps")
        user = self.user(n).replace("@", "%40")
        self.write(".config/aerc/accounts.conf", f"""[test]
source = imaps://{user}:pass{n:04}@{host}:{port}
from = <{self.user(n)}>
cache-headers = true
""")
        self.write(".config/aerc/aerc.conf", "[general]\n[ui]\nsort =\n")
        t = Terminal(["aerc"], self.env)
        self.addCleanup(t.end)
        t.wait_shown("message 4")

        def do(command, want, box="INBOX"):
            t.keys(f":{command}\r")
            mt.wait_for(lambda: self.mails(n, box) == want, 30, f"after {command!r} {want}, and it is {self.mails(n, box)}; {t.shown[-800:]!r}")

        want = {i: set() for i in range(5)}
        newest = 4  # the list begins with the newest
        t.keys(":select 0\r")
        want[newest] = {"\\Flagged"}
        do("flag -t", want)
        want[newest] = {"\\Flagged", "\\Seen"}
        do("read", want)
        del want[newest]
        do("move Archive", want)
        self.assertEqual(self.mails(n, "Archive"), {4: {"\\Flagged", "\\Seen"}})
        t.keys(":select 0\r")
        del want[3]
        do("delete", want)
        t.keys(":select 0\r:copy Drafts\r")
        mt.wait_for(lambda: list(self.mails(n, "Drafts")) == [2], 30, f"the copy; {t.shown[-800:]!r}")
        self.fill(n, [30])  # IDLE brings it
        t.wait_shown("message 30")
        t.keys(":quit\r")
        mt.wait_for(t.has_ended, 30, f"it quits; {t.shown[-600:]!r}")

    def test_swaks(self):
        self.need("swaks")
        n = 8
        host, port = self.cluster.at("p1", "submission")
        tls_host, tls_port = self.cluster.at("p1", "submissions")
        who = ["--au", self.user(n), "--ap", f"pass{n:04}", "--from", self.user(n), "--to", self.user(n), "--tls-ca-path", self.cluster.ca, "--tls-verify"]
        for i, (at, more) in enumerate((((host, port), ["-tls", "-a", "PLAIN"]), ((host, port), ["-tls", "-a", "LOGIN"]),
                                        ((tls_host, tls_port), ["-tlsc", "-a", "PLAIN"]))):
            self.run_client("swaks", "--server", at[0], "--port", str(at[1]), *more, *who, "--header", f"Subject: message {i}")
        self.assertEqual(sorted(self.mails(n)), [0, 1, 2])
        # 28: the login failed
        self.run_client("swaks", "--server", host, "--port", str(port), "-tls", "-a", "PLAIN", "--au", self.user(n), "--ap", "wrong", "--from",
                        self.user(n), "--to", self.user(n), codes=(28,))
        # Pipelined, to the port of the world, without a login
        host, port = self.cluster.at("p1", "smtp")
        self.run_client("swaks", "--server", host, "--port", str(port), "-tls", "--pipeline", "--from", "a@example.org", "--to", self.user(n), "--header",
                        "Subject: message 3")
        self.assertEqual(sorted(self.mails(n)), [0, 1, 2, 3])


if __name__ == "__main__":
    import unittest
    unittest.main()
