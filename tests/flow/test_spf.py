"""SPF over real DNS (nsd) at a proxy: results in the header, in the log and in the metrics; forged results go; a checker that is killed."""
import imaplib
import os
import re
import signal
import smtplib
import socket
import ssl
import tempfile
import unittest

import dns_zone
import mt

PASSING, FAILING = "192.0.2.7", "192.0.2.66"
USER = "user0001@example.test"
ZONES = {
    "sender.test": "@ TXT \"v=spf1 include:spf.sender.test mx -all\"\nspf TXT \"v=spf1 ip4:192.0.2.0/28 ~all\"\n@ MX 10 m\nm A 198.51.100.9\n"
                   "helo TXT \"v=spf1 a -all\"\nhelo A 192.0.2.66\n",
    "broken.test": "@ TXT \"v=spf1 ip4:1.2.3 -all\"\n",
    "killer.test": "@ TXT \"v=spf1 exists:" + "%{l}" * 50 + "\" \"" + "%{l}" * 60 + "\" \"" + "%{l}" * 17 + "\" "
                   + " ".join('"' + "A" * 250 + '"' for _ in range(16)) + " \".test -all\"\n",
    "soft.test": "@ TXT \"v=spf1 ip4:192.0.2.7 ~all\"\n",
    "plain.test": "@ A 192.0.2.1\n",
    "bogus.test": "@ TXT \"v=spf1 +all\"\n",
}


@unittest.skipUnless(dns_zone.is_there(), "needs nsd and ldnsutils")
class Spf(mt.ClusterCase):
    @classmethod
    def setUpClass(cls):
        cls.zone = dns_zone.DnsServer(ZONES, signed=["sender.test"], bogus=["bogus.test"])
        cls.addClassCleanup(cls.zone.stop)
        conf = tempfile.NamedTemporaryFile("w", suffix=".conf")
        cls.addClassCleanup(conf.close)
        conf.write(cls.zone.conf + 'host-name = "mx.example.test"\nsmtp { spf = yes }\n'
                   'rule softly { at = "mail" when = {"spf softfail"} then = {"reject 550 5.7.23 Not from there"} }\n'
                   'listener smtp { proxy-protocol = optional proxy-networks = {"127.0.0.0/8"} }\n')
        conf.flush()
        cls.FLAGS = ["--proxies", 1, "--backends", 1, "--users", 1, "--password", "w", "--conf", conf.name]
        super().setUpClass()

    def send(self, client, sender, helo="h.test", text="Subject: x\r\n\r\nbody\r\n"):
        """The code of the end of data; the message is in the mailbox then."""
        host, port = self.cluster.at("p1", "smtp")
        s = smtplib.SMTP(local_hostname=helo, timeout=30)
        s.sock = socket.create_connection((host, port), timeout=30)
        s._host = host
        s.sock.sendall(f"PROXY TCP4 {client} 192.0.2.200 4711 25\r\n".encode())
        self.assertEqual(s.getreply()[0], 220)
        with s:
            s.ehlo()
            self.assertEqual(s.mail(sender)[0], 250)
            self.assertEqual(s.rcpt(USER)[0], 250)
            return s.data(text.encode())[0]

    def newest(self):
        """The last message, unfolded."""
        with imaplib.IMAP4(*self.cluster.at("p1", "imap")) as c:
            c.starttls(ssl.create_default_context(cafile=self.cluster.ca))
            c.login(USER, "w")
            c.select("INBOX", readonly=True)
            return re.sub(r"\r\n[ \t]+", " ", c.fetch("*", "(BODY.PEEK[])")[1][0][1].decode())

    def check(self, client, sender, result, domain, **more):
        before = self.cluster.metric("p1", f'mailtier_spf_checks_total{{result="{result}"}}')
        self.assertEqual(self.send(client, sender, **more), 250)
        text = self.newest()
        self.assertRegex(text, rf"(?m)^Received-SPF: {result} \(mx\.example\.test: domain {re.escape(domain)} ")
        identity = f"smtp.mailfrom={sender}" if sender else f"smtp.helo={domain}"
        self.assertIn(f"Authentication-Results: mx.example.test; spf={result} {identity}\r\n", text)
        self.assertLess(text.index("Received-SPF:"), text.index(" by mx.example.test "))
        self.assertEqual(self.cluster.metric("p1", f'mailtier_spf_checks_total{{result="{result}"}}'), before + 1)
        return text

    def test_results(self):
        text = self.check(PASSING, "a@sender.test", "pass", "sender.test")
        self.assertIn('mechanism="include:spf.sender.test"', text)
        self.assertIn('client-ip=192.0.2.7; envelope-from="a@sender.test"; helo=h.test;', text)
        self.check("198.51.100.9", "a@sender.test", "pass", "sender.test")
        self.check(FAILING, "a@sender.test", "fail", "sender.test")
        self.assertRegex(self.cluster.log("p1"), r"INFO smtp: \w+: spf=fail identity=mailfrom domain=sender\.test client=192\.0\.2\.66 by=-all")
        self.check(PASSING, "a@plain.test", "none", "plain.test")
        self.check(PASSING, "a@broken.test", "permerror", "broken.test")

    def test_zz_explain_really_asks(self):
        def explain(program, sender, *words):
            return self.cluster.ctl_json(program, "smtp", "explain", "--ip", "192.0.2.66", "--from", sender, "--to", USER, *words)

        before = self.cluster.log("p1").count("spf=")
        got = explain("p1", "a@soft.test")
        self.assertEqual(("softfail", "soft.test", "~all", "refused", "softly"),
                         tuple(got[k] for k in ("spf", "spf_domain", "spf_by", "verdict", "rule")))
        self.assertEqual("fail", explain("p1", "a@sender.test")["spf"])
        self.assertEqual(("pass", "pass", "helo.sender.test"), tuple(
            explain("p1", "", "--helo", "helo.sender.test")[k] for k in ("spf", "spf_helo", "spf_domain")))
        for words in (["--no-dns"], ["--spf", "pass"], ["--user", USER]):
            got = explain("p1", "a@soft.test", *words)
            self.assertEqual(("accepted", False), (got["verdict"], "spf_domain" in got), words)
        self.assertEqual(before, self.cluster.log("p1").count("spf="))

    def test_the_null_sender_s_helo_is_checked(self):
        self.check(FAILING, "", "pass", "helo.sender.test", helo="helo.sender.test")
        self.check(PASSING, "", "fail", "helo.sender.test", helo="helo.sender.test")

    def test_security_22_a_bogus_answer_is_temperror(self):
        self.check(PASSING, "a@bogus.test", "temperror", "bogus.test")

    def test_security_16_the_killing_record_is_permerror(self):
        before = self.cluster.metric("p1", "mailtier_spf_checker_deaths_total")
        self.check(PASSING, "a@killer.test", "permerror", "killer.test")
        self.assertEqual(self.cluster.metric("p1", "mailtier_spf_checker_deaths_total"), before)

    def test_security_16_a_killed_checker_is_replaced(self):
        self.check(PASSING, "a@sender.test", "pass", "sender.test")
        proxy, killed, deaths = self.cluster.pid("p1"), 0, self.cluster.metric("p1", "mailtier_spf_checker_deaths_total")
        for name in os.listdir("/proc"):
            try:
                with open(f"/proc/{name}/stat") as f:
                    words = f.read().rsplit(")", 1)
            except (OSError, NotADirectoryError):
                continue
            if words[0].endswith("(mailtier-spf") and int(words[1].split()[1]) == proxy:
                os.kill(int(name), signal.SIGKILL)
                killed += 1
        self.assertGreater(killed, 0)
        mt.wait_for(lambda: self.cluster.metric("p1", "mailtier_spf_checker_deaths_total") == deaths + killed, 10, "all are counted")
        self.assertIn("SPF checker was ended by signal 9", self.cluster.log("p1"))
        self.check(PASSING, "a@sender.test", "pass", "sender.test")

    def test_security_20_forged_results_go(self):
        forged = ("Authentication-Results: mx.example.test; spf=pass\r\n smtp.mailfrom=boss@bank.test\r\n"
                  "authentication-results: (x) \"MX.example.test\" 1; dkim=pass header.d=bank.test\r\n"
                  "Authentication-Results: elsewhere.test; dkim=pass header.d=kept.test\r\nSubject: x\r\n\r\n"
                  "Authentication-Results: mx.example.test; in the body\r\n")
        text = self.check(FAILING, "a@sender.test", "fail", "sender.test", text=forged)
        self.assertNotIn("bank.test", text)
        self.assertIn("kept.test", text)
        self.assertIn("in the body", text)
        self.assertEqual(text.count("Authentication-Results: mx.example.test; spf="), 1)

    def test_a_rule_sees_the_result_at_mail(self):
        with self.assertRaises(AssertionError) as refused:
            self.send(FAILING, "a@soft.test")
        self.assertIn("550 != 250", str(refused.exception))
        self.assertRegex(self.cluster.log("p1"), r"spf=softfail identity=mailfrom domain=soft\.test")

    def test_clients_on_loopback_are_not_checked(self):
        self.assertEqual(self.send("127.0.0.9", "a@sender.test"), 250)
        self.assertNotIn("Received-SPF", self.newest())


if __name__ == "__main__":
    unittest.main()
