"""A proxy whose users stand in a real Active Directory (Samba's domain controller): the example of docs/operations.md word for word, over
LDAPS; then StartTLS, a service bind by Kerberos, and users who may not come in. Skipped without Samba or root."""
import imaplib
import os
import re
import smtplib
import unittest

import mt
import samba

DOMAIN = "corp.example"
PAGE = os.path.join(mt.ROOT, "docs", "operations.md")
SECOND = """
connector tickets {{
    type = activedirectory
    uris = {{"ldap://{address}"}}
    ca = {dir}/dc.pem
    bind = gssapi
    keytab = {dir}/mailproxy.keytab
    principal = mailproxy@CORP.EXAMPLE
    base = "DC=corp,DC=example"
    host-attribute = info
    health-interval = 1s
}}
connector stranger {{
    type = activedirectory
    uris = {{"ldaps://{address}"}}
    ca = {dir}/other.pem
    bind-dn = "CN=mailproxy,CN=Users,DC=corp,DC=example"
    password = {dir}/ad.password
    base = "DC=corp,DC=example"
    health-interval = 1s
}}
connector nobody {{
    type = activedirectory
    uris = {{"ldap://{address}"}}
    ca = {dir}/dc.pem
    bind = gssapi
    keytab = {dir}/stranger.keytab
    base = "DC=corp,DC=example"
    health-interval = 1s
}}
map by-ticket {{ type = ldap-bind connector = tickets domains = {{corp.example}} positive-ttl = 1s }}
map untrusted {{ type = ldap-bind connector = stranger domains = {{untrusted.example}} }}
map refused {{ type = ldap-bind connector = nobody domains = {{refused.example}} }}
limits {{ failed-login-delay = 0s penalty-delay = 1ms penalty-most = 100ms }}
service imap {{ maps = {{by-ticket, untrusted, refused}} }}
service smtp {{ maps = {{by-ticket}} }}
"""


def block(name):
    """What stands in the page after <!-- name -->, word for word."""
    with open(PAGE) as f:
        return re.search(rf"<!-- {name} -->\n```\n(.*?)```\n", f.read(), re.S).group(1)


def setUpModule():
    global ad
    why = samba.missing()
    if why:
        raise unittest.SkipTest(why)
    ad = samba.Samba(DOMAIN)
    unittest.addModuleCleanup(ad.end)
    long_name = {"userPrincipalName": "carol.long@corp.example", "mail": "user0003@corp.example"}
    ad.users(("mailproxy", "proxy-Pw-1", {}),
             ("user0001", "pw-1", {"mail": "user0001@corp.example", "info": "b1",
                                   "proxyAddresses": ["SMTP:user0001@corp.example", "smtp:first@corp.example"]}),
             ("user0002", "pw-2", {"mail": "user0002@corp.example", "info": "b2,b1"}),
             ("carol", "pw-3", {**long_name, "info": "b1"}),
             ("user0004", "pw-4", {"mail": "user0004@corp.example", "info": "b1"}),
             ("twin-a", "pw-a", {"mail": "user0005@corp.example"}),
             ("twin-b", "pw-b", {"mail": "user0005@corp.example"}),
             ("disabled", "pw-d", {"mail": "user0006@corp.example", "userAccountControl": "514", "info": "b1"}),
             ("expired", "pw-e", {"accountExpires": "131000000000000000"}),
             ("must", "pw-m", {"pwdLastSet": "0"}),
             ("locked", "pw-l", {}),
             ("changes", "old-pw", {"mail": "user0006@corp.example"}))
    ad.write("ad.password", "proxy-Pw-1\n")
    ad.keytab("mailproxy.keytab", "mailproxy")
    ad.keytab("stranger.keytab", "user0004")
    ad.tool("user", "setpassword", "user0004", "--newpassword=pw-4b")  # so that the key in that keytab is an old one
    ad.start()


class Case(mt.ClusterCase):
    def map(self, name):
        return next(r for r in self.cluster.ctl_json("p1", "map", "status")["rows"] if r["map"] == name)

    def imap(self, user, password):
        """The tagged answer of LOGIN."""
        m = imaplib.IMAP4(*self.cluster.at("p1", "imap"))
        try:
            typ, data = m._simple_command("LOGIN", m._quote(user), m._quote(password))
            return typ + " " + data[-1].decode()
        finally:
            m.shutdown()

    def assert_in(self, user, password):
        answer = self.imap(user, password)
        self.assertTrue(answer.startswith("OK"), f"{user}: {answer}")

    def assert_out(self, user, password):
        self.assertIn("AUTHENTICATIONFAILED", self.imap(user, password), user)

    def explain(self, name, service):
        return self.cluster.ctl_json("p1", "map", "explain", name, "--service", service)


class TheExample(Case):
    """docs/operations.md says: your domain controllers (the second one is gone here), your files' folder, your back-ends' accounts."""

    @classmethod
    def setUpClass(cls):
        conf = block("active directory")
        for text in ("ldaps://dc1.corp.example", "ldaps://dc2.corp.example", "/etc/mailtier/"):
            assert text in conf, text
        conf = conf.replace("dc1.corp.example", ad.address).replace("dc2.corp.example", "127.0.0.1:9").replace("/etc/mailtier/", ad.dir + "/")
        # The many failed logins of one client are slowed down elsewhere, in test_penalty.
        ad.write("proxy.conf", conf + "limits { failed-login-delay = 0s penalty-delay = 1ms penalty-most = 100ms }\n")
        ad.write("users", block("active directory users"))
        ad.write("backend.conf", block("active directory accounts"))
        with open(ad.path("dc.pem")) as f:
            ad.write("ad-ca.pem", f.read())
        cls.FLAGS = ["--proxies", 1, "--backends", 2, "--users", 1, "--conf", ad.path("proxy.conf"), "--backend-conf", ad.path("backend.conf")]
        super().setUpClass()
        for n in (1, 3, 4, 5, 6):  # user0002's is made when he logs in
            cls.cluster.ctl("b1", "account", "add", f"user{n:04}@corp.example")

    def setUp(self):
        mt.wait_for(lambda: self.map("people")["usable"], 30, "the connector is up")

    def test_names(self):
        self.assert_in("user0001@corp.example", "pw-1")
        self.assertNotIn("user0002@", self.cluster.ctl("b1", "account", "list"))
        self.assert_in("user0002@corp.example", "pw-2")
        self.assertIn("user0002@corp.example", self.cluster.ctl("b1", "account", "list"))
        self.assert_in("carol.long@corp.example", "pw-3")  # userPrincipalName
        self.assert_in("carol@corp.example", "pw-3")  # sAMAccountName
        for name in ("carol.long@corp.example", "carol@corp.example"):
            self.assertEqual(self.explain(name, "imap")["account"], "user0003@corp.example", name)
        self.assert_out("user0001@corp.example", "pw-2")
        self.assert_out("nobody@corp.example", "pw-1")
        self.assert_out("*@corp.example", "pw-1")
        self.assert_out("user0001@corp.example", "")

    def test_the_first_of_several(self):
        self.assertEqual(self.explain("user0005@corp.example", "smtp")["account"], "user0005@corp.example")
        mt.wait_for(lambda: "more than one entry fits, the first is taken" in self.cluster.log("p1"), 10, "the log line")

    def test_mail_by_address(self):
        with smtplib.SMTP(*self.cluster.at("p1", "smtp"), timeout=20) as s:
            for address in ("user0001@corp.example", "first@corp.example", "carol.long@corp.example"):
                self.assertEqual(s.sendmail("a@elsewhere.example", [address], f"Subject: to {address}\r\n\r\nx\r\n"), {})
            with self.assertRaises(smtplib.SMTPRecipientsRefused) as refused:
                s.sendmail("a@elsewhere.example", ["unknown@elsewhere.example"], "Subject: x\r\n\r\nx\r\n")
            self.assertEqual(list(refused.exception.recipients.values())[0][0] // 100, 5)
        self.assertEqual(self.explain("first@corp.example", "smtp")["account"], "user0001@corp.example")
        m = imaplib.IMAP4(*self.cluster.at("p1", "imap"))
        m.login("user0001@corp.example", "pw-1")
        m.select()
        self.assertEqual(len(m.search(None, "SUBJECT", '"to first@corp.example"')[1][0].split()), 1)
        m.logout()

    def test_security_07_who_may_not_come_in(self):
        for _ in range(4):
            self.assert_out("locked@corp.example", f"wrong-{_}")
        for name, password, words in (("disabled", "pw-d", "the account is disabled"), ("expired", "pw-e", "the account has expired"),
                                      ("must", "pw-m", "the password must be changed first"), ("locked", "pw-l", "the account is locked")):
            self.assert_out(f"{name}@corp.example", password)
            mt.wait_for(lambda: re.search(rf"{words} map=people user={name}@", self.cluster.log("p1")), 10, words)

    def test_security_07_a_changed_password(self):
        self.assert_in("changes@corp.example", "old-pw")
        ad.tool("user", "setpassword", "changes", "--newpassword=new-pw")
        self.assert_in("changes@corp.example", "new-pw")
        self.cluster.ctl("p1", "map", "flush", "changes@corp.example")
        self.assert_out("changes@corp.example", "older-pw")
        self.assert_in("changes@corp.example", "new-pw")


class Tickets(Case):
    """StartTLS, and a service that binds by Kerberos; hosts stand in the directory."""
    @classmethod
    def setUpClass(cls):
        ad.write("second.conf", SECOND.format(address=ad.address, dir=ad.dir))
        cls.ENV = {"KRB5_CONFIG": ad.krb5}
        cls.FLAGS = ["--proxies", 1, "--backends", 2, "--users", 1, "--conf", ad.path("second.conf")]
        super().setUpClass()
        for n in range(1, 7):
            cls.cluster.ctl("b1", "account", "add", f"user{n:04}@corp.example")
        cls.cluster.ctl("b2", "account", "add", "user0002@corp.example")

    def setUp(self):
        mt.wait_for(lambda: self.map("by-ticket")["usable"], 30, "the connector is up")

    def test_logins_and_lists_of_hosts(self):
        self.assert_in("user0001@corp.example", "pw-1")
        self.assert_in("user0002@corp.example", "pw-2")
        self.assert_out("user0002@corp.example", "pw-3")
        self.assertEqual(self.explain("user0002@corp.example", "imap")["backend"], "b2,b1")
        self.assert_out("disabled@corp.example", "pw-d")
        mt.wait_for(lambda: "the account is disabled map=by-ticket user=disabled@" in self.cluster.log("p1"), 10, "the log line")

    def test_mail_for_a_disabled_user_is_kept(self):
        with smtplib.SMTP(*self.cluster.at("p1", "smtp"), timeout=20) as s:
            self.assertEqual(s.sendmail("a@elsewhere.example", ["disabled@corp.example"], "Subject: x\r\n\r\nx\r\n"), {})

    def test_security_06_certificates_are_verified(self):
        mt.wait_for(lambda: "connector is down connector=stranger" in self.cluster.log("p1"), 30, "a foreign CA is refused")
        self.assertFalse(self.map("untrusted")["usable"])
        self.assertIn("certificate", self.map("untrusted")["error"])
        self.assertIn("[UNAVAILABLE]", self.imap("user0001@untrusted.example", "pw-1"))
        self.assert_in("user0001@corp.example", "pw-1")  # others feel nothing

    def test_a_keytab_with_an_old_key_is_told(self):
        mt.wait_for(lambda: "connector is down connector=nobody" in self.cluster.log("p1"), 30, "an old key is refused")
        self.assertIn("GSSAPI", self.map("refused")["error"])
        self.assertIn("[UNAVAILABLE]", self.imap("user0001@refused.example", "pw-1"))


if __name__ == "__main__":
    unittest.main()
