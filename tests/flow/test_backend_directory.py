"""A back-end whose users' passwords are checked by a real slapd: by section `users`, beside accounts with passwords of their own; accounts
that are made at the first login. Skipped without slapd."""
import base64
import concurrent.futures
import imaplib
import os
import signal
import smtplib
import time
import unittest

import mt
from backend_case import BackendCase
from slapd import BASE, SLAPD, Slapd

CONF = """
quota-size = 7M
quota-count = 77
connector dir {{
    uris = {{"ldap://127.0.0.1:{port}"}}
    ca = {dir}/cert.pem
    bind-dn = "cn=proxy,{base}"
    password = {dir}/password
    base = "{base}"
    filter = "(|(mail=%e)(mailLocalAddress=%e))"
    timeout = 2s
    connect-timeout = 1s
    health-interval = 1s
}}
"""
CORP = "users corp {{\n\tdomains = {{example.test}}\n\tconnector = dir\n\ttype = {type}\n\tpositive-ttl = 1s\n\tnegative-ttl = 0s\n\tcreate-accounts = {create}\n}}\n"


@unittest.skipUnless(os.path.exists(SLAPD), "no slapd")
class DirectoryCase(BackendCase):
    TYPE, CREATE, MORE = "ldap-bind", "yes", 'service imap {\n\tmechanisms = {PLAIN, LOGIN, "CRAM-MD5"}\n}\n'
    TRUSTED = '"127.0.0.0/8"'
    USERS = 1

    @classmethod
    def setUpClass(cls):
        cls.slapd = Slapd(6)
        try:
            cls.CONF = (CONF + CORP).format(port=cls.slapd.port, dir=cls.slapd.dir, base=BASE, type=cls.TYPE, create=cls.CREATE) + cls.MORE
            super().setUpClass()
        except BaseException:
            cls.slapd.end()
            raise
        mt.wait_for(lambda: cls.cluster.ctl_json("b1", "users", "list")["rows"][0]["up"], 20, "the directory is up")

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        cls.slapd.end()

    def ask(self, line):
        c = self.connect("imaps")
        try:
            c.line()
            c.send(line)
            while answer := c.line():
                if answer.startswith("a "):
                    return answer
            return ""
        finally:
            c.close()

    def login(self, user, password):
        return self.ask(f"a LOGIN {user} {password}")

    def pop3(self, user, password):
        c = self.connect("pop3s")
        try:
            c.line()
            c.ask(f"USER {user}")
            return c.ask(f"PASS {password}")
        finally:
            c.close()

    def cram(self, user, password):
        host, port = self.cluster.at("b1", "imaps")
        imap = imaplib.IMAP4_SSL(host, port, ssl_context=self.tls(), timeout=20)
        try:
            imap.login_cram_md5(user, password)
            return "OK"
        except imaplib.IMAP4.error as e:
            return str(e)
        finally:
            imap.shutdown()

    def accounts(self):
        return [r["account"] for r in self.cluster.ctl_json("b1", "account", "list")["rows"]]


class ByBind(DirectoryCase):
    def test_the_directory_decides_for_its_domain_and_accounts_for_others(self):
        # The account of the domain has a password here, which is not asked.
        self.assertIn("AUTHENTICATIONFAILED", self.login(self.user(1), self.password(1)))
        self.assertRegex(self.login(self.user(1), "dir-0001"), "^a OK")
        self.assertRegex(self.pop3(self.user(1), "dir-0001"), r"^\+OK")
        self.assertRegex(self.pop3(self.user(1), "dir-0002"), r"^-ERR \[AUTH\]")
        self.cluster.ctl("b1", "account", "add", "bob@own.test", "--hash", "{PLAIN}bobs")
        self.assertRegex(self.login("bob@own.test", "bobs"), "^a OK")
        self.assertIn("AUTHENTICATIONFAILED", self.login("nobody@own.test", "x"))

    def test_an_account_is_made_once_at_the_first_login(self):
        self.assertIn("AUTHENTICATIONFAILED", self.login("user0002@example.test", "wrong"))
        self.assertIn("AUTHENTICATIONFAILED", self.login("stranger@example.test", "wrong"))
        self.assertEqual([a for a in self.accounts() if "0002" in a or "stranger" in a], [])
        with concurrent.futures.ThreadPoolExecutor(12) as pool:
            answers = list(pool.map(lambda _: self.login("user0002@example.test", "dir-0002"), range(24)))
        for answer in answers:
            self.assertRegex(answer, "^a OK")
        self.assertEqual([a for a in self.accounts() if "0002" in a], ["user0002@example.test"])
        shown = self.cluster.ctl_json("b1", "account", "show", "user0002@example.test")
        self.assertEqual((shown["bytes_limit"], shown["messages_limit"]), (7 << 20, 77))
        self.assertEqual(shown["password"], "")

    def test_the_account_is_the_one_that_the_entry_names(self):
        self.assertRegex(self.login("alias3@example.test", "dir-0003"), "^a OK")
        self.assertIn("user0003@example.test", self.accounts())
        self.assertNotIn("alias3@example.test", self.accounts())

    def test_a_user_whom_a_proxy_has_checked_gets_his_account_too(self):
        def on_behalf(user, secret):
            plain = base64.b64encode(f"{user}\0proxy\0{secret}".encode()).decode()
            return self.ask(f"a AUTHENTICATE PLAIN {plain}")
        self.assertIn("AUTHENTICATIONFAILED", on_behalf("user0004@example.test", "wrong"))
        self.assertNotIn("user0004@example.test", self.accounts())
        self.assertRegex(on_behalf("user0004@example.test", self.secret()), "^a OK")
        self.assertIn("user0004@example.test", self.accounts())
        # Only in the domains that the section names.
        self.assertIn("AUTHORIZATIONFAILED", on_behalf("someone@own.test", self.secret()))
        self.assertNotIn("someone@own.test", self.accounts())

    def test_mail_for_an_account_that_is_not_made_yet_is_refused(self):
        with self.assertRaises(smtplib.SMTPRecipientsRefused) as refused:
            self.deliver("user0099@example.test", "Subject: x\r\n\r\nx\r\n")
        self.assertEqual(list(refused.exception.recipients.values())[0][0], 550)

    def test_a_directory_that_is_gone_is_not_now_and_never_wrong(self):
        self.assertRegex(self.login(self.user(1), "dir-0001"), "^a OK")
        self.cluster.ctl("b1", "account", "add", "carol@own.test", "--hash", "{PLAIN}carols")
        self.slapd.halt()
        try:
            # Once the old answer's time is over: the one who was right before comes in, nobody else does, and nobody is wrong.
            time_over = time.monotonic() + 1.2
            mt.wait_for(lambda: time.monotonic() > time_over, 5, "positive-ttl is over")
            self.assertRegex(self.login(self.user(1), "dir-0001"), "^a OK")
            for user, password in (("user0005@example.test", "dir-0005"), (self.user(1), "another"), ("ghost@example.test", "x")):
                self.assertIn("UNAVAILABLE", self.login(user, password))
            self.assertRegex(self.pop3("user0005@example.test", "dir-0005"), r"^-ERR \[SYS/TEMP\]")
            self.assertRegex(self.login("carol@own.test", "carols"), "^a OK")
            self.assertNotIn("user0005@example.test", self.accounts())
        finally:
            self.slapd.go()
        mt.wait_for(lambda: self.login("user0005@example.test", "dir-0005").startswith("a OK"), 20, "the directory is asked again")

    def test_a_challenge_cannot_be_met_where_users_are_bound_as(self):
        before = self.cluster.metric("b1", "mailtier_auth_penalty_failures_total")
        self.assertIn("AUTHENTICATIONFAILED", self.cram(self.user(1), "dir-0001"))
        self.assertEqual(self.cluster.metric("b1", "mailtier_auth_penalty_failures_total"), before)

    def test_flush_and_a_changed_password(self):
        self.assertRegex(self.login(self.user(1), "dir-0001"), "^a OK")
        self.cluster.ctl("b1", "users", "flush", self.user(1))
        self.cluster.ctl("b1", "users", "flush")
        self.assertEqual(self.cluster.ctl("b1", "users", "flush", "@", code=None)[0], 64)
        self.assertRegex(self.login(self.user(1), "dir-0001"), "^a OK")
        row = self.cluster.ctl_json("b1", "users", "list")["rows"][0]
        self.assertEqual((row["users"], row["domains"], row["connector"], row["create_accounts"]), ("corp", ["example.test"], "dir", True))


    def test_the_example_of_the_documentation_is_valid(self):
        """docs/operations.md, word for word but for the files and the servers, asked for a user of this directory."""
        with open(os.path.join(mt.ROOT, "docs", "operations.md")) as f:
            text = f.read().split("## A back-end with a directory", 1)[1].split("```", 2)[1]
        self.assertIn("create-accounts = yes", text)
        for said, here in (('{"ldaps://ldap1.example.com", "ldaps://ldap2.example.com"}', f'{{"ldap://127.0.0.1:{self.slapd.port}"}}'),
                           ("/etc/mailtier/ldap-ca.pem", self.slapd.path("cert.pem")), ("/etc/mailtier/ldap.secret", self.slapd.path("password")),
                           ("cn=mail,dc=example,dc=com", f"cn=proxy,{BASE}"), ("ou=people,dc=example,dc=com", BASE),
                           ("{example.com}", "{example.test}")):
            self.assertEqual(text.count(said), 1, said)
            text = text.replace(said, here)
        with open(self.extra) as f:
            before = f.read()
        try:
            with open(self.extra, "w") as f:
                f.write(before[:before.index("connector dir")] + text)
            self.cluster.kill("b1", signal.SIGHUP)
            mt.wait_for(lambda: [r for r in self.cluster.ctl_json("b1", "users", "list")["rows"] if r["connector"] == "corp" and r["up"]],
                        20, "the example is in force: " + self.cluster.log("b1")[-500:])
            self.assertRegex(self.login("user0006@example.test", "dir-0006"), "^a OK")
            self.assertIn("user0006@example.test", self.accounts())
        finally:
            with open(self.extra, "w") as f:
                f.write(before)
            self.cluster.kill("b1", signal.SIGHUP)
            mt.wait_for(lambda: self.cluster.ctl_json("b1", "users", "list")["rows"][0]["connector"] == "dir", 20, "the old one is back")


class ByPasswordWithoutCreating(DirectoryCase):
    TYPE, CREATE = "ldap-password", "no"
    USERS = 2

    def test_a_right_password_without_an_account_is_no_failed_login(self):
        self.assertRegex(self.login(self.user(1), "dir-0001"), "^a OK")
        self.assertIn("AUTHENTICATIONFAILED", self.login(self.user(1), "dir-0002"))
        self.assertIn("AUTHORIZATIONFAILED", self.login("user0003@example.test", "dir-0003"))
        self.assertRegex(self.pop3("user0003@example.test", "dir-0003"), r"^-ERR \[SYS/PERM\]")
        self.assertNotIn("user0003@example.test", self.accounts())

    def test_a_challenge_is_met_with_what_the_directory_stores(self):
        self.assertEqual(self.cram(self.user(2), "dir-0002"), "OK")
        self.assertIn("AUTHENTICATIONFAILED", self.cram(self.user(2), "dir-0001"))
        self.assertIn("AUTHENTICATIONFAILED", self.cram(self.user(1), "dir-0001"))  # a hash is stored, which cannot serve
        self.assertIn("AUTHENTICATIONFAILED", self.cram("stranger@example.test", "x"))
        self.assertIn("AUTHORIZATIONFAILED", self.cram("user0006@example.test", "dir-0006"))

    def test_a_reload_changes_who_is_asked(self):
        conf = open(self.extra).read()
        try:
            with open(self.extra, "w") as f:
                f.write(conf.replace("create-accounts = no", "create-accounts = yes").replace("ldap-password", "ldap-bind"))
            self.cluster.kill("b1", signal.SIGHUP)
            mt.wait_for(lambda: self.login("user0004@example.test", "dir-0004").startswith("a OK"), 20, "the new section is in force")
        finally:
            with open(self.extra, "w") as f:
                f.write(conf)
            self.cluster.kill("b1", signal.SIGHUP)
        mt.wait_for(lambda: not self.cluster.ctl_json("b1", "users", "list")["rows"][0]["create_accounts"], 20, "the old section is in force")
        self.assertIn("AUTHORIZATIONFAILED", self.login("user0005@example.test", "dir-0005"))


class Restart(DirectoryCase):
    """Killed amid first logins: afterwards each user has one account, and comes in."""
    STARTER = ["--restart"]

    def test_a_restart_between_leaves_one_account_each(self):
        users = [f"user{i:04}@example.test" for i in range(2, 7)]

        def try_login(user):
            try:
                return self.login(user, "dir-" + user[4:8])
            except OSError:
                return ""
        with concurrent.futures.ThreadPoolExecutor(10) as pool:
            flights = [pool.submit(try_login, u) for u in users * 4]
            mt.wait_for(lambda: any(f.done() for f in flights), 20, "the first login is over")
            old = self.cluster.pid("b1")
            self.cluster.kill("b1")
            self.cluster.wait_restarted("b1", old)
            for f in flights:
                f.result()
        mt.wait_for(lambda: all(try_login(u).startswith("a OK") for u in users), 30, "all come in")
        self.assertEqual([a for a in self.accounts() if a in users], users)
        self.cluster.ctl("b1", "store", "check")


if __name__ == "__main__":
    unittest.main()
