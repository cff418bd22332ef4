"""Domains, classes, suspension, forwarding and renaming, as an operator and his users see them: one back-end behind one proxy."""
import imaplib
import os
import poplib
import signal
import smtplib
import ssl
import subprocess
import tempfile

import mt


class Domains(mt.ClusterCase):
    @classmethod
    def setUpClass(cls):
        fd, cls.extra = tempfile.mkstemp(suffix=".conf")
        with os.fdopen(fd, "w") as f:
            f.write('trusted-proxies = {"127.0.0.0/8"}\nquota-count = 1000\nslots = 2\ndefault-domain = al.test\nlimits {\n\tfailed-login-delay = 0s\n'
                    '\tfailed-logins = 100\n}\n')
        cls.FLAGS = ["--proxies", 1, "--backends", 1, "--users", 1, "--backend-conf", cls.extra]
        super().setUpClass()

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        os.unlink(cls.extra)

    def ctl(self, *words, code=0):
        return self.cluster.ctl("b1", *words, code=code)

    def refused(self, *words, status=1):
        code, text = self.cluster.ctl("b1", *words, code=None)
        self.assertEqual(code, status, text)
        return text

    def show(self, address, what="account"):
        return self.cluster.ctl_json("b1", what, "show", address)

    def add(self, address, *words):
        self.ctl("account", "add", address, "--hash", "{PLAIN}x", *words)

    def login(self, user, password="x", name="b1"):
        host, port = self.cluster.at(name, "imaps")
        m = imaplib.IMAP4_SSL(host, port, ssl_context=ssl.create_default_context(cafile=self.cluster.ca))
        try:
            m.login(user, password)
        except imaplib.IMAP4.error:
            m.shutdown()
            raise
        return m

    def login_error(self, user, password="x", name="b1"):
        try:
            self.login(user, password, name).logout()
        except imaplib.IMAP4.error as e:
            return str(e)
        return None

    def rcpt(self, *users, size=None):
        host, port = self.cluster.at("b1", "lmtp")
        with smtplib.LMTP(host, port) as lmtp:
            lmtp.ehlo_or_helo_if_needed()
            lmtp.mail("s@x.test", [f"SIZE={size}"] if size else [])
            answers = [lmtp.rcpt(u) for u in users]
        return answers[0][0] if len(users) == 1 else [a[0] for a in answers]

    def send(self, *users, text="x"):
        host, port = self.cluster.at("b1", "lmtp")
        with smtplib.LMTP(host, port) as lmtp:
            lmtp.ehlo_or_helo_if_needed()
            lmtp.mail("s@x.test")
            for user in users:
                self.assertEqual(lmtp.rcpt(user)[0], 250)
            self.assertEqual(lmtp.data(f"Subject: {text}\r\n\r\n{text}\r\n".encode())[0], 250)
            for _ in users[1:]:
                self.assertEqual(lmtp.getreply()[0], 250)

    def assert_ends(self, m):
        """The server ends this session by itself."""
        def is_over():
            try:
                m.noop()
            except (imaplib.IMAP4.abort, OSError):
                return True
        mt.wait_for(is_over, 10, "the end of the session")
        m.shutdown()

    def messages(self, address):
        return self.show(address)["messages"]

    def test_aliases_catch_all_and_postmaster(self):
        self.add("ann@al.test")
        self.add("all@al.test")
        self.add("boss@bosses.test")
        self.ctl("domain", "add", "al.test", "--alias", "al2.test", "--alias", "al3.test", "--catch-all", "all@al.test",
                 "--postmaster", "boss@bosses.test")
        shown = self.show("al2.test", "domain")
        self.assertEqual((shown["domain"], shown["aliases"], shown["accounts"]), ("al.test", ["al2.test", "al3.test"], 2))
        self.assertIsNone(self.login_error("ann@al2.test"))
        self.send("ann+x@al3.test", "nobody@al2.test", "postmaster@al.test", "abuse@al2.test")
        self.send("postmaster")  # RFC 5321 4.5.1: without a domain too
        self.assertEqual([self.messages(a) for a in ("ann@al.test", "all@al.test", "boss@bosses.test")], [1, 1, 3])
        self.assertIn("alias", self.refused("account", "add", "new@al2.test"))
        self.assertIn("alias", self.refused("account", "set", "ann@al.test", "--alias", "other@al2.test"))
        self.assertIn("domain", self.refused("domain", "add", "other.test", "--alias", "bosses.test"))
        self.assertIn("addresses", self.refused("domain", "remove", "al.test"))
        for name in ("-x.test", "a" * 64 + ".test", "[127.0.0.1]", "a..test", "x y"):
            self.refused("domain", "add", name, status=64)
            self.assertIn(name, self.refused("domain", "set", "al.test", "--alias", name, status=64))
        self.ctl("domain", "set", "al.test", "--catch-all", "none", "--remove-alias", "al3.test")
        self.assertEqual(self.rcpt("nobody@al.test"), 550)
        self.assertEqual(self.rcpt("ann@al3.test"), 550)
        self.assertIn("no account", self.refused("domain", "set", "al.test", "--catch-all", "no@al.test"))

    def test_levels_and_where_values_come_from(self):
        self.add("u@lv.test")
        self.assertEqual((self.show("u@lv.test")["messages_limit"], self.show("u@lv.test")["messages_limit_from"]), (1000, "built-in"))
        self.ctl("domain", "add", "lv.test", "--count", "900", "--max-quota", "1G", "--max-accounts", "2")
        self.assertEqual((self.show("u@lv.test")["messages_limit"], self.show("u@lv.test")["messages_limit_from"]), (900, "domain"))
        self.ctl("class", "add", "lv-gold", "--count", "800", "--protocols", "imap,lmtp")
        self.ctl("account", "set", "u@lv.test", "--class", "lv-gold")
        shown = self.show("u@lv.test")
        self.assertEqual((shown["messages_limit"], shown["messages_limit_from"], shown["class"], shown["protocols"], shown["protocols_from"]),
                         (800, "class", "lv-gold", ["imap", "lmtp"], "class"))
        self.assertIsNone(self.login_error("u@lv.test"))
        self.ctl("class", "set", "lv-gold", "--protocols", "pop3", "--count", "700")
        self.assertIn("AUTHORIZATIONFAILED", self.login_error("u@lv.test"))
        self.assertEqual(self.rcpt("u@lv.test"), 550)
        self.assertEqual(self.show("u@lv.test")["messages_limit"], 700)
        self.ctl("account", "set", "u@lv.test", "--count", "none", "--protocols", "all")
        self.assertEqual((self.show("u@lv.test")["messages_limit"], self.show("u@lv.test")["messages_limit_from"]), (0, "account"))
        self.ctl("account", "set", "u@lv.test", "--count", "inherit")
        self.assertEqual(self.show("u@lv.test")["messages_limit"], 700)
        self.assertEqual(self.show("u@lv.test")["bytes_limit_from"], "domain maximum")
        self.assertIn("allows", self.refused("account", "set", "u@lv.test", "--quota", "2G"))
        self.assertIn("are of this class", self.refused("class", "remove", "lv-gold"))
        self.assertIn("no such class", self.refused("account", "add", "v@lv.test", "--class", "nosuch"))
        self.add("v@lv.test")
        self.assertIn("as many accounts", self.refused("account", "add", "w@lv.test"))
        self.add("w@lw.test")
        self.assertIn("as many accounts", self.refused("account", "rename", "w@lw.test", "w@lv.test"))
        self.ctl("account", "rename", "v@lv.test", "v2@lv.test")  # no account more
        self.assertIn("as many accounts", self.refused("account", "add", "w@lv.test"))
        self.assertEqual([r["account"] for r in self.cluster.ctl_json("b1", "account", "list", "--class", "lv-gold")["rows"]], ["u@lv.test"])

    def test_who_is_suspended_is_out_at_once(self):
        self.add("s@su.test")
        self.ctl("domain", "add", "su.test")
        m = self.login("s@su.test")
        self.ctl("account", "set", "s@su.test", "--suspend")
        self.assert_ends(m)
        self.assertIn("AUTHORIZATIONFAILED", self.login_error("s@su.test"))
        self.assertIn("AUTHENTICATIONFAILED", self.login_error("s@su.test", "wrong"))
        self.assertEqual(self.rcpt("s@su.test"), 250)
        self.ctl("account", "set", "s@su.test", "--suspended-mail", "defer")
        self.assertEqual(self.rcpt("s@su.test"), 450)
        self.ctl("account", "set", "s@su.test", "--suspended-mail", "refuse")
        self.assertEqual(self.rcpt("s@su.test"), 550)
        self.assertEqual(self.show("s@su.test")["suspended_by"], ["account"])
        self.ctl("account", "set", "s@su.test", "--resume", "--suspended-mail", "inherit")
        m = self.login("s@su.test")
        self.ctl("domain", "set", "su.test", "--suspend", "--suspended-mail", "defer")
        self.assert_ends(m)
        self.assertEqual(self.rcpt("s@su.test"), 450)
        self.assertEqual(self.rcpt("nobody@su.test"), 450)
        self.assertEqual([r["account"] for r in self.cluster.ctl_json("b1", "account", "list", "--suspended")["rows"]], ["s@su.test"])
        self.ctl("domain", "set", "su.test", "--resume")
        self.assertIsNone(self.login_error("s@su.test"))

    def test_a_proxys_user_is_told_that_he_is_suspended(self):
        user, password = "user0001@example.test", "pass0001"
        m = self.login(user, password, "p1")
        self.ctl("account", "set", user, "--suspend")
        self.assert_ends(m)
        self.assertIn("AUTHORIZATIONFAILED", self.login_error(user, password, "p1"))
        pop3 = poplib.POP3_SSL(*self.cluster.at("p1", "pop3s"), context=ssl.create_default_context(cafile=self.cluster.ca))
        pop3.user(user)
        with self.assertRaisesRegex(poplib.error_proto, "SYS/PERM"):  # and not "try again later", for ever
            pop3.pass_(password)
        pop3.close()
        self.ctl("account", "set", user, "--resume")
        self.assertIsNone(self.login_error(user, password, "p1"))

    def test_forwarding(self):
        for name in ("a", "b", "c", "d", "e"):
            self.add(f"{name}@fw.test")
        self.assertIn("itself", self.refused("account", "set", "a@fw.test", "--forward", "a@fw.test"))
        self.ctl("account", "set", "a@fw.test", "--forward", "b@fw.test,c@fw.test", "--no-keep")
        self.ctl("account", "set", "b@fw.test", "--forward", "d@fw.test", "--keep")
        self.ctl("account", "set", "d@fw.test", "--forward", "a@fw.test")  # a circle, with copies on the way
        self.send("a@fw.test")
        self.assertEqual([self.messages(f"{n}@fw.test") for n in "abcd"], [0, 1, 1, 1])
        self.send("a@fw.test", "c@fw.test", "d@fw.test")  # whoever is addressed as well gets one
        self.assertEqual([self.messages(f"{n}@fw.test") for n in "abcd"], [0, 2, 2, 2])
        m = self.login("c@fw.test")
        m.select(readonly=True)
        self.assertIn(b"Delivered-To: a@fw.test\r\nReturn-Path: <s@x.test>", m.fetch("1", "(BODY.PEEK[HEADER])")[1][0][1])
        m.logout()
        shown = self.show("a@fw.test")
        self.assertEqual((shown["forwards"], shown["keeps_a_copy"]), (["b@fw.test", "c@fw.test"], False))
        # A target that is full, gone or suspended loses nothing.
        self.ctl("account", "set", "c@fw.test", "--quota", "10K")
        self.assertEqual(self.rcpt("a@fw.test", size=50000), 452)
        self.assertEqual(self.rcpt("a@fw.test", size=1000), 250)
        self.ctl("account", "set", "c@fw.test", "--suspend", "--suspended-mail", "defer")
        self.assertEqual(self.rcpt("a@fw.test"), 450)
        self.ctl("account", "remove", "c@fw.test")
        self.assertEqual(self.rcpt("a@fw.test"), 250)  # an address elsewhere by now: for the queue
        self.ctl("account", "set", "a@fw.test", "--forward", "e@fw.test")
        self.ctl("account", "set", "e@fw.test", "--forward", "a@fw.test", "--no-keep")
        self.assertEqual(self.rcpt("a@fw.test"), 554)
        self.ctl("account", "set", "e@fw.test", "--forward", "none")
        self.send("a@fw.test")
        self.assertEqual((self.messages("a@fw.test"), self.messages("e@fw.test")), (0, 1))

    def test_a_name_that_goes_is_told_if_mail_still_goes_to_it(self):
        for name in ("a", "b", "c", "d"):
            self.add(f"{name}@gone.test")
        self.ctl("account", "set", "c@gone.test", "--alias", "c2@gone.test")
        self.ctl("account", "set", "a@gone.test", "--forward", "c@gone.test,d@gone.test")
        self.ctl("account", "set", "b@gone.test", "--forward", "c2@gone.test")
        self.ctl("domain", "add", "gone.test", "--catch-all", "c@gone.test", "--postmaster", "d@gone.test")

        def warning(*words):
            said = self.cluster.ctl_json("b1", *words).get("warning", "")
            return sorted(said.partition("by the word of: ")[2].split(", ")) if said else []

        self.assertEqual(warning("account", "rename", "c@gone.test", "e@gone.test", "--keep-alias"), [])
        self.assertEqual(warning("account", "set", "e@gone.test", "--remove-alias", "c2@gone.test"), ["b@gone.test"])
        self.ctl("account", "set", "b@gone.test", "--forward", "none")
        self.assertEqual(warning("account", "rename", "d@gone.test", "f@gone.test"), ["a@gone.test", "gone.test (postmaster)"])
        self.assertEqual(warning("account", "remove", "e@gone.test"), ["a@gone.test", "gone.test (catch-all)"])
        self.assertEqual(warning("account", "remove", "a@gone.test"), [])
        self.add("c@gone.test")
        self.assertEqual(warning("account", "remove", "c@gone.test"), ["gone.test (catch-all)"])  # who forwarded has gone
        # By an alias of the domain, and from other domains.
        self.add("g@gone.test")
        self.add("h@far.test", "--forward", "g@gone2.test")
        self.ctl("domain", "set", "gone.test", "--alias", "gone2.test")
        self.ctl("domain", "set", "gone.test", "--catch-all", "g@gone2.test")
        self.ctl("domain", "add", "far.test", "--postmaster", "g@gone.test")
        self.assertEqual(warning("account", "remove", "g@gone.test"), ["far.test (postmaster)", "gone.test (catch-all)", "h@far.test"])

    def test_an_import_keeps_to_the_rules_of_domains(self):
        self.add("one@im.test")
        self.ctl("domain", "add", "im.test", "--alias", "im2.test", "--max-accounts", "2")
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "one")
            self.refused("store", "export", "none@im.test", path)
            self.assertFalse(os.path.exists(path))  # so that another try finds no file there
            self.ctl("store", "export", "one@im.test", path)
            self.refused("store", "import", path, "--as", "nobody", status=64)
            self.assertIn("alias of another domain", self.refused("store", "import", path, "--as", "x@im2.test"))
            self.ctl("store", "import", path, "--as", "two@im.test")
            self.assertIn("as many accounts", self.refused("store", "import", path, "--as", "three@im.test"))
            self.ctl("store", "import", path, "--as", "two@im.test", "--replace")  # has its place
            slot = self.show("two@im.test")["slot"]
            self.ctl("account", "move", "two@im.test", "--slot", str(1 - slot))
            self.ctl("account", "remove", "two@im.test")
            self.ctl("store", "import", path, "--as", "three@im.test")
            self.ctl("store", "backup", os.path.join(folder, "backup"), "--account", "three@im.test")
            self.assertIn("as many accounts", self.refused("store", "restore", os.path.join(folder, "backup"), "--account", "three@im.test", "--as",
                                                           "four@im.test"))
            # An alias in a stream, of a domain that has become an alias.
            self.ctl("account", "set", "three@im.test", "--alias", "three@im3.test")
            self.ctl("store", "export", "three@im.test", path + "3")
            self.ctl("account", "remove", "three@im.test")
            self.ctl("domain", "set", "im.test", "--alias", "im3.test")
            self.assertIn("three@im3.test: its domain is an alias", self.refused("store", "import", path + "3"))
            self.assertEqual(self.show("im.test", "domain")["accounts"], 1)

    def test_a_repeat_is_forwarded_once(self):
        for name in ("a", "b", "c"):
            self.add(f"{name}@xm.test")
        self.ctl("account", "set", "a@xm.test", "--forward", "b@xm.test,c@xm.test")
        host, port = self.cluster.at("b1", "lmtp")
        for _ in range(2):  # the first connection is cut after the answer: the marks stay
            lmtp = smtplib.LMTP(host, port)
            lmtp.ehlo_or_helo_if_needed()
            lmtp.mail("s@x.test", ["XMARK=0"])
            self.assertEqual(lmtp.rcpt("a@xm.test")[0], 250)
            self.assertEqual(lmtp.data(b"Subject: once\r\n\r\nonce\r\n")[0], 250)
            lmtp.sock.close()
        self.assertEqual([self.messages(f"{n}@xm.test") for n in "abc"], [1, 1, 1])

    def test_rename_keeps_all(self):
        self.add("old@rn.test", "--alias", "also@rn.test")
        self.send("old@rn.test")
        m = self.login("old@rn.test")
        m.create("Box")
        m.select()
        validity, uid = m.response("UIDVALIDITY")[1][0], m.uid("SEARCH", "ALL")[1][0]
        ids = m.status("INBOX", "(MAILBOXID)")[1], m.fetch("1", "(EMAILID)")[1]
        self.ctl("account", "rename", "old@rn.test", "new@rn2.test")
        self.assert_ends(m)
        self.assertIn("AUTHENTICATIONFAILED", self.login_error("old@rn.test"))
        m = self.login("new@rn2.test")
        m.select()
        self.assertEqual((m.response("UIDVALIDITY")[1][0], m.uid("SEARCH", "ALL")[1][0]), (validity, uid))
        self.assertEqual((m.status("INBOX", "(MAILBOXID)")[1], m.fetch("1", "(EMAILID)")[1]), ids)
        self.assertEqual(m.list()[1].count(b'(\\HasNoChildren) "/" Box'), 1, m.list())
        self.ctl("account", "rename", "new@rn2.test", "newer@rn2.test", "--keep-alias")
        self.assertEqual(m.noop()[0], "OK")  # its name is still good
        self.ctl("account", "rename", "newer@rn2.test", "newer@rn.test", "--keep-alias")
        self.assert_ends(m)  # what the other domain shares with anyone is no longer its
        self.send("also@rn.test", "new@rn2.test", "newer@rn.test")
        self.assertEqual(self.messages("newer@rn.test"), 4)
        self.assertIn("exists", self.refused("account", "rename", "newer@rn.test", "user0001@example.test"))

    def test_a_dump_makes_all_of_it_again(self):
        self.ctl("class", "add", "du-c", "--quota", "none", "--protocols", "none", "--suspended-mail", "refuse", "--suspend")
        self.ctl("domain", "add", "du.test", "--count", "5", "--max-quota", "1G", "--max-count", "9", "--max-accounts", "3", "--class", "du-c",
                 "--alias", "du2.test", "--alias", "du3.test", "--catch-all", '"it\'s all $HOME"@du.test', "--postmaster", "user0001@example.test")
        before = self.ctl("domain", "dump")
        lines = [line for line in before.splitlines() if " du" in line]
        self.assertEqual(len(lines), 2, before)
        self.ctl("domain", "remove", "du.test")
        self.ctl("class", "remove", "du-c")
        self.assertNotIn(" du", self.ctl("domain", "dump"))
        env = {**os.environ, "MAILTIER_SOCKET": self.cluster.at("b1", "ctl"), "PATH": mt.bin_dir(self.cluster.variant) + ":" + os.environ["PATH"]}
        subprocess.run(["sh", "-e", "-c", "\n".join(lines)], env=env, check=True, stdout=subprocess.DEVNULL)
        self.assertEqual(self.ctl("domain", "dump"), before)

    def reload(self, text, condition):
        with open(self.extra, "w") as f:
            f.write(text)
        self.cluster.kill("b1", signal.SIGHUP)
        mt.wait_for(condition, 10, "the reload")

    def test_domains_may_have_to_be_there_and_built_in_limits_are_reloaded(self):
        self.add("u@ex.test")
        with open(self.extra) as f:
            before = f.read()
        self.reload(before.replace("quota-count = 1000", "quota-count = 900\ndomains = explicit"),
                    lambda: self.show("u@ex.test")["messages_limit"] == 900)
        for words in (["add", "v@ex.test"], ["set", "u@ex.test", "--alias", "v@ex.test"], ["rename", "u@ex.test", "v@ex2.test"]):
            self.assertIn("no such domain", self.refused("account", *words))
        self.assertIsNone(self.login_error("u@ex.test"))  # who is there stays
        self.ctl("domain", "add", "ex.test")
        self.add("v@ex.test")
        self.reload(before, lambda: self.show("u@ex.test")["messages_limit"] == 1000)
        self.add("w@ex3.test")

    def test_lists_by_pages(self):
        for i in range(12):
            self.add(f"p{i:02}@pg.test")
        page = self.cluster.ctl_json("b1", "account", "list", "pg.test", "--limit", "5")
        self.assertEqual(([r["account"][:3] for r in page["rows"]], page["more"]), (["p00", "p01", "p02", "p03", "p04"], True))
        page = self.cluster.ctl_json("b1", "account", "list", "pg.test", "--limit", "50", "--after", "p04@pg.test")
        self.assertEqual((len(page["rows"]), "more" in page), (7, False))
        self.assertEqual(self.cluster.ctl_json("b1", "account", "list", "--prefix", "p1")["accounts"], 2)

    def test_the_store_is_sound(self):
        self.assertEqual(self.cluster.ctl_json("b1", "store", "check")["errors"], 0)


if __name__ == "__main__":
    import unittest
    unittest.main()
