"""Many accounts from a file: checked whole, made in batches, gone on with after an interruption. The figure for 100,000 is made by tests/bench/import.py."""
import imaplib
import json
import os
import shutil
import signal
import ssl
import subprocess
import tempfile
import unittest

import mt

COUNT = 2000


class Import(mt.ClusterCase):
    FLAGS = ["--proxies", 0, "--backends", 1, "--users", 1, "--restart"]

    def program(self, *words, text=None):
        return subprocess.run([os.path.join(mt.bin_dir(self.cluster.variant), "mailtierctl"), "-s", self.cluster.at("b1", "ctl"), *words],
                              input=text, capture_output=True, text=True, timeout=120)

    def run_import(self, text, *words, status=0):
        done = self.program("--json", "account", "import", "-", *words, text=text)
        self.assertEqual(done.returncode, status, done.stdout + done.stderr)

        return json.loads(done.stdout)

    def errors(self, text, *words, status=1):
        got = self.run_import(text, *words, status=status)
        return [(r["line"], r["error"]) for r in got["rows"]]

    def show(self, address):
        return self.cluster.ctl_json("b1", "account", "show", address)

    def exists(self, address):
        return self.cluster.ctl("b1", "account", "show", address, code=None)[0] == 0

    def may_login(self, user, password):
        host, port = self.cluster.at("b1", "imaps")
        m = imaplib.IMAP4_SSL(host, port, ssl_context=ssl.create_default_context(cafile=self.cluster.ca))
        try:
            m.login(user, password)
            m.logout()
            return True
        except imaplib.IMAP4.error:
            m.shutdown()
            return False

    def test_columns(self):
        self.cluster.ctl("b1", "class", "add", "im-gold", "--count", "50")
        text = ('Address,password,class,quota,count,aliases,forward,keep,disabled,name\r\n'
                'One@im.test,{PLAIN}p1,im-gold,1G,,"a1@im.test, a2@im.test",two@im.test,no,,"One ""the first"""\r\n'
                'two@im.test,in clear,,none,7,,,,yes,\r\n')
        self.assertEqual(self.run_import(text, "--dry-run"), {"would_make": 2, "present": 0, "would_hash": 1, "errors": 0, "passed_over": 0})
        self.assertFalse(self.exists("one@im.test"))
        got = self.run_import(text)
        self.assertEqual((got["made"], got["errors"]), (2, 0))
        one, two = self.show("one@im.test"), self.show("two@im.test")
        self.assertEqual((one["bytes_limit"], one["class"], one["aliases"], one["forwards"], one["keeps_a_copy"], one["name"], one["password"]),
                         (1 << 30, "im-gold", ["a1@im.test", "a2@im.test"], ["two@im.test"], False, 'One "the first"', "PLAIN"))
        self.assertEqual((two["messages_limit"], two["enabled"], two["password"]), (7, False, "ARGON2ID"))
        self.assertTrue(self.may_login("a1@im.test", "p1"))
        self.cluster.ctl("b1", "account", "set", "two@im.test", "--enable")
        self.assertTrue(self.may_login("two@im.test", "in clear"))
        # What is there stays, but for --update.
        text = "address,quota,aliases\none@im.test,2G,a3@im.test a1@im.test\nthree@im.test,,\n"
        got = self.run_import(text)
        self.assertEqual((got["made"], got["present"], self.show("one@im.test")["bytes_limit"]), (1, 1, 1 << 30))
        self.assertEqual(self.run_import(text, "--update")["updated"], 2)
        one = self.show("one@im.test")
        self.assertEqual((one["bytes_limit"], one["class"], one["aliases"]), (2 << 30, "im-gold", ["a1@im.test", "a2@im.test", "a3@im.test"]))
        self.assertNotIn("in clear", self.cluster.log("b1"))

    def test_ldif(self):
        text = ("version: 1\n\ndn: dc=ld,dc=test\nobjectClass: domain\n\n# people\ndn: uid=ann,dc=ld\nuid: ann\ncn: Ann\n  Example\n"
                "mail: Ann@ld.test\nmail: second@ld.test\nmailAlternateAddress: third@ld.test\nproxyAddresses: SMTP:ann@ld.test\n"
                "proxyAddresses: smtp:fourth@ld.test\nproxyAddresses: X400:c=us\nuserPassword:: e1BMQUlOfXB3\nmailQuotaSize: 1000000\n"
                "accountStatus: active\n\ndn: uid=bob@ld.test,dc=ld\nuid: bob@ld.test\nloginDisabled: TRUE\n")
        got = self.run_import(text, "--format", "ldif")
        self.assertEqual((got["made"], got["passed_over"]), (2, 1))
        ann = self.show("ann@ld.test")
        self.assertEqual((ann["aliases"], ann["name"], ann["bytes_limit"]),
                         (["fourth@ld.test", "second@ld.test", "third@ld.test"], "Ann Example", 1000000))
        self.assertTrue(self.may_login("third@ld.test", "pw"))
        self.assertFalse(self.show("bob@ld.test")["enabled"])
        path = os.path.join(self.cluster.dir, "people.ldif")
        with open(path, "w") as f:
            f.write(text)
        self.assertEqual(self.cluster.ctl_json("b1", "account", "import", path)["present"], 2)

    def test_a_file_is_checked_whole(self):
        self.cluster.ctl("b1", "account", "add", "has@er.test", "--alias", "taken@er.test")
        self.cluster.ctl("b1", "domain", "add", "small.test", "--max-accounts", "1", "--max-quota", "1G", "--alias", "small2.test")
        text = ("address,password,class,quota,aliases,forward\ngood@er.test,,,,,\nno address,,,,,\nx@er.test,{NOSUCH}x,,,,\nx1@er.test,,nosuch,,,\n"
                "x2@er.test,,,many,,\nx3@er.test,,,,taken@er.test,\ngood@er.test,,,,,\nx4@er.test,,,,,nobody\nx5@small.test,,,2G,,\n"
                "x6@small2.test,,,,,\nx7@small.test,,,,,\nx8@small.test,,,,,\nx9@er.test,,\n\"x10@er.test\n")
        want = [3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 14, 15]
        self.assertEqual(sorted(line for line, _ in self.errors(text)), want)
        self.assertFalse(self.exists("good@er.test"))
        self.assertEqual(len(self.errors(text, "--dry-run")), len(want))  # it fails as the import would
        self.assertEqual(self.run_import(text, "--dry-run", "--continue-on-error")["would_make"], 2)
        self.assertIn("one of its aliases", self.errors("address,aliases\ny@er.test,y@small2.test\n", "--dry-run")[0][1])
        got = self.run_import(text, "--continue-on-error")
        self.assertEqual((got["made"], got["errors"], sorted(r["line"] for r in got["rows"])), (2, len(want), want))
        self.assertTrue(self.exists("good@er.test") and self.exists("x7@small.test"))
        for bad in ("", "password\nx\n", "address,colour\n", "address,address\n"):
            self.assertIn("columns", self.program("account", "import", "-", text=bad).stderr)
        self.assertIn("No such file", self.program("account", "import", "/nonexistent/file").stderr)
        self.assertIn("larger than", self.program("account", "import", "/dev/zero").stderr)

    def test_two_thousand_and_a_kill_between(self):
        text = "address,password\n" + "".join(f"u{i:05}@many.test,{{PLAIN}}x{i}\n" for i in range(COUNT))
        old = self.cluster.pid("b1")
        client = subprocess.Popen([os.path.join(mt.bin_dir(self.cluster.variant), "mailtierctl"), "-s", self.cluster.at("b1", "ctl"), "account",
                                   "import", "-"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True)
        writer = client.stdin
        writer.write(text)
        writer.close()
        mt.wait_for(lambda: self.cluster.metric("b1", "mailtier_store_accounts") > 100, 20, "the first accounts")
        self.cluster.kill("b1", signal.SIGKILL)
        client.wait(20)
        self.cluster.wait_restarted("b1", old)
        mt.wait_for(lambda: self.cluster.ctl("b1", "store", "stat", code=None)[0] == 0, 30, "the back-end again")
        there = self.cluster.ctl_json("b1", "account", "list", "many.test", "--limit", "1000000")["accounts"]
        self.assertGreater(there, 0)
        self.assertEqual(self.cluster.ctl_json("b1", "store", "check")["errors"], 0)
        got = self.run_import(text)
        self.assertEqual((got["present"], got["made"], got["errors"]), (there, COUNT - there, 0))
        self.assertEqual(self.cluster.ctl_json("b1", "account", "list", "many.test")["accounts"], COUNT)
        self.assertTrue(self.may_login("u01999@many.test", "x1999"))
        self.assertEqual(self.cluster.ctl_json("b1", "store", "check")["errors"], 0)

@unittest.skipUnless(os.path.exists(os.path.join(mt.bin_dir("faults"), "mailtier-backend")), "make VARIANT=faults all")
class Killed(mt.ClusterCase):
    """The program dies at each point of an import, of a renaming and of a change of a domain: all of a step is there, or nothing of it."""

    @classmethod
    def setUpClass(cls):
        cls.faults = tempfile.mkdtemp(prefix="mt-faults-")
        os.chmod(cls.faults, 0o755)
        cls.cluster = mt.Cluster("--proxies", 0, "--backends", 1, "--users", 1, "--restart", variant="faults",
                                 env={"MAILTIER_FAULT_DIR": cls.faults})

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        shutil.rmtree(cls.faults)

    def dies(self, fault, *words, text=None):
        """The verb fails since the program dies at that point; the program is there again."""
        old, path = self.cluster.pid("b1"), os.path.join(self.faults, "b1")
        with open(path, "w") as f:
            f.write(fault)
        done = subprocess.run([os.path.join(mt.bin_dir("faults"), "mailtierctl"), "-s", self.cluster.at("b1", "ctl"), *words],
                              input=text, capture_output=True, text=True, timeout=60)
        os.unlink(path)
        self.assertNotEqual(done.returncode, 0, fault)
        self.cluster.wait_restarted("b1", old)
        mt.wait_for(lambda: self.cluster.ctl("b1", "store", "stat", code=None)[0] == 0, 30, "the back-end again")
        self.assertEqual(self.cluster.ctl_json("b1", "store", "check")["errors"], 0, fault)

    def names(self, domain):
        return [r["account"] for r in self.cluster.ctl_json("b1", "account", "list", domain).get("rows", [])]

    def test_an_import(self):
        text = "address,aliases\n" + "".join(f"u{i:03}@k.test,a{i:03}@k.test\n" for i in range(1000))  # a batch has 100 at most
        there = 0
        for fault in ("import-amid-batch:kill:30", "store-before-commit:kill:2", "store-after-commit:kill:2", "import-after-batch:kill:2"):
            self.dies(fault, "account", "import", "-", text=text)
            now = len(self.names("k.test"))
            self.assertGreaterEqual(now, there, fault)
            there = now
        self.assertGreater(there, 0)
        done = subprocess.run([os.path.join(mt.bin_dir("faults"), "mailtierctl"), "-s", self.cluster.at("b1", "ctl"), "--json", "account", "import",
                               "-"], input=text, capture_output=True, text=True, timeout=60)
        self.assertEqual(json.loads(done.stdout)["present"], there)
        self.assertEqual(len(self.names("k.test")), 1000)
        for i in (0, 150, 999):
            self.assertEqual(self.cluster.ctl_json("b1", "account", "show", f"a{i:03}@k.test")["account"], f"u{i:03}@k.test")

    def test_a_renaming_and_a_domain(self):
        self.cluster.ctl("b1", "account", "add", "old@r.test", "--alias", "also@r.test")
        for fault, want in (("store-before-commit:kill:1", "old@r.test"), ("store-after-commit:kill:1", "new@r.test")):
            self.dies(fault, "account", "rename", "old@r.test", "new@r.test", "--keep-alias")
            self.assertEqual(self.names("r.test"), [want], fault)
            self.assertEqual(self.cluster.ctl_json("b1", "account", "show", "also@r.test")["account"], want)
        self.assertEqual(self.cluster.ctl_json("b1", "account", "show", "old@r.test")["account"], "new@r.test")
        for fault, want in (("store-before-commit:kill:1", 0), ("store-after-commit:kill:1", 7)):
            self.dies(fault, "domain", "add", "d.test", "--count", "7")
            code, text = self.cluster.ctl("b1", "--json", "domain", "show", "d.test", code=None)
            self.assertEqual(json.loads(text).get("messages_limit", 0), want, fault)


if __name__ == "__main__":
    unittest.main()
