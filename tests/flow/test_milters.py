"""Filters: a libmilter filter (milter_filter.py) that does what each message asks for, OpenDKIM as signer, rspamd; before the proxy's services."""
import base64
import email
import imaplib
import json
import os
import shutil
import smtplib
import socket
import ssl
import subprocess
import tempfile
import unittest

import mt

A, B = "user0001@example.test", "user0002@example.test"
HERE = os.path.dirname(os.path.abspath(__file__))


class Filter:
    """One filter program; its events as dictionaries."""

    def __init__(self, folder, name):
        self.socket, self.log = f"{folder}/{name}.sock", f"{folder}/{name}.log"
        self.start()

    def start(self):
        if os.path.exists(self.socket):
            os.unlink(self.socket)
        self.process = subprocess.Popen([os.path.join(HERE, "milter_filter.py"), f"unix:{self.socket}", self.log],
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        mt.wait_for(lambda: os.path.exists(self.socket), 20, "the filter's socket")

    def events(self):
        with open(self.log, encoding="utf-8") as f:
            return [json.loads(line) for line in f]

    def forget(self):
        os.truncate(self.log, 0)

    def stop(self):
        self.process.kill()
        self.process.wait()


class Rspamd:
    """A worker that scans by itself, with nothing but what is built in: GTUBE is rejected."""

    def __init__(self, folder):
        self.port, self.log = mt.fresh_port(), f"{folder}/rspamd.log"
        tld, conf = f"{folder}/tld", f"{folder}/rspamd.conf"
        with open(tld, "w", encoding="utf-8") as f:
            f.write("com\nnet\norg\ntest\nexample\n")
        with open(conf, "w", encoding="utf-8") as f:
            f.write(f'options {{ pidfile = "{folder}/rspamd.pid"; filters = ""; control_socket = "{folder}/rspamd.ctl mode=0600"; rrd = "";\n'
                    f'dns {{ nameserver = ["127.0.0.1:1"]; timeout = 0.1s; retransmits = 1; }}\n'
                    f'url_tld = "{tld}"; tempdir = "{folder}"; cache_file = "{folder}/symbols.cache"; hs_cache_dir = "{folder}"; }}\n'
                    f'logging {{ type = "file"; filename = "{self.log}"; level = "notice"; }}\n'
                    f'worker "rspamd_proxy" {{ bind_socket = "127.0.0.1:{self.port}"; milter = yes; count = 1; timeout = 30s;\n'
                    f'upstream "local" {{ self_scan = yes; default = yes; }} }}\n')
        self.process = subprocess.Popen(["rspamd", "-f", "-i", "-c", conf], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        mt.wait_for(lambda: listens(self.port), 60, "rspamd")

    def stop(self):
        self.process.terminate()
        self.process.wait()


class OpenDkim:
    """Signs for example.test."""

    def __init__(self, folder):
        self.port, self.key = mt.fresh_port(), f"{folder}/dkim.key"
        conf = f"{folder}/opendkim.conf"
        subprocess.run(["openssl", "genrsa", "-out", self.key, "2048"], check=True, stderr=subprocess.DEVNULL)
        os.chmod(self.key, 0o600)
        with open(conf, "w", encoding="utf-8") as f:
            f.write(f"Mode s\nDomain example.test\nSelector s1\nKeyFile {self.key}\nSocket inet:{self.port}@127.0.0.1\nBackground no\n"
                    f"Canonicalization simple/simple\nSyslog no\nRequireSafeKeys no\n")
        self.process = subprocess.Popen(["opendkim", "-f", "-x", conf], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        mt.wait_for(lambda: listens(self.port), 20, "opendkim")

    def stop(self):
        self.process.terminate()
        self.process.wait()


def listens(port):
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


@unittest.skipUnless(os.path.exists("/usr/lib/python3/dist-packages/Milter"), "python3-milter is not installed")
class Milters(mt.ClusterCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="mt-milter-")
        cls.one, cls.two, cls.three = (Filter(cls.folder, name) for name in ("one", "two", "three"))
        cls.rspamd, cls.opendkim = Rspamd(cls.folder), OpenDkim(cls.folder)
        cls.conf = os.path.join(cls.folder, "milters.conf")
        with open(cls.conf, "w", encoding="utf-8") as f:
            f.write(f'milter one {{ address = "{cls.one.socket}"\n command-timeout = 2s\n end-timeout = 2s }}\n'
                    f'milter two {{ address = "{cls.two.socket}" }}\n'
                    f'milter gone {{ address = "{cls.folder}/nobody"\n failure = accept }}\n'
                    f'milter three {{ address = "{cls.three.socket}" }}\n'
                    f'rule called {{ at = rcpt\n when = "recipient {B}"\n then = "milter three" }}\n'
                    f'milter rspamd {{ address = "127.0.0.1:{cls.rspamd.port}" }}\n'
                    f'milter opendkim {{ address = "localhost:{cls.opendkim.port}" }}\n'
                    f'service smtp {{ milters = {{one, gone, two}} }}\n'
                    f'service submission {{ milters = {{rspamd, opendkim}} }}\n')
        cls.FLAGS = ["--proxies", 1, "--backends", 1, "--users", 2, "--password", "secret", "--conf", cls.conf]
        super().setUpClass()

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        for filter_ in (cls.one, cls.two, cls.three, cls.rspamd, cls.opendkim):
            filter_.stop()
        shutil.rmtree(cls.folder)

    def smtp(self, helo="client.example"):
        s = smtplib.SMTP(*self.cluster.at("p1", "smtp"), local_hostname=helo, timeout=30)
        self.addCleanup(s.close)
        return s

    def inbox(self, user=A):
        """All of it, and away with it."""
        context = ssl.create_default_context(cafile=self.cluster.ca)
        context.check_hostname = False
        m = imaplib.IMAP4_SSL(*self.cluster.at("p1", "imaps"), ssl_context=context, timeout=20)
        m.login(user, "secret")
        n = int(m.select()[1][0])
        found = [d[1] for d in m.fetch("1:*", "(BODY.PEEK[])")[1] if isinstance(d, tuple)] if n else []
        if n:
            m.store("1:*", "+FLAGS", "\\Deleted")
            m.expunge()
        m.logout()
        return found

    def send(self, *wants, to=(A,), sender="s@example.net", subject="as it was", body="text\r\n"):
        """The reply, as (code, text); what a filter is to do stands in the header."""
        head = "".join(f"X-Do: {w}\r\n" for w in wants)
        text = f"From: <s@example.net>\r\n{head}Subject: {subject}\r\nX-Gone: x\r\n\r\n{body}"
        s = self.smtp()
        s.ehlo()
        code, reply = s.mail(sender)
        if code == 250:
            for r in to:
                code, reply = s.rcpt(r)
                if code != 250:
                    break
            else:
                code, reply = s.data(text.encode())
        s.close()
        return code, reply.decode()

    def test_every_event_is_told(self):
        self.one.forget()
        s = self.smtp("told.example")
        s.ehlo()
        s.docmd("NONSENSE", "x")
        self.assertEqual(s.mail("told@example.net", ["SIZE=100"])[0], 250)
        self.assertEqual(s.rcpt(A)[0], 250)
        self.assertEqual(s.data(b"Subject: one\r\n two\r\nA: b\r\n\r\n" + (b"x" * 68 + b"\r\n") * 1000)[0], 250)
        self.assertEqual(s.mail("again@example.net")[0], 250)
        s.rset()
        s.quit()
        mt.wait_for(lambda: self.one.events()[-1]["event"] == "close", 10, "the end of the session")
        events = self.one.events()
        kinds = [e["event"] for e in events]
        self.assertEqual(kinds, ["connect", "helo", "unknown", "mail", "rcpt", "data", "header", "header", "eoh", "eom", "mail", "abort", "close"])
        by = {e["event"]: e for e in reversed(events)}
        self.assertEqual(by["connect"]["address"][0], "127.0.0.1")
        self.assertEqual(by["helo"]["name"], "told.example")
        self.assertEqual((by["mail"]["path"], by["mail"]["params"]), ("<told@example.net>", ["SIZE=100"]))
        self.assertTrue(by["mail"]["id"])
        self.assertEqual(by["rcpt"]["path"], f"<{A}>")
        self.assertEqual([(e["name"], e["value"]) for e in events if e["event"] == "header"],
                         [("Subject", "one\n two"), ("A", "b")])
        self.assertEqual(by["eom"]["octets"], 70000)
        self.inbox()

    def test_verdicts(self):
        for want, code, text in (("reject", 550, "5.7.1"), ("tempfail", 451, "4.7.1"), ("reply", 554, "5.7.9 as the message asked")):
            with self.subTest(want):
                for reply in (self.send(want), self.send(sender=f"{want}@example.net")):
                    self.assertEqual(reply[0], code)
                    self.assertIn(text, reply[1])
        s = self.smtp("reject.example")
        self.assertEqual(s.ehlo()[0], 550)
        self.assertEqual(self.inbox(), [])

    def test_a_recipient_is_refused_alone(self):
        s = self.smtp()
        s.ehlo()
        s.mail("s@example.net")
        self.assertEqual(s.rcpt("reply@example.test")[0] // 100, 5)
        self.assertEqual(s.rcpt(A)[0], 250)
        self.assertEqual(s.data(b"Subject: alone\r\n\r\nx\r\n")[0], 250)
        self.assertEqual(len(self.inbox()), 1)

    def test_discard_says_yes(self):
        for wants, sender in ((("discard",), "s@example.net"), ((), "discard@example.net")):
            self.assertEqual(self.send(*wants, sender=sender)[0], 250)
        self.assertEqual(self.inbox(), [])

    def test_edits(self):
        code, reply = self.send("add an added one", "first at the front", "change as the filter has it", "delete", "body another text",
                                f"also {B}", "from changed@example.net")
        self.assertEqual((code, self.two.events()[-1]["event"] in ("eom", "close")), (250, True), reply)
        for user in (A, B):
            (raw,) = self.inbox(user)
            m = email.message_from_bytes(raw)
            self.assertEqual(m["Subject"], "as the filter has it")
            # Both filters have seen it, one after the other.
            self.assertEqual(m.get_all("X-Added"), ["an added one"] * 2)
            self.assertEqual(m.get_all("X-First"), ["at the front"] * 2)
            self.assertIsNone(m["X-Gone"])
            self.assertEqual(m["Return-Path"], "<changed@example.net>")
            self.assertEqual(m.get_payload(), "another text\r\n")

    def test_the_next_filter_sees_the_edits(self):
        self.two.forget()
        self.assertEqual(self.send("change by the first")[0], 250)
        values = [e["value"] for e in self.two.events() if e["event"] == "header" and e["name"] == "Subject"]
        self.assertEqual(values, ["by the first"])
        self.inbox()

    def test_a_rule_calls_a_filter(self):
        self.three.forget()
        self.assertEqual(self.send("add one more")[0], 250)
        self.assertEqual(self.send("add one more", to=(A, B))[0], 250)
        self.assertEqual([email.message_from_bytes(m).get_all("X-Added") for m in self.inbox()], [["one more"] * 2, ["one more"] * 3])
        self.inbox(B)
        mt.wait_for(lambda: self.three.events()[-1]["event"] == "close", 10, "the end of its session")
        kinds = [e["event"] for e in self.three.events() if e["event"] != "header"]
        self.assertEqual(kinds, ["connect", "helo", "mail", "rcpt", "rcpt", "data", "eoh", "eom", "close"])

    def test_a_recipient_is_taken_away(self):
        self.assertEqual(self.send(f"not {B}", to=(A, B))[0], 250)
        self.assertEqual((len(self.inbox(A)), len(self.inbox(B))), (1, 0))

    def test_progress_extends_the_time(self):
        self.assertEqual(self.send("slow 8")[0], 250)
        self.assertEqual(len(self.inbox()), 1)

    def test_security_04_a_filters_field_stays_one(self):
        self.assertEqual(self.send("forge")[0], 250)
        m = email.message_from_bytes(self.inbox()[0])
        self.assertIsNone(m["X-Forged"])
        self.assertEqual(m.get_payload(), "text\r\n")

    def test_a_filter_that_dies_or_hangs_is_not_now(self):
        for want in ("crash", "hang"):
            with self.subTest(want):
                code, reply = self.send(want)
                self.assertEqual((code, "filter" in reply), (451, True), reply)
                self.one.stop()
                self.one.start()
        self.assertEqual(self.inbox(), [])
        self.assertEqual(self.send()[0], 250)
        self.assertEqual(len(self.inbox()), 1)
        self.assertGreater(self.cluster.metric("p1", 'mailtier_milter_answers_total{milter="one",result="failed"}'), 0)

    def test_a_client_that_goes_amid(self):
        self.one.forget()
        s = self.smtp()
        s.ehlo()
        s.mail("s@example.net")
        s.rcpt(A)
        s.docmd("DATA")
        s.send(b"X-Do: slow 12\r\n\r\nx\r\n.\r\n")
        mt.wait_for(lambda: any(e["event"] == "eom" for e in self.one.events()), 10, "the end of the message at the filter")
        s.close()
        self.assertEqual(self.send()[0], 250)
        self.assertEqual(len(self.inbox()), 1)

    def submit(self, text):
        s = smtplib.SMTP(*self.cluster.at("p1", "submission"), timeout=30)
        self.addCleanup(s.close)
        context = ssl.create_default_context(cafile=self.cluster.ca)
        context.check_hostname = False
        s.starttls(context=context)
        s.login(A, "secret")
        s.mail(A)
        s.rcpt(B)
        return s.data(text.encode())

    def test_rspamd_rejects_what_it_knows(self):
        gtube = "XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"
        code, reply = self.submit(f"From: {A}\r\nTo: {B}\r\nSubject: x\r\n\r\n{gtube}\r\n")
        self.assertEqual(code // 100, 5, reply)
        self.assertIn(b"Gtube", reply)
        self.assertEqual(self.inbox(B), [])

    def test_opendkim_signs(self):
        code, reply = self.submit(f"From: {A}\r\nTo: {B}\r\nSubject:  two   blanks \r\nDate: Fri, 27 Nov 2026 08:00:00 +0000\r\n"
                                  "Message-ID: <x@example.test>\r\n\r\nthis is text  \r\n\r\n\r\n")
        self.assertEqual(code, 250, reply)
        (raw,) = self.inbox(B)
        signature = email.message_from_bytes(raw)["DKIM-Signature"]
        self.assertIn("d=example.test", signature)
        public = subprocess.run(["openssl", "rsa", "-in", self.opendkim.key, "-pubout", "-outform", "DER"], check=True, capture_output=True)
        record = b"v=DKIM1; k=rsa; p=" + base64.b64encode(public.stdout)
        check = ("import dkim,sys; raw=sys.stdin.buffer.read(); "
                 "sys.exit(not dkim.verify(raw, dnsfunc=lambda *a, **k: bytes.fromhex(sys.argv[1])))")
        done = subprocess.run(["/usr/bin/python3", "-c", check, record.hex()], input=raw, capture_output=True)
        if b"No module named" in done.stderr:
            self.skipTest("python3-dkim is not installed")
        self.assertEqual(done.returncode, 0, done.stderr)


if __name__ == "__main__":
    unittest.main()
