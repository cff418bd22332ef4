"""Accounts, aliases, passwords and quotas as an operator handles them."""
import imaplib
import os
import poplib
import signal
import smtplib
import subprocess
import time

import mt
from backend_case import BackendCase


class Accounts(BackendCase):
    CONF = "quota-count = 1000\n"

    def ctl(self, *words, code=0):
        return self.cluster.ctl("b1", *words, code=code)

    def show(self, address):
        return self.cluster.ctl_json("b1", "account", "show", address)

    def login(self, user, password):
        host, port = self.cluster.at("b1", "imaps")
        m = imaplib.IMAP4_SSL(host, port, ssl_context=self.tls())
        try:
            m.login(user, password)
            return m
        except imaplib.IMAP4.error:
            m.shutdown()
            return None

    def may_login(self, user, password):
        m = self.login(user, password)
        if m:
            m.logout()
        return m is not None

    def rcpt(self, user, size=None):
        host, port = self.cluster.at("b1", "lmtp")
        with smtplib.LMTP(host, port) as lmtp:
            lmtp.ehlo_or_helo_if_needed()
            lmtp.mail("s@x.test", [f"SIZE={size}"] if size else [])
            return lmtp.rcpt(user)[0]

    def test_add_show_set_remove(self):
        self.ctl("account", "add", "Ann@Example.test", "--quota", "2M", "--count", "7", "--alias", "anna@example.test", "--hash", "{PLAIN}one")
        shown = self.show("anna@example.test")
        self.assertEqual((shown["account"], shown["bytes_limit"], shown["messages_limit"], shown["aliases"], shown["enabled"]),
                         ("ann@example.test", 2 << 20, 7, ["anna@example.test"], True))
        self.assertEqual(shown["password"], "PLAIN")
        self.assertNotIn("one", self.ctl("account", "show", "ann@example.test").split())
        self.assertTrue(self.may_login("ANN@EXAMPLE.TEST", "one"))
        self.assertTrue(self.may_login("anna@example.test", "one"))
        self.assertFalse(self.may_login("ann@example.test", "two"))
        for words in (["ann@example.test"], ["anna@example.test"], ["other@example.test", "--alias", "ann@example.test"]):
            self.assertIn("exists already", self.refused("account", "add", *words))
        self.ctl("account", "set", "ann@example.test", "--alias", "annie@example.test", "--remove-alias", "anna@example.test", "--quota", "none")
        shown = self.show("ann@example.test")
        self.assertEqual((shown["bytes_limit"], shown["messages_limit"], shown["aliases"]), (0, 7, ["annie@example.test"]))
        self.assertFalse(self.may_login("anna@example.test", "one"))
        self.assertIn("alias", self.refused("account", "remove", "annie@example.test"))
        self.ctl("account", "remove", "ann@example.test")
        self.assertIn("no such account", self.refused("account", "show", "ann@example.test"))
        self.assertFalse(self.may_login("annie@example.test", "one"))
        self.assertEqual(self.rcpt("annie@example.test"), 550)
        self.ctl("account", "add", "annie@example.test")
        self.assertEqual(self.show("annie@example.test")["messages"], 0)

    def refused(self, *words):
        code, text = self.cluster.ctl("b1", *words, code=None)
        self.assertEqual(code, 1, text)
        return text

    def test_default_folders_have_their_use(self):
        self.ctl("account", "add", "folders@example.test", "--hash", "{PLAIN}x")
        m = self.login("folders@example.test", "x")
        rows = b"\n".join(m.list()[1])
        for use in (b"\\Drafts", b"\\Sent", b"\\Junk", b"\\Trash", b"\\Archive"):
            self.assertIn(use, rows)
        m.logout()

    def test_passwords(self):
        def password(word, *words):
            return subprocess.run([os.path.join(mt.bin_dir(self.cluster.variant), "mailtierctl"), "-s", self.cluster.at("b1", "ctl"), *words],
                                  input=word, capture_output=True, text=True, timeout=30)

        self.assertEqual(password("first\n", "account", "add", "pw@example.test", "--password").returncode, 0)
        self.assertEqual(self.show("pw@example.test")["password"], "ARGON2ID")
        self.assertTrue(self.may_login("pw@example.test", "first"))
        self.assertTrue(self.may_login("pw@example.test", "first"))  # from the cache
        self.assertEqual(password("second\n", "account", "password", "pw@example.test").returncode, 0)
        self.assertTrue(self.may_login("pw@example.test", "second"))
        self.assertFalse(self.may_login("pw@example.test", "first"))  # not from the cache
        self.assertNotEqual(password("\n", "account", "password", "pw@example.test").returncode, 0)
        self.assertTrue(self.may_login("pw@example.test", "second"))
        self.ctl("account", "set", "pw@example.test", "--hash", "")
        self.assertFalse(self.may_login("pw@example.test", "second"))
        self.assertFalse(self.may_login("pw@example.test", ""))
        code, text = self.cluster.ctl("b1", "account", "set", "pw@example.test", "--hash", "{NOSUCH}x", code=None)
        self.assertEqual(code, 64, text)
        self.assertNotIn("second", self.cluster.log("b1"))

    def test_malformed_words_are_refused(self):
        for words in (["nodomain"], ["@x"], ["a b\r\n@x"], ["x@example.test", "--quota", "many"], ["x@example.test", "--alias", "@@"]):
            self.assertEqual(self.cluster.ctl("b1", "account", "add", *words, code=None)[0], 64, words)
        self.assertIn("no such account", self.refused("account", "show", "x@example.test"))

    def test_security_27_names_make_no_files(self):
        below = self.cluster.at("b1", "data")

        def files():
            return sorted(os.path.join(folder, f) for folder, folders, names in os.walk(below) for f in folders + names)

        before, beside = files(), sorted(os.listdir(os.path.dirname(below)))
        self.assertIn(os.path.join(below, "s0", "data.mdb"), before)
        for local in ("../../escaped", "..", "/tmp/escaped", "a/../../b", "%2e%2e%2fescaped", "~root", "$(touch escaped)"):
            user = f'"{local}"@example.test'
            self.ctl("account", "add", user, "--hash", "{PLAIN}x", "--alias", f'"alias/{local}"@example.test')
            self.deliver(user, "Subject: ../../escaped\r\n\r\n")
            m = self.login('"%s"' % user.replace('"', '\\"'), "x") or self.fail(user)
            self.assertEqual(m.select()[1], [b"1"])
            for name in ('"../../../escaped"', '"/tmp/escaped"', '".."'):
                m.create(name)
                m.append(name, None, None, b"Subject: x\r\n\r\n")
            m.logout()
        self.assertEqual(files(), before)
        self.assertEqual(sorted(os.listdir(os.path.dirname(below))), beside)
        self.assertFalse(os.path.exists("/tmp/escaped"))

    def test_disabled_and_refusing_accounts(self):
        self.ctl("account", "add", "off@example.test", "--hash", "{PLAIN}x", "--disable")
        self.assertFalse(self.may_login("off@example.test", "x"))
        self.assertEqual(self.rcpt("off@example.test"), 250)
        self.ctl("account", "set", "off@example.test", "--enable", "--refuse-mail")
        self.assertTrue(self.may_login("off@example.test", "x"))
        self.assertEqual(self.rcpt("off@example.test") // 100, 5)
        self.ctl("account", "set", "off@example.test", "--take-mail")
        self.assertEqual(self.rcpt("off@example.test"), 250)

    def test_quota_by_size_and_count(self):
        self.ctl("account", "add", "small@example.test", "--quota", "10K", "--count", "3", "--hash", "{PLAIN}x")
        self.assertEqual(self.rcpt("small@example.test", 5000), 250)
        self.assertEqual(self.rcpt("small@example.test", 50000), 452)
        for _ in range(3):
            self.deliver("small@example.test", b"Subject: x\r\n\r\n" + b"y" * 1000 + b"\r\n")
        self.assertEqual(self.rcpt("small@example.test", 10), 452)
        used = self.cluster.ctl_json("b1", "quota", "small@example.test")
        self.assertEqual(used["messages"], 3)
        host, port = self.cluster.at("b1", "pop3s")
        p = poplib.POP3_SSL(host, port, context=self.tls())
        p.user("small@example.test")
        p.pass_("x")
        self.assertEqual(p.stat(), (3, used["bytes"]))
        p.dele(1)
        p.quit()
        self.assertEqual(self.cluster.ctl_json("b1", "quota", "small@example.test")["messages"], 2)
        self.assertEqual(self.rcpt("small@example.test", 10), 250)

    def test_quota_of_the_configuration_counts_where_none_is_given(self):
        self.ctl("account", "add", "default@example.test")
        self.assertEqual(self.show("default@example.test")["messages_limit"], 1000)

    def test_details_reach_the_account(self):
        self.deliver("user0001+some-list@example.test", b"Subject: detail\r\n\r\nx\r\n")
        self.ctl("account", "add", "user0001+own@example.test")  # an account of its own comes first
        self.deliver("user0001+own@example.test", b"Subject: own\r\n\r\nx\r\n")
        self.assertEqual(self.show("user0001+own@example.test")["messages"], 1)
        self.assertEqual(self.show("user0001@example.test")["messages"], 1)
        self.ctl("account", "remove", "user0001+own@example.test")

    def test_international_addresses_have_one_form(self):
        self.ctl("account", "add", "J\u00c4RGEN@M\u00fcller.example", "--hash", "{PLAIN}x")
        shown = self.show("ja\u0308rgen@xn--mller-kva.example")
        self.assertEqual(shown["account"], "j\u00e4rgen@xn--mller-kva.example")

    def test_lists(self):
        rows = self.cluster.ctl("b1", "account", "list", "example.test")
        for i in range(1, self.USERS + 1):
            self.assertIn(self.user(i), rows)
        self.assertNotIn("@", self.cluster.ctl("b1", "account", "list", "nowhere.test"))

    def test_two_verbs_at_a_time_make_one_account(self):
        command = [os.path.join(mt.bin_dir(self.cluster.variant), "mailtierctl"), "-s", self.cluster.at("b1", "ctl"), "account", "add",
                   "race@example.test"]
        running = [subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for _ in range(8)]
        codes = sorted(p.wait(30) for p in running)
        self.assertEqual(codes[0], 0)
        self.assertTrue(all(c in (1, 75) for c in codes[1:]), codes)
        self.assertEqual(self.cluster.ctl("b1", "account", "list").count("race@example.test"), 1)

    def test_the_store_is_proved_while_it_runs(self):
        self.assertEqual(self.cluster.ctl_json("b1", "store", "check")["errors"], 0)
        self.assertGreater(self.cluster.ctl_json("b1", "store", "stat")["accounts"], 0)


class Permanent(BackendCase):
    CONF = "over-quota = permanent\ndrain-limit = 1s\n"

    def rcpt(self, user, size):
        host, port = self.cluster.at("b1", "lmtp")
        with smtplib.LMTP(host, port) as lmtp:
            lmtp.ehlo_or_helo_if_needed()
            lmtp.mail("s@x.test", [f"SIZE={size}"])
            return lmtp.rcpt(user)[0]

    def test_over_quota_is_refused_for_good_and_a_reload_changes_that(self):
        self.cluster.ctl("b1", "account", "set", self.user(1), "--quota", "10K")
        self.assertEqual(self.rcpt(self.user(1), 50000), 552)
        with open(self.extra) as f:
            text = f.read()
        with open(self.extra, "w") as f:
            f.write(text.replace("permanent", "temporary"))
        self.cluster.kill("b1", signal.SIGHUP)
        mt.wait_for(lambda: self.rcpt(self.user(1), 50000) == 452, 10, "the reload")
        with open(self.extra, "w") as f:
            f.write("over-quota = perhaps\n")
        self.cluster.kill("b1", signal.SIGHUP)
        mt.wait_for(lambda: "the old one stays" in self.cluster.log("b1"), 10, "the refusal in the log")
        self.assertEqual(self.rcpt(self.user(1), 50000), 452)
        with open(self.extra, "w") as f:
            f.write(text)


class Drain(BackendCase):
    CONF = "drain-limit = 2s\n"

    def test_sigterm_ends_sessions_with_a_word_and_commits(self):
        pop3 = self.connect("pop3s")
        pop3.line()
        pop3.ask(f"USER {self.user(1)}")
        self.assertTrue(pop3.ask(f"PASS {self.password(1)}").startswith("+OK"))
        imap = self.connect("imaps")
        imap.line()
        imap.send(f"a LOGIN {self.user(1)} {self.password(1)}")
        self.assertIn("a OK", imap.line())
        self.deliver(self.user(2), b"Subject: x\r\n\r\nx\r\n")
        begin = time.monotonic()
        self.cluster.kill("b1", signal.SIGTERM)
        self.assertTrue(pop3.line().startswith("-ERR [SYS/TEMP]"))
        self.assertTrue(imap.line().startswith("* BYE"))
        mt.wait_for(lambda: not self.cluster.is_alive("b1"), 10, "the end of the program")
        self.assertLess(time.monotonic() - begin, 5)
        program = os.path.join(mt.bin_dir(self.cluster.variant), "mailtier-backend")
        data = self.cluster.at("b1", "data")
        done = subprocess.run([program, "--store", data, "check"], capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertIn("messages 1 ", done.stdout)
        self.assertEqual(subprocess.run([program, "--store", data, "stat"], capture_output=True).returncode, 0)
        self.assertEqual(subprocess.run([program, "--store", data, "frob"], capture_output=True).returncode, 64)
        self.assertEqual(subprocess.run([program, "--store", data + ".none", "check"], capture_output=True).returncode, 1)


class DrainDelivery(BackendCase):
    CONF = "drain-limit = 10s\n"

    def test_a_delivery_under_way_is_finished(self):
        c = self.connect("lmtps")
        c.line()
        c.send("LHLO x")
        while not c.line().startswith("250 "):
            pass
        self.assertTrue(c.ask("MAIL FROM:<a@b.test>").startswith("250"))
        self.assertTrue(c.ask(f"RCPT TO:<{self.user(1)}>").startswith("250"))
        self.assertTrue(c.ask("DATA").startswith("354"))
        c.send("Subject: x")
        self.cluster.kill("b1", signal.SIGTERM)
        mt.wait_for(lambda: "listeners are closed" in self.cluster.log("b1"), 10, "the drain")
        time.sleep(0.3)
        self.assertTrue(c.ask("\r\nbody\r\n.").startswith("250"))
        mt.wait_for(lambda: not self.cluster.is_alive("b1"), 10, "the end of the program")
        program = os.path.join(mt.bin_dir(self.cluster.variant), "mailtier-backend")
        done = subprocess.run([program, "--store", self.cluster.at("b1", "data"), "check"], capture_output=True, text=True)
        self.assertIn("messages 1 ", done.stdout)


class Locked(BackendCase):
    def test_a_store_in_use_is_not_now(self):
        program = os.path.join(mt.bin_dir(self.cluster.variant), "mailtier-backend")
        done = subprocess.run([program, "--store", self.cluster.at("b1", "data"), "check"], capture_output=True, text=True)
        self.assertEqual(done.returncode, 75, done.stdout + done.stderr)
