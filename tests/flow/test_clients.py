"""Real clients through a proxy with TLS: mbsync, curl, msmtp, Python's libraries. Each with 100 messages, flags and
deletions, and each twice: the second time nothing moves."""
import imaplib
import os
import poplib
import shutil
import smtplib
import ssl
import subprocess
import tempfile
import unittest

import mt

MESSAGES = 100
DOMAIN = "example.test"


def message(i, to="user0001@" + DOMAIN):
    return (f"From: sender@example.org\r\nTo: {to}\r\nSubject: message {i}\r\nMessage-ID: <{i}.{to}@example.org>\r\n"
            f"Date: Fri, 20 Nov 2026 12:00:{i % 60:02} +0000\r\n\r\nThis is number {i}.\r\n.leading dot\r\n")


class Clients(mt.ClusterCase):
    FLAGS = ["--proxies", 1, "--backends", 2, "--users", 12]

    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="mt-clients-")
        self.addCleanup(shutil.rmtree, self.dir, True)
        self.tls = ssl.create_default_context(cafile=self.cluster.ca)
        self.tls.check_hostname = False

    def need(self, program):
        if not shutil.which(program):
            self.skipTest(f"{program} is not installed")

    def url(self, scheme, service, path=""):
        host, port = self.cluster.at("p1", service)
        return f"{scheme}://{host}:{port}/{path}"

    def run_client(self, *command, code=0, **kw):
        done = subprocess.run(command, capture_output=True, timeout=120, **kw)
        self.assertEqual(done.returncode, code, f"{command[0]}: {done.stderr.decode(errors='replace')[-2000:]}")
        return done.stdout

    def imap(self, user):
        m = imaplib.IMAP4_SSL(*self.cluster.at("p1", "imaps"), ssl_context=self.tls)
        m.login(f"user{user:04}@{DOMAIN}", f"pass{user:04}")
        return m

    def fill(self, user, count=MESSAGES):
        with smtplib.SMTP(*self.cluster.at("p1", "smtp")) as s:
            for i in range(count):
                s.sendmail("sender@example.org", [f"user{user:04}@{DOMAIN}"], message(i).encode())

    def flags_and_uids(self, user):
        m = self.imap(user)
        m.select("INBOX")
        rows = m.fetch("1:*", "(UID FLAGS)")[1]
        m.logout()
        return rows

    def test_mbsync_twice(self):
        self.need("mbsync")
        user = 1
        self.fill(user)
        host, port = self.cluster.at("p1", "imaps")
        box = os.path.join(self.dir, "box")
        os.mkdir(box)
        rc = os.path.join(self.dir, "mbsyncrc")
        with open(rc, "w") as f:
            f.write(f"""IMAPAccount m
Host {host}
Port {port}
User user{user:04}@{DOMAIN}
Pass pass{user:04}
SSLType IMAPS
CertificateFile {os.path.join(os.path.dirname(self.cluster.ca), 'proxy.pem')}

IMAPStore far
Account m

MaildirStore near
Path {box}/
Inbox {box}/INBOX
SubFolders Verbatim

Channel c
Far :far:
Near :near:
Patterns *
Create Both
Remove Both
Expunge Both
SyncState *
""")
        self.run_client("mbsync", "-c", rc, "-a")
        new = os.listdir(box + "/INBOX/new") + os.listdir(box + "/INBOX/cur")
        self.assertEqual(len(new), MESSAGES)
        for name in ("Drafts", "Sent", "Junk", "Trash", "Archive"):
            self.assertTrue(os.path.isdir(f"{box}/{name}"), f"no folder {name}")
        # here: ten are read and flagged, ten are deleted, three are new
        names = sorted(os.listdir(box + "/INBOX/new")) or sorted(os.listdir(box + "/INBOX/cur"))
        place = "new" if os.listdir(box + "/INBOX/new") else "cur"
        for n in names[:10]:
            os.rename(f"{box}/INBOX/{place}/{n}", f"{box}/INBOX/cur/{n.split(':')[0]}:2,FS")
        for n in names[10:20]:
            os.rename(f"{box}/INBOX/{place}/{n}", f"{box}/INBOX/cur/{n.split(':')[0]}:2,ST")
        for i in range(3):
            with open(f"{box}/INBOX/new/{i}.local.host", "w", newline="") as f:
                f.write(message(1000 + i).replace("\r\n", "\n"))
        self.run_client("mbsync", "-c", rc, "-a")
        m = self.imap(user)
        m.select("INBOX")
        self.assertEqual(len(m.search(None, "ALL")[1][0].split()), MESSAGES - 10 + 3)
        self.assertEqual(len(m.search(None, "FLAGGED", "SEEN")[1][0].split()), 10)
        m.logout()
        before = self.flags_and_uids(user)
        listing = sorted(os.path.join(r, x) for r, _, xs in os.walk(box) for x in xs)
        out = self.run_client("mbsync", "-c", rc, "-a")
        self.assertEqual(self.flags_and_uids(user), before)
        self.assertEqual(sorted(os.path.join(r, x) for r, _, xs in os.walk(box) for x in xs), listing, out)

    def test_curl_smtp_imap_pop3(self):
        self.need("curl")
        user = 2
        address = f"user{user:04}@{DOMAIN}"
        login = ["-sS", "--cacert", self.cluster.ca, "-k", "--user", f"{address}:pass{user:04}"]
        path = os.path.join(self.dir, "m")
        for i in range(20):
            with open(path, "w", newline="") as f:
                f.write(message(i, address))
            self.run_client("curl", *login, "--url", self.url("smtps", "submissions"), "--mail-from", address, "--mail-rcpt", address,
                            "--upload-file", path)
        for i in range(20, MESSAGES):
            with open(path, "w", newline="") as f:
                f.write(message(i, address))
            self.run_client("curl", *login, "--url", self.url("imaps", "imaps", "INBOX"), "--upload-file", path)
        for attempt in range(2):
            out = self.run_client("curl", *login, self.url("imaps", "imaps", "INBOX"), "-X", "SEARCH ALL").decode()
            self.assertEqual(len(out.split()), MESSAGES + 2, out)
            out = self.run_client("curl", *login, self.url("pop3s", "pop3s")).decode()
            self.assertEqual(len(out.strip().splitlines()), MESSAGES)
            out = self.run_client("curl", *login, self.url("pop3s", "pop3s", "50")).decode()
            self.assertIn("This is number 49.\r\n.leading dot\r\n", out)
            out = self.run_client("curl", *login, self.url("imaps", "imaps", "INBOX;MAILINDEX=50")).decode()
            self.assertIn("This is number 49.\r\n.leading dot\r\n", out)
        self.run_client("curl", *login, self.url("imaps", "imaps", "INBOX"), "-X", "STORE 1:10 +FLAGS (\\Deleted)")
        self.run_client("curl", *login, self.url("imaps", "imaps", "INBOX"), "-X", "EXPUNGE")
        self.run_client("curl", *login, self.url("pop3s", "pop3s", "1"), "-X", "DELE", "-I")
        out = self.run_client("curl", *login, self.url("imaps", "imaps", "INBOX"), "-X", "SEARCH ALL").decode()
        self.assertEqual(len(out.split()), MESSAGES - 11 + 2, out)

    def test_msmtp(self):
        self.need("msmtp")
        user = 3
        address = f"user{user:04}@{DOMAIN}"
        host, port = self.cluster.at("p1", "submission")
        rc = os.path.join(self.dir, "msmtprc")
        with open(os.open(rc, os.O_WRONLY | os.O_CREAT, 0o600), "w") as f:
            f.write(f"""account default
host {host}
port {port}
from {address}
auth plain
user {address}
password pass{user:04}
tls on
tls_starttls on
tls_trust_file {self.cluster.ca}
""")
        for attempt in range(2):
            for i in range(MESSAGES // 2):
                self.run_client("msmtp", "-C", rc, address, input=message(attempt * 50 + i, address).encode())
        self.assertEqual(len(self.flags_and_uids(user)), MESSAGES)

    def test_imaplib_twice(self):
        user = 4
        self.fill(user)
        for attempt in range(2):
            m = self.imap(user)
            self.assertEqual(m.select("INBOX")[1][0], str(MESSAGES - attempt * 10).encode())
            rows = m.fetch("1:*", "(UID FLAGS BODY.PEEK[])")[1]
            bodies = [r[1] for r in rows if isinstance(r, tuple)]
            self.assertEqual(len(bodies), MESSAGES - attempt * 10)
            self.assertTrue(all(b.endswith(b"\r\n.leading dot\r\n") for b in bodies))
            if attempt == 0:
                m.store("1:10", "+FLAGS", "(\\Deleted)")
                m.store("11:20", "+FLAGS", "(\\Flagged Work)")
                m.expunge()
            self.assertEqual(len(m.search(None, "FLAGGED", "KEYWORD", "Work")[1][0].split()), 10)
            self.assertEqual(m.status("INBOX", "(MESSAGES UNSEEN)")[0], "OK")
            m.logout()

    def test_poplib_twice(self):
        user = 5
        self.fill(user)
        seen = []
        for attempt in range(2):
            p = poplib.POP3(*self.cluster.at("p1", "pop3"))
            p.stls(self.tls)
            p.user(f"user{user:04}@{DOMAIN}")
            p.pass_(f"pass{user:04}")
            count = MESSAGES - attempt * 10
            self.assertEqual(p.stat()[0], count)
            uidls = p.uidl()[1]
            self.assertEqual(len(set(u.split()[1] for u in uidls)), count)
            seen.append([u.split()[1] for u in uidls])
            body = p.retr(50)[1]
            self.assertEqual(body[-1], b".leading dot")
            self.assertEqual(p.top(1, 1)[1][-1][:14], b"This is number")
            if attempt == 0:
                for i in range(1, 11):
                    p.dele(i)
            p.quit()
        self.assertEqual(seen[1], seen[0][10:])

    def test_smtplib_starttls_and_many_recipients(self):
        to = [f"user{i:04}@{DOMAIN}" for i in range(6, 13)]
        with smtplib.SMTP(*self.cluster.at("p1", "submission")) as s:
            s.starttls(context=self.tls)
            s.login(to[0], "pass0006")
            for i in range(MESSAGES // 4):
                self.assertEqual(s.sendmail(to[0], to, message(i, to[0]).encode()), {})
        for i in range(6, 13):  # those of the other back-end by the sender's queue
            mt.wait_for(lambda: len(self.flags_and_uids(i)) == MESSAGES // 4, 30, f"all is there of user {i}")


if __name__ == "__main__":
    unittest.main()
