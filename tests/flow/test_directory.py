"""A proxy whose users stand in a real slapd: logins by password and by bind, mail to an alias, the directory stopped and gone. Skipped
without slapd."""
import imaplib
import os
import signal
import smtplib
import socket
import time
import unittest

import mt
from slapd import BASE, SLAPD, Slapd

USERS = 6
CONF = """
connector dir {{
    uris = {{"ldap://127.0.0.1:{port}"}}
    ca = {dir}/cert.pem
    bind-dn = "cn=proxy,{base}"
    password = {dir}/password
    base = "{base}"
    timeout = 2s
    connect-timeout = 1s
    health-interval = 1s
}}
map by-password {{ type = ldap-password connector = dir positive-ttl = 1s }}
map by-bind {{ type = ldap-bind connector = dir positive-ttl = 1s }}
service imap {{ maps = {{by-password}} }}
service pop3 {{ maps = {{by-bind}} }}
service submission {{ maps = {{by-bind}} }}
service smtp {{ maps = {{by-password}} }}
"""


@unittest.skipUnless(os.path.exists(SLAPD), "slapd is not installed")
class Directory(mt.ClusterCase):
    @classmethod
    def setUpClass(cls):
        cls.slapd = Slapd(USERS)
        cls.addClassCleanup(cls.slapd.end)
        cls.slapd.write("proxy.conf", CONF.format(port=cls.slapd.port, dir=cls.slapd.dir, base=BASE))
        cls.FLAGS = ["--proxies", 1, "--backends", 2, "--users", USERS, "--conf", cls.slapd.path("proxy.conf")]
        super().setUpClass()

    def setUp(self):
        mt.wait_for(lambda: self.status("by-bind")["usable"], 15, "the connector is up")

    def status(self, name):
        return next(r for r in self.cluster.ctl_json("p1", "map", "status")["rows"] if r["map"] == name)

    def imap(self, user, password):
        """The tagged answer of LOGIN."""
        m = imaplib.IMAP4(*self.cluster.at("p1", "imap"))
        try:
            typ, data = m._simple_command("LOGIN", m._quote(user), m._quote(password))
            return typ + " " + data[-1].decode()
        finally:
            m.shutdown()

    def pop3(self, user, password):
        with socket.create_connection(self.cluster.at("p1", "pop3"), timeout=20) as s:
            f = s.makefile("rwb")
            f.readline()
            for line in (f"USER {user}", f"PASS {password}"):
                f.write(line.encode() + b"\r\n")
                f.flush()
                answer = f.readline().decode()
            return answer

    def test_logins(self):
        self.assertTrue(self.imap("user0001@example.test", "dir-0001").startswith("OK"))
        self.assertIn("AUTHENTICATIONFAILED", self.imap("user0001@example.test", "dir-0002"))
        self.assertIn("AUTHENTICATIONFAILED", self.imap("nobody@example.test", "x"))
        self.assertIn("AUTHENTICATIONFAILED", self.imap("*@example.test", "dir-0001"))
        self.assertTrue(self.pop3("user0002@example.test", "dir-0002").startswith("+OK"))
        self.assertIn("[AUTH]", self.pop3("user0002@example.test", "dir-0001"))

    def test_mail_to_an_alias_arrives(self):
        with smtplib.SMTP(*self.cluster.at("p1", "smtp"), timeout=20) as s:
            self.assertEqual(s.sendmail("a@elsewhere.example", ["alias3@example.test"], "Subject: by alias\r\n\r\nx\r\n"), {})
            with self.assertRaises(smtplib.SMTPRecipientsRefused) as refused:
                s.sendmail("a@elsewhere.example", ["alias99@example.test"], "Subject: x\r\n\r\nx\r\n")
            self.assertEqual(list(refused.exception.recipients.values())[0][0] // 100, 5)
        m = imaplib.IMAP4(*self.cluster.at("p1", "imap"))
        m.login("user0003@example.test", "dir-0003")
        m.select()
        self.assertEqual(len(m.search(None, "SUBJECT", '"by alias"')[1][0].split()), 1)
        m.logout()

    def test_explain_and_flush(self):
        explained = self.cluster.ctl_json("p1", "map", "explain", "user0004@example.test", "--service", "imap")
        self.assertEqual(explained["backend"], "b2")
        self.assertEqual(self.cluster.ctl_json("p1", "map", "explain", "alias4@example.test", "--service", "smtp")["account"],
                         "user0004@example.test")
        self.assertGreater(self.status("by-password")["entries"], 0)
        self.cluster.ctl("p1", "map", "flush", "user0004@example.test")
        self.cluster.ctl("p1", "map", "flush")
        self.assertEqual(self.status("by-password")["entries"], 0)

    def test_reload_renews_what_changed(self):
        self.assertTrue(self.pop3("user0002@example.test", "dir-0002").startswith("+OK"))
        for changed in (CONF, CONF.replace("timeout = 2s", "timeout = 3s"), CONF.replace("positive-ttl = 1s", "positive-ttl = 2s"), CONF):
            self.slapd.write("proxy.conf", changed.format(port=self.slapd.port, dir=self.slapd.dir, base=BASE))
            before = self.cluster.log("p1").count("configuration read again")
            self.cluster.kill("p1", signal.SIGHUP)
            mt.wait_for(lambda: self.cluster.log("p1").count("configuration read again") > before, 10, "reload")
            self.assertTrue(self.pop3("user0002@example.test", "dir-0002").startswith("+OK"))
            self.assertTrue(self.imap("user0001@example.test", "dir-0001").startswith("OK"))
        mt.wait_for(lambda: self.cluster.metric("p1", "mailtier_directory_up") == 1, 10, "the gauge is the new connector's")
        mt.wait_for(lambda: self.cluster.metric("p1", "mailtier_directory_connections") == 3, 10,
                    "two connections that search, one that binds, and none of the connectors that went")

    def test_stopped_and_gone(self):
        self.assertTrue(self.pop3("user0005@example.test", "dir-0005").startswith("+OK"))
        for fault, mend in ((self.slapd.halt, self.slapd.go), (self.slapd.kill, self.slapd.start)):
            self.assertTrue(self.imap("user0005@example.test", "dir-0005").startswith("OK"))
            time.sleep(1.1)  # positive-ttl
            fault()
            begin = time.monotonic()
            self.assertIn("[UNAVAILABLE]", self.imap("user0006@example.test", "dir-0006"))
            self.assertLess(time.monotonic() - begin, 4)
            self.assertTrue(self.imap("user0005@example.test", "dir-0005").startswith("OK"))
            self.assertIn("[SYS/TEMP]", self.pop3("user0006@example.test", "dir-0006"))
            mt.wait_for(lambda: not self.status("by-bind")["usable"], 15, "the connector is down")
            mend()
            mt.wait_for(lambda: self.status("by-bind")["usable"], 15, "the connector is up")
            self.assertTrue(self.pop3("user0006@example.test", "dir-0006").startswith("+OK"))
            self.cluster.ctl("p1", "map", "flush")
        self.assertEqual(self.cluster.log("p1").count("connector is down"), 2)


if __name__ == "__main__":
    unittest.main()
