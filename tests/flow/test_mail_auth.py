"""DKIM, DMARC and ARC through the real programs, with a name server of the test's own; dkimpy and opendkim judge (classes 20, 21)."""
import base64
import email
import email.policy
import imaplib
import os
import re
import shutil
import signal
import smtplib
import ssl
import subprocess
import tempfile
import unittest

import dkim_oracle
import dns_zone
import mt

PASSWORD = "secret"
A, B = "user0001@example.test", "user0002@example.test"
HOST = "p1.example.test"

# What canonical forms stumble over: bodies, and headers before "From".
BODIES = {
    "empty": b"", "one empty line": b"\r\n", "no end": b"no line end", "trailing": b"text \t\r\n \r\n\r\n\r\n", "late": b"\r\n\r\nlate\r\n",
    "dots": b".\r\n..\r\n. x\r\n", "eight bits": b"\xc3\xa4\xff\x80\r\n", "blanks": b" a  b\t\tc \r\n\td\r\n", "long": b"x" * 990 + b"\r\n" + b"y\r\n" * 30000,
}
HEADERS = {
    "plain": b"", "folded": b"Subject: a\r\n\tb \r\n  c\t\r\n", "twice": b"X-T: 1\r\nReceived: from a\r\nReceived: from b\r\n",
    "eight bits": b"Subject: \xc3\xa4\xf6\r\n", "empty": b"Subject:\r\nComments: \r\n",
}


def message(number, head=b"", body=b"x\r\n", sender="alice@example.test"):
    ident = f"<t{number}@example.test>"
    return (head + f"From: A <{sender}>\r\nTo: {A}\r\nDate: Fri, 20 Nov 2026 12:00:00 +0000\r\nMessage-ID: {ident}\r\n\r\n".encode() + body)


def txt(name, text):
    pieces = " ".join(f'"{text[i:i + 200]}"' for i in range(0, len(text), 200))
    return f"{name} TXT {pieces}\n"


@unittest.skipUnless(dns_zone.is_there() and dkim_oracle.is_there(), "nsd, ldnsutils, python3-dkim, python3-authres or python3-nacl is not installed")
class MailAuth(mt.ClusterCase):
    @classmethod
    def setUpClass(cls):
        cls.dir = tempfile.mkdtemp(prefix="mt-dkim-")
        cls.addClassCleanup(shutil.rmtree, cls.dir)
        cls.keys, public = {}, {}
        for name, algorithm in (("rsa", ["RSA", "-pkeyopt", "rsa_keygen_bits:2048"]), ("ed", ["ED25519"]), ("other", ["RSA"])):
            path = cls.keys[name] = os.path.join(cls.dir, name + ".pem")
            with open(path, "w", opener=lambda p, f: os.open(p, f, 0o600)) as out:
                subprocess.run(["openssl", "genpkey", "-algorithm", *algorithm], stdout=out, stderr=subprocess.DEVNULL, check=True)
            der = subprocess.run(["openssl", "pkey", "-in", path, "-pubout", "-outform", "DER"], capture_output=True, check=True).stdout
            public[name] = base64.b64encode(der if name != "ed" else der[-32:]).decode()
        cls.records = {
            "rsa._domainkey.example.test": f"v=DKIM1; k=rsa; p={public['rsa']}",
            "ed._domainkey.example.test": f"v=DKIM1; k=ed25519; p={public['ed']}",
            "m._domainkey.mx.test": f"v=DKIM1; k=rsa; p={public['rsa']}",
            "m._domainkey.attacker.test": f"v=DKIM1; k=rsa; p={public['other']}",
            "gone._domainkey.example.test": "v=DKIM1; k=rsa; p=",
            "_dmarc.example.test": "v=DMARC1; p=none; sp=reject",
            "_dmarc.strict.test": "v=DMARC1; p=reject; adkim=s",
        }
        # The zone is the top, so that the walk ends in "no such name" and not in a refusal.
        cls.zone = dns_zone.DnsServer({"test": "".join(txt(name[:-len(".test")], text) for name, text in cls.records.items())})
        cls.addClassCleanup(cls.zone.stop)
        cls.oracle = dkim_oracle.Oracle(cls.records)
        cls.addClassCleanup(cls.oracle.stop)
        conf = cls.conf = os.path.join(cls.dir, "proxy.conf")
        with open(conf, "w") as out:
            out.write(cls.zone.conf + "mail-auth {\n\tverify = {dkim, dmarc, arc}\n\tdmarc-policy = reject\n\tarc-seal = mx.test\n}\n"
                      f"dkim rsa {{\n\tdomains = {{example.test}}\n\tselector = rsa\n\tkey = \"{cls.keys['rsa']}\"\n}}\n"
                      f"dkim ed {{\n\tdomains = {{example.test}}\n\tselector = ed\n\tkey = \"{cls.keys['ed']}\"\n}}\n"
                      f"dkim later {{\n\tdomains = {{example.test}}\n\tselector = later\n\tkey = \"{cls.keys['other']}\"\n\tsign-from = 2999-01-01\n}}\n"
                      f"dkim mx {{\n\tdomains = {{mx.test}}\n\tselector = m\n\tkey = \"{cls.keys['rsa']}\"\n}}\n")
        cls.cluster = mt.Cluster("--proxies", 1, "--backends", 1, "--users", 2, "--password", PASSWORD, "--conf", conf)
        cls.number = 0

    def context(self):
        context = ssl.create_default_context(cafile=self.cluster.ca)
        context.check_hostname = False
        return context

    def send(self, messages, sender="bounce@example.test", to=A):
        """By smtp; the codes."""
        codes = []
        with smtplib.SMTP(*self.cluster.at("p1", "smtp"), timeout=20) as s:
            for one in messages:
                try:
                    s.sendmail(sender, [to], one, mail_options=["BODY=8BITMIME"])
                    codes.append(250)
                except smtplib.SMTPDataError as e:
                    codes.append(e.smtp_code)
        return codes

    def submit(self, messages):
        with smtplib.SMTP(*self.cluster.at("p1", "submission"), timeout=20) as s:
            s.starttls(context=self.context())
            s.login(A, PASSWORD)
            for one in messages:
                s.sendmail(A, [B], one, mail_options=["BODY=8BITMIME"])

    def newest(self, count, user=A):
        """The last messages of INBOX, octet by octet, without what the tiers put before our own fields."""
        with imaplib.IMAP4_SSL(*self.cluster.at("p1", "imaps"), ssl_context=self.context(), timeout=20) as m:
            m.login(user, PASSWORD)
            m.select("INBOX", readonly=True)
            total = int(m.response("EXISTS")[1][-1])
            data = m.fetch(f"{total - count + 1}:{total}", "(BODY.PEEK[])")[1]
            return [part[1] for part in data if isinstance(part, tuple)]

    def ours(self, raw):
        """Our Authentication-Results, unfolded."""
        fields = [re.sub(r"\s+", " ", str(v)) for k, v in email.message_from_bytes(raw).items() if k.lower() == "authentication-results"]
        return [f for f in fields if f.startswith(HOST + ";")]

    def one(self, raw):
        fields = self.ours(raw)
        self.assertEqual(len(fields), 1, raw[:2000])
        return fields[0]

    def next(self):
        type(self).number += 1
        return self.number

    def test_what_dkimpy_signs_passes(self):
        signed = []
        for head in HEADERS.values():
            for body in BODIES.values():
                name, algorithm = (("rsa", "rsa-sha256"), ("ed", "ed25519-sha256"))[len(signed) % 2]
                forms = ("relaxed/relaxed", "simple/simple", "relaxed/simple", "simple/relaxed")[len(signed) % 4]
                # smtplib ends an unfinished last line; the canonical form does the same.
                signed.append(self.oracle.sign(message(self.next(), head, body), name, "example.test", self.keys[name], algorithm, forms))
        self.assertEqual(set(self.send(signed)), {250})
        for sent, got in zip(signed, self.newest(len(signed))):
            text = self.one(got)
            self.assertIn("dkim=pass", text, sent[:1500])
            self.assertIn("dmarc=pass", text)
            self.assertIn("arc=none", text)

    def test_one_octet_changed_fails(self):
        whole = self.oracle.sign(message(self.next(), b"Subject: pay 100\r\n", b"pay 100\r\n"), "rsa", "example.test", self.keys["rsa"])
        changed = [whole.replace(b"Subject: pay 100", b"Subject: pay 900"), whole.replace(b"\r\n\r\npay 100", b"\r\n\r\npay 900"),
                   whole.replace(b"alice@", b"alicf@"), whole + b"more\r\n"]
        self.assertEqual(self.send(changed, sender="x@elsewhere.test"), [250] * 4)
        for got in self.newest(4):
            self.assertIn("dkim=fail", self.one(got))
            self.assertIn("dmarc=fail (p=none", self.one(got))

    def test_what_we_sign_passes_at_dkimpy(self):
        plain = [message(self.next(), head, body, A) for head in HEADERS.values() for body in BODIES.values()]
        self.submit(plain)
        for sent, got in zip(plain, self.newest(len(plain), B)):
            self.assertEqual(self.oracle.verify(got), [("example.test", "rsa", True), ("example.test", "ed", True)], sent[:800])

    def test_what_we_sign_passes_at_opendkim(self):
        program = shutil.which("opendkim", path=os.environ["PATH"] + ":/usr/sbin")
        if not program:
            self.skipTest("opendkim is not installed")
        host, port = self.zone.address.split(":")
        with open(os.path.join(self.dir, "resolver.conf"), "w") as out:
            out.write(f'server:\n\tdo-not-query-localhost: no\n\tlocal-zone: "test." transparent\nforward-zone:\n\tname: "."\n\tforward-addr: {host}@{port}\n')
        with open(os.path.join(self.dir, "opendkim.conf"), "w") as out:
            out.write(f"Mode v\nResolverConfiguration {self.dir}/resolver.conf\n")
        heads = list(HEADERS.values()) + [b"Subject :  odd  \r\n"] # the last is too odd for dkimpy
        plain = [message(self.next(), head, body, A) for head, body in zip(heads, [b"", b"x \r\n\r\n", b"no end"] * 3)]
        self.submit(plain)
        paths = [os.path.join(self.dir, f"{number}.eml") for number in range(len(plain))]
        for path, got in zip(paths, self.newest(len(plain), B)):
            with open(path, "wb") as out:
                out.write(got)
        done = subprocess.run([program, "-x", f"{self.dir}/opendkim.conf", "-v", "-t", ",".join(paths)], capture_output=True, text=True,
                              timeout=60)
        for path in paths:
            self.assertIn(path + ": verification (s=rsa, d=example.test, 2048-bit key) succeeded", done.stdout + done.stderr)

    def test_chains(self):
        plain = message(self.next())
        with_results = b"Authentication-Results: mx.test; dkim=pass\r\n" + plain
        once = self.oracle.seal(with_results, "m", "mx.test", self.keys["rsa"], "mx.test")
        twice = self.oracle.seal(b"Authentication-Results: mx.test; arc=pass\r\n" + once, "m", "mx.test", self.keys["rsa"], "mx.test")
        broken = twice.replace(b"\r\n\r\nx", b"\r\n\r\ny")
        self.assertEqual(self.send([plain, once, twice, broken]), [250] * 4)
        got = self.newest(4)
        for raw, want in zip(got, ("arc=none", "arc=pass (i=1)", "arc=pass (i=2)", "arc=fail")):
            self.assertIn(want, self.one(raw))
        # Our own seal is over them.
        for raw, instance in zip(got[:3], (1, 2, 3)):
            self.assertIn(b"ARC-Seal: i=%d; a=rsa-sha256; cv=%s;" % (instance, b"none" if instance == 1 else b"pass"), raw)
            self.assertEqual(self.oracle.verify_chain(raw), "pass")
        self.assertIn(b"cv=fail", got[3])

    def test_keys_are_listed_and_held_against_the_dns(self):
        rows = {(r["domain"], r["selector"]): r for r in self.cluster.ctl_json("p1", "dkim", "list", "--check")["rows"]}
        self.assertEqual({k: (r["algorithm"], r["bits"], r["state"], r["published"]) for k, r in rows.items()}, {
            ("example.test", "rsa"): ("rsa", 2048, "signs", "yes"), ("example.test", "ed"): ("ed25519", 256, "signs", "yes"),
            ("example.test", "later"): ("rsa", 2048, "later", "no"), ("mx.test", "m"): ("rsa", 2048, "signs", "yes")})
        for (domain, selector), r in rows.items():
            if selector != "later":
                self.assertEqual(r["record"], self.records[f"{selector}._domainkey.{domain}"])
        self.assertEqual(len(self.cluster.ctl_json("p1", "dkim", "list", "MX.test")["rows"]), 1)

    def test_security_20_dmarc_policy_is_obeyed(self):
        good = self.oracle.sign(message(self.next(), sender="a@strict.test"), "m", "attacker.test", self.keys["other"])
        several = [b"From: ceo@strict.test\r\n", b"from : ceo@strict.test\r\n", b"FROM:ceo@strict.test\r\n"]
        signed = self.oracle.sign(message(self.next()), "rsa", "example.test", self.keys["rsa"])
        cases = [(good, 550), (message(self.next(), sender="x@sub.example.test"), 550), (message(self.next(), sender="x@nowhere.test"), 250)]
        cases += [(head + signed, 550) for head in several]
        cases += [(signed.replace(b"From: A <alice@example.test>", b"From: <ceo@strict.test>, A <alice@example.test>"), 550)]
        self.assertEqual(self.send([m for m, _ in cases], sender="x@attacker.test"), [code for _, code in cases])

    def test_security_20_dmarc_policy_quarantine_holds(self):
        """The same proxy, told otherwise by a reload, and then as before."""
        with open(self.conf) as f:
            text = f.read()
        failing = message(self.next(), sender="a@strict.test")
        try:
            with open(self.conf, "w") as f:
                f.write(text.replace("dmarc-policy = reject", "dmarc-policy = quarantine"))
            self.cluster.kill("p1", signal.SIGHUP)
            mt.wait_for(lambda: self.send([failing], sender="x@attacker.test") == [250], 20, "a reload")
            held = mt.wait_for(lambda: [r for r in self.cluster.ctl_json("b1", "queue", "list")["rows"] if r["state"] == "held"], 20,
                               "a message that is held")
            self.assertIn("DMARC", self.cluster.ctl_json("b1", "queue", "show", held[0]["id"])["rows"][0]["reason"])
        finally:
            with open(self.conf, "w") as f:
                f.write(text)
            self.cluster.kill("p1", signal.SIGHUP)
            mt.wait_for(lambda: self.send([failing], sender="x@attacker.test") == [550], 20, "the reload back")

    def test_security_20_forged_results_are_removed(self):
        forged = [b"Authentication-Results: " + HOST.encode() + b"; dkim=pass header.d=bank.test\r\n",
                  b"authentication-results:\r\n\t(x) " + HOST.upper().encode() + b" ; dmarc=pass\r\n",
                  b"Authentication-Results: \"" + HOST.encode() + b"\" 1; spf=pass\r\n"]
        others = b"Authentication-Results: other.test; dkim=pass\r\n"
        self.assertEqual(self.send([head + others + message(self.next(), sender="x@nowhere.test") for head in forged]), [250] * 3)
        for raw in self.newest(3):
            self.assertIn("dkim=none", self.one(raw))
            self.assertEqual(raw.count(b"other.test; dkim=pass"), 1)
            self.assertNotIn(b"bank.test", raw.split(b"ARC-")[0])

    def test_security_21_tricks_of_identities_do_not_align(self):
        """What espoofer's list does to the author and to d=: nothing of it passes for strict.test or example.test."""
        plain = message(self.next(), sender="x@nowhere.test")
        heads = [b"From: <alice@strict.test\x01@attacker.test>\r\n", b"From: alice@strict.test (a) <x@attacker.test>\r\n",
                 b"From: =?utf-8?B?YWxpY2VAc3RyaWN0LnRlc3Q=?= <x@attacker.test>\r\n", b"From: alice@strict.test,x@attacker.test\r\n",
                 b"From:\r\n alice@strict.test\r\n", b"From\t: alice@strict.test\r\n", b"From: <@attacker.test,@x:alice@strict.test>\r\n",
                 b"From: \"alice\"@strict.test\r\n", b"From: ALICE@STRICT.TEST\r\n", b"From: alice@strict.test.\r\n", b"\tFrom: x@attacker.test\r\n"]
        sent = []
        for head in heads:
            raw = re.sub(rb"From: [^\r]*\r\n", lambda _: head, plain, count=1)
            if b"\t" not in head: # what dkimpy reads
                raw = self.oracle.sign(raw, "m", "attacker.test", self.keys["other"])
            sent.append(raw)
        codes = self.send(sent, sender="x@attacker.test")
        delivered = self.newest(codes.count(250)) if 250 in codes else []
        for raw in delivered:
            text = self.one(raw)
            self.assertNotRegex(text, r"dmarc=pass[^;]*header\.from=(strict|example)\.test")
        # Those that a reader shows as alice@strict.test are refused.
        for at in (3, 4, 5, 6, 7, 8):
            self.assertEqual(codes[at], 550, heads[at])


if __name__ == "__main__":
    unittest.main()
