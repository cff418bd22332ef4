"""Sending to servers of other makers, by the DNS: Postfix under DANE, right and wrong, and OpenSMTPD; what operators see of it."""
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
import unittest

import dns_zone
import mt
import peers
from backend_case import BackendCase

PORT = 21000


def key_digest(certificate):
    """SHA-256 of the certificate's key, as TLSA 3 1 1 means it."""
    pem = subprocess.run(["openssl", "x509", "-in", certificate, "-noout", "-pubkey"], check=True, capture_output=True).stdout
    der = subprocess.run(["openssl", "pkey", "-pubin", "-outform", "DER"], input=pem, check=True, capture_output=True).stdout
    return hashlib.sha256(der).hexdigest()


class Sending(BackendCase):
    USERS = 3

    @classmethod
    def setUpClass(cls):
        if not dns_zone.is_there():
            raise unittest.SkipTest("nsd, ldnsutils: not there")
        cls.folder = tempfile.mkdtemp(prefix="mt-sending-")
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        certificate = peers.Certificates(cls.folder).make("mx", "DNS:mxpf.signed.test,DNS:mxos.plain.test")
        cls.postfix = peers.Postfix(certificate, domains="pf.signed.test bad.signed.test")
        cls.addClassCleanup(cls.postfix.stop)
        cls.opensmtpd = peers.OpenSmtpd(certificate, "os.plain.test")
        cls.addClassCleanup(cls.opensmtpd.stop)
        cls.digest = key_digest(certificate[0])
        cls.zone = dns_zone.DnsServer({"signed.test": cls.signed("00" * 32),
                                       "plain.test": f"os MX 10 mxos\nmxos A {cls.opensmtpd.host}\nnone MX 0 .\n"},
                                      signed=["signed.test"], ttl=1)
        cls.addClassCleanup(cls.zone.stop)
        cls.CONF = (cls.zone.conf + f"queue {{\n\tretry-first = 1s\n\tretry-most = 2s\n}}\n"
                    f"sending {{\n\tport = {PORT}\n\tca = \"{cls.folder}/ca.pem\"\n\tprefer = ipv4-only\n}}\n")
        super().setUpClass()

    @classmethod
    def signed(cls, wrong):
        host = cls.postfix.host
        return (f"pf MX 10 mxpf\nmxpf A {host}\n_{PORT}._tcp.mxpf TLSA 3 1 1 {cls.digest}\n"
                f"bad MX 10 mxbad\nmxbad A {host}\n_{PORT}._tcp.mxbad TLSA 3 1 1 {wrong}\n")

    def forward(self, i, to):
        self.cluster.ctl("b1", "account", "set", self.user(i), "--forward", to, "--no-keep")

    def queued(self, domain):
        return self.cluster.ctl_json("b1", "queue", "list", "--domain", domain).get("rows", [])

    def wait_message(self, server, word):
        mt.wait_for(lambda: any(word in m for m in server.messages()), 30,
                    lambda: f"{word} arrives\n{self.cluster.log('b1')[-3000:]}\n{server.log()[-2000:]}")
        return next(m for m in server.messages() if word in m)

    def line(self, to):
        return [line for line in self.cluster.log("b1").splitlines() if f"to=<{to}>" in line]

    def test_dane_with_postfix(self):
        self.forward(1, "friend@pf.signed.test")
        self.deliver(self.user(1), "Subject: word-one\r\n\r\n.a dot\r\n..two\r\nlast\r\n")
        got = self.wait_message(self.postfix, "word-one")
        self.assertIn("\n.a dot\n..two\nlast\n", got)
        mt.wait_for(lambda: self.line("friend@pf.signed.test"), 10, "the line in the log")
        line = self.line("friend@pf.signed.test")[-1]
        self.assertIn(f"relay=mxpf.signed.test[{self.postfix.host}]:{PORT} ", line)
        self.assertRegex(line, r" tls=TLSv1\.3/[A-Z0-9_]+/dane dsn=2\.\d\.\d status=sent \(")
        rows = self.cluster.ctl_json("b1", "tlsrpt", "show", "pf.signed.test")["rows"]
        self.assertEqual([(r["policy-type"], r["receiving-mx-hostname"]) for r in rows], [("tlsa", "mxpf.signed.test")])
        self.assertGreaterEqual(rows[0]["successful-session-count"], 1)

    def test_dane_that_does_not_fit_waits_until_it_does(self):
        self.forward(2, "friend@bad.signed.test")
        self.deliver(self.user(2), "Subject: word-two\r\n\r\nx\r\n")
        mt.wait_for(lambda: any(r["tries"] > 0 for r in self.queued("bad.signed.test")), 20, "a try")
        row = self.queued("bad.signed.test")[0]
        self.assertEqual((row["state"], row["status"]), ("waiting", "4.7.5"))
        self.assertFalse(any("word-two" in m for m in self.postfix.messages()))
        report = json.loads(self.cluster.ctl_json("b1", "tlsrpt", "report", "bad.signed.test")["report"])
        self.assertEqual(report["policies"][0]["policy"], {"policy-type": "tlsa", "policy-domain": "bad.signed.test"})
        detail = report["policies"][0]["failure-details"][0]
        self.assertEqual((detail["result-type"], detail["receiving-mx-hostname"]), ("validation-failure", "mxbad.signed.test"))
        self.zone.update("signed.test", self.signed(self.digest))
        self.wait_message(self.postfix, "word-two")

    def test_opensmtpd(self):
        self.forward(3, "friend@os.plain.test")
        self.deliver(self.user(3), "Subject: word-three\r\n\r\n.a dot\r\nlast\r\n")
        self.assertIn("\n.a dot\nlast\n", self.wait_message(self.opensmtpd, "word-three"))

    def test_what_is_not_counted(self):
        code, text = self.cluster.ctl("b1", "tlsrpt", "report", "nowhere.test", code=None)
        self.assertEqual(code, 1, text)
        code, text = self.cluster.ctl("b1", "tlsrpt", "show", "--day", "yesterday", code=None)
        self.assertEqual(code, 64, text)


if __name__ == "__main__":
    unittest.main()
