"""Acceptance rules on the proxy, each action seen by swaks and raw clients; DNS lists and names by a real name server; a country by a
MaxMind database that the test writes; a reload; and what the content stage does with large messages and dying clients."""
import glob
import os
import re
import shutil
import signal
import smtplib
import subprocess
import unittest

import mt
import dns_zone
import mmdb
from test_smtp import Base, Raw

A, B = "user0001@example.test", "user0002@example.test"
# The client as its balancer tells: the name server knows these.
GOOD, NAMELESS, LIAR, LISTED, LIST_DOWN, FOREIGN = (f"198.18.0.{n}" for n in (1, 2, 3, 4, 5, 6))
BALANCER = "127.9.9.9"

ZONES = {
    "0.18.198.in-addr.arpa": "1 PTR good.client.example.\n3 PTR liar.client.example.\n4 PTR listed.client.example.\n5 PTR good5.client.example.\n",
    "client.example": "good A 198.18.0.1\nliar A 198.18.0.99\nlisted A 198.18.0.4\ngood5 A 198.18.0.5\n",
    "list.example": "4.0.18.198 A 127.0.0.2\n5.0.18.198 A 10.1.2.3\n6.0.18.198 A 127.255.255.254\n",
}

CONF = """
listener smtp { proxy-protocol = "optional" proxy-networks = {"127.9.9.0/24"} }
smtp { message-size = "120M" errors = 100 }
policy { spool-memory = "64K" header-size = "256K" country-database = "%(db)s" }
rule no-name { at = "connect" when = {"peer 198.18.0.2/31", "not ptr"} then = {"reject 554 5.7.25 Your address has no name"} }
rule bad-helo { at = "helo" when = {"helo bad.example"} then = {"reject 550 5.7.1 Not with that name"} }
rule country { at = "mail" when = {"country XX"} then = {"tempreject 451 4.7.1 Not from there now"} }
rule listed { at = "rcpt" when = {"dnsbl list.example 127.0.0.2"} then = {"reject 554 5.7.1 Listed"} }
rule listed-other { at = "rcpt" when = {"dnsbl list.example"} then = {"add-header X-Listed: yes"} }
rule marked { at = "mail" when = {"sender marked@*"} then = {"add-header X-Rule: marked", "accept"} }
rule large { at = "mail" when = {"size >50M", "sender small@*"} then = {"reject 552 5.3.4 Too much for you"} }
rule many { at = "rcpt" when = {"recipients >2", "sender few@*"} then = {"tempreject 452 4.5.3 Two are enough"} }
rule redirected { at = "rcpt" when = {"recipient gone@example.test"} then = {"redirect %(b)s"} }
rule nowhere { at = "rcpt" when = {"domain nowhere.example"} then = {"route b1"} }
rule rate { at = "rcpt" when = {"sender often@*"} then = {"rate-limit 3/1h by sender 452 4.7.1 Slowly"} }
rule secret { at = "header" when = {"header X-Secret"} then = {"remove-header X-Secret", "remove-header X-Note /remove.me/", "add-header X-Was: secret"} }
rule copied { at = "header" when = {"header Subject \\"copy *\\"", "domain example.test"} then = {"add-recipient %(b)s"} }
rule all-to-b { at = "header" when = {"header Subject redirect"} then = {"redirect %(b)s"} }
rule probe { at = "header" when = {"header X-Probe"} then = {"add-header X-Probed: yes"} }
rule probe-last { at = "header" when = {"header X-Last"} then = {"add-header X-Last-Seen: yes"} }
rule away { at = "data" when = {"header Subject discard"} then = {"discard"} }
rule spam { at = "data" when = {"header Subject /free\\\\s+money/"} then = {"reject 550 5.7.1 No spam"} }
rule later { at = "data" when = {"header Subject later"} then = {"tempreject 450 4.7.1 Later"} }
"""


def swaks(where, *more, sender="sender@example.net", to=A):
    """(exit code, dialogue)"""
    done = subprocess.run(["swaks", "--server", where[0], "--port", str(where[1]), "--from", sender, "--to", to, "--helo", "client.example",
                           "--timeout", "20", "--suppress-data", *more], capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout + done.stderr


@unittest.skipUnless(shutil.which("swaks") and dns_zone.is_there(), "swaks or nsd is not installed")
class Rules(Base):
    FLAGS = ["--proxies", 1, "--backends", 1, "--users", 2, "--password", "secret"]

    @classmethod
    def setUpClass(cls):
        cls.zone = dns_zone.DnsServer(ZONES)
        cls.db = os.path.join(cls.zone.dir, "country.mmdb")
        mmdb.write(cls.db, {FOREIGN: "XX", GOOD: "DE"})
        cls.conf = os.path.join(cls.zone.dir, "rules.conf")
        cls.write_conf(CONF)
        cls.FLAGS = Rules.FLAGS + ["--conf", cls.conf]
        super().setUpClass()

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        cls.zone.stop()

    @classmethod
    def write_conf(cls, text):
        with open(cls.conf, "w") as f:
            f.write(cls.zone.conf + text % {"db": cls.db, "b": B})

    def smtp(self):
        return self.cluster.at("p1", "smtp")

    def told(self, client):
        """A session whose client is that address."""
        raw = Raw(self.smtp(), source=BALANCER, banner=False)
        raw.send(f"PROXY TCP4 {client} 198.18.0.200 40000 25\r\n".encode())
        raw.banner = raw.reply()
        return raw

    def message(self, raw, subject, *to, sender="sender@example.net", fields="", body="text\r\n"):
        self.assertEqual([250, 250] + [250] * len(to) + [354], raw.begin(*to, sender=sender))
        raw.send(f"Subject: {subject}\r\n{fields}\r\n{body}.\r\n".encode())
        return raw.reply()

    def last(self, user, subject):
        return [m for m in self.inbox(user) if f"Subject: {subject}\r\n".encode() in m]

    def test_names_of_addresses(self):
        self.assertEqual((220), self.told(GOOD).banner[0])
        for client in (NAMELESS, LIAR):  # without a name, and with one that leads elsewhere
            code, text = self.told(client).banner
            self.assertEqual((554, True), (code, "5.7.25 Your address has no name" in text), text)

    def test_reject_at_helo(self):
        raw = self.raw()
        self.assertEqual([550, 503, 250], raw.say("EHLO bad.example", "MAIL FROM:<a@example.net>", "EHLO good.example"))

    def test_lists(self):
        raw = self.told(LISTED)
        self.assertEqual([250, 250, 554], raw.say("EHLO c.example", "MAIL FROM:<a@example.net>", f"RCPT TO:<{A}>"))
        # An answer outside of 127/8, and one that says "I do not answer you": no listing, and no rule acts on it.
        for client in (LIST_DOWN, GOOD):
            raw = self.told(client)
            self.assertEqual(250, self.message(raw, f"list {client}", A)[0])
            self.assertNotIn(b"X-Listed", self.last(A, f"list {client}")[0])

    def test_country(self):
        raw = self.told(FOREIGN)
        self.assertEqual([250, 451], raw.say("EHLO c.example", "MAIL FROM:<a@example.net>"))
        raw = self.told(GOOD)
        self.assertEqual([250, 250], raw.say("EHLO c.example", "MAIL FROM:<a@example.net>"))

    def test_fields_while_streaming(self):
        code, text = swaks(self.smtp(), "--header", "Subject: streamed", sender="marked@example.net")
        self.assertEqual(0, code, text)
        got = self.last(A, "streamed")[0]
        self.assertIn(b"X-Rule: marked\r\n", got)
        # Ours stand before what the client sent.
        self.assertLess(got.index(b"X-Rule: marked"), got.index(b"Subject: streamed"))

    def test_limits_of_size_and_recipients(self):
        raw = self.raw()
        self.assertEqual([250, 552, 250], raw.say("EHLO c", "MAIL FROM:<small@example.net> SIZE=60000000", "MAIL FROM:<other@example.net> SIZE=60000000"))
        raw = self.raw()
        self.assertEqual([250, 250, 250, 250, 452],
                         raw.say("EHLO c", "MAIL FROM:<few@example.net>", f"RCPT TO:<{A}>", f"RCPT TO:<{B}>", f"RCPT TO:<{A}>"))

    def test_redirect_and_route(self):
        raw = self.raw()
        self.assertEqual(250, self.message(raw, "redirected", "gone@example.test")[0])
        self.assertEqual(1, len(self.last(B, "redirected")))
        # The map knows nobody there; the rule leads to b1, and b1 knows nobody either.
        self.assertEqual([250, 550], raw.say("MAIL FROM:<a@example.net>", "RCPT TO:<x@nowhere.example>"))

    def test_rate(self):
        raw = self.raw()
        raw.say("EHLO c", "MAIL FROM:<often@example.net>")
        self.assertEqual([250, 250, 250, 452], raw.say(*[f"RCPT TO:<{A}>"] * 4))
        self.assertEqual([250, 250, 250], raw.say("RSET", "MAIL FROM:<other@example.net>", f"RCPT TO:<{A}>"))

    def test_edits_of_the_header(self):
        raw = self.raw()
        fields = "X-Secret: a\r\n b\r\nX-Note: keep\r\nX-Note: remove me\r\nX-Secret: again\r\n"
        self.assertEqual(250, self.message(raw, "secrets", A, fields=fields)[0])
        got = self.last(A, "secrets")[0]
        self.assertNotIn(b"X-Secret", got)
        self.assertEqual([b"X-Note: keep"], re.findall(rb"X-Note: .*\w", got))
        self.assertIn(b"X-Was: secret\r\n", got)
        self.assertTrue(got.endswith(b"\r\n\r\ntext\r\n"), got)

    def test_security_12_rules_look_at_the_header_as_edited(self):
        """A rule behind one that has added a field sees all of the header, however many fields it has: their memory may be another by then."""
        raw = self.raw()
        for count in (30, 1, 29, 31, 61, 62, 63):
            fields = "X-Probe: a\r\n" + "X-More: b\r\n" * (count - 1) + "X-Last: c\r\n"
            self.assertEqual(250, self.message(raw, f"probe {count} fields", A, fields=fields)[0])
            got = self.last(A, f"probe {count} fields")[0]
            self.assertIn(b"X-Probed: yes\r\n", got)
            self.assertIn(b"X-Last-Seen: yes\r\n", got)

    def test_recipients_of_the_content(self):
        raw = self.raw()
        self.assertEqual(250, self.message(raw, "copy this", A)[0])
        self.assertEqual([1, 1], [len(self.last(u, "copy this")) for u in (A, B)])
        self.assertEqual(250, self.message(raw, "redirect", A)[0])
        self.assertEqual([0, 1], [len(self.last(u, "redirect")) for u in (A, B)])

    def test_verdicts_at_the_end(self):
        for subject, want in (("discard", 0), ("free   money for you", 26), ("later", 26)):
            code, text = swaks(self.smtp(), "--header", f"Subject: {subject}")
            self.assertEqual(want, code, text)
            self.assertEqual([], self.last(A, subject))
        self.assertIn("450 4.7.1 Later", text)

    def test_security_21_rules_read_what_the_store_reads(self):
        """However a field is written, the rule sees the one that IMAP shows, and a second one too; what is no field of the header is none."""
        raw = self.raw()
        for fields in ("Subject: free money", "SUBJECT:free money", "Subject : free money", "Subject\t:\tfree money", "Subject:\r\n free\r\n money",
                       "A: 1\nSubject: free money", "Subject: harmless\r\nSubject: free money", "not a field\r\nSubject: free money"):
            self.assertEqual([250, 250, 250, 354], raw.begin(A))
            raw.send(f"{fields}\r\n\r\nx\r\n.\r\n".encode())
            self.assertEqual(550, raw.reply()[0], fields)
        for fields in ("X-Subject: free money", "A: 1\r\n\r\nSubject: free money", "A: 1\r\n Subject: free money", "A: 1\n\nSubject: free money"):
            self.assertEqual([250, 250, 250, 354], raw.begin(A))
            raw.send(f"{fields}\r\n\r\nx\r\n.\r\n".encode())
            self.assertEqual(250, raw.reply()[0], fields)

    def test_security_03_smuggling_spooled(self):
        """The body is spooled (rules of the header): what ends no message for us must not end one for the back-end."""
        raw = self.raw()
        for i, end in enumerate(("\n.\n", "\n.\r\n", "\r.\r\n", "\r\n.\r", "\r\n.\n")):
            body = f"one{end}MAIL FROM:<evil@example.net>\r\nRCPT TO:<{B}>\r\nDATA\r\nSubject: smuggled\r\n\r\nx\r\n"
            self.assertEqual(250, self.message(raw, f"smuggle {i}", A, body=body)[0])
            self.assertEqual(1, len(self.last(A, f"smuggle {i}")))
        self.assertEqual([], self.last(B, "smuggled"))

    def test_security_12_huge_header_spooled(self):
        raw = self.raw()
        fields = "".join(f"X-{i}: {'x' * 900}\r\n" for i in range(300))
        self.assertEqual(552, self.message(raw, "huge", A, fields=fields)[0])
        self.assertEqual(250, self.message(raw, "small", A)[0])

    def rss(self):
        with open(f"/proc/{self.cluster.pid('p1')}/status") as f:
            return int(re.search(r"VmRSS:\s+(\d+)", f.read()).group(1))

    def spools(self):
        found = []
        for link in glob.glob(f"/proc/{self.cluster.pid('p1')}/fd/*"):
            try:
                name = os.readlink(link)
            except OSError:
                continue
            if "(deleted)" in name and "/tmp" in name:
                found.append(name)
        return found

    def test_large_messages_go_to_a_file(self):
        """100 MB: the proxy grows by little, its file has no name, and a client that dies amid it leaves nothing."""
        raw = self.raw()
        before = self.rss()
        self.assertEqual([250, 250, 250, 354], raw.begin(A))
        raw.send(b"Subject: large\r\n\r\n")
        piece = (b"0123456789" * 7 + b"\r\n") * 14000
        for _ in range(100):
            raw.send(piece)
        mt.wait_for(self.spools, 20, "a spool file")
        self.assertLess(self.rss() - before, 24 * 1024)
        raw.file.close()
        raw.close()
        mt.wait_for(lambda: not self.spools(), 20, "the spool to go with its client")
        self.assertEqual([], self.last(A, "large"))

    def test_explained_by_its_log_and_metrics(self):
        raw = self.raw()
        raw.say("EHLO bad.example")
        mt.wait_for(lambda: "rule bad-helo: reject at helo" in self.cluster.log("p1"), 10, "the log line")
        self.assertGreater(self.cluster.metric("p1", 'mailtier_smtp_rule_actions_total{service="smtp",rule="bad-helo"}'), 0)

    def test_zz_reload(self):
        """A reload with a fault changes nothing; a good one counts from the next session on."""
        raw = self.raw()
        self.write_conf(CONF + 'rule broken { at = "mail" when = {"recipient x"} then = {"reject"} }\n')
        os.kill(self.cluster.pid("p1"), signal.SIGHUP)
        mt.wait_for(lambda: 'rules.conf:25: when: "recipient x": octet 1: this is not known yet at that phase' in self.cluster.log("p1"), 10,
                    "the fault")
        self.write_conf(CONF + 'rule new { at = "mail" when = {"sender new@*"} then = {"reject 550 5.7.1 New"} }\n')
        os.kill(self.cluster.pid("p1"), signal.SIGHUP)
        mt.wait_for(lambda: self.raw().say("EHLO c", "MAIL FROM:<new@example.net>") == [250, 550], 10, "the new rule")
        self.assertEqual([250, 250], raw.say("EHLO c", "MAIL FROM:<new@example.net>"))


if __name__ == "__main__":
    unittest.main()
