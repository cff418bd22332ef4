"""Imports into a store whose disk fills up, and backups to a disk that does: "not now", nothing half, and success when there is room again.
Both disks are tmpfs in a mount namespace of the test's own."""
import base64
import imaplib
import os
import random
import shutil
import ssl
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "flow"))
import mt  # noqa: E402

USER = "user0001@example.test"


class FullDiskTransfer(unittest.TestCase):
    def around(self, path):
        data = os.path.join(path, "c", "b1")
        script = (f"mkdir -p '{data}' && mount -t tmpfs -o size=24m none '{data}' && mount -t tmpfs -o size=2m none '{self.small}' && "
                  f"exec \"$@\"")
        return ["unshare", "-m", "sh", "-c", script, "sh"]

    def setUp(self):
        if subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
            self.skipTest("no permission for a mount namespace of its own")
        self.dir = tempfile.mkdtemp(prefix="mt-full-")
        self.addCleanup(shutil.rmtree, self.dir, ignore_errors=True)
        self.small = os.path.join(self.dir, "small")
        os.mkdir(self.small)
        self.cluster = mt.Cluster("--proxies", 0, "--backends", 1, "--users", 2, "--password", "secret", around=self.around)
        self.addCleanup(self.cluster.stop)
        self.cluster.ctl("b1", "account", "set", USER, "--hash", "{PLAIN}secret")
        tls = ssl.create_default_context()
        tls.check_hostname = False
        tls.verify_mode = ssl.CERT_NONE
        rng = random.Random(3)
        m = imaplib.IMAP4_SSL(*self.cluster.at("b1", "imaps"), ssl_context=tls)
        m.login(USER, "secret")
        for i in range(16):
            lines = base64.encodebytes(rng.randbytes(200000)).decode().replace("\n", "\r\n")
            m.append("INBOX", "", None, f"Subject: {i}\r\n\r\n{lines}".encode())
        m.logout()

    def check(self):
        self.assertEqual(self.cluster.ctl_json("b1", "store", "check")["errors"], 0)

    def accounts(self):
        return {r["account"] for r in self.cluster.ctl_json("b1", "account", "list")["rows"]}

    def test_import_and_backup(self):
        stream = os.path.join(self.dir, "stream")
        self.cluster.ctl("b1", "store", "export", USER, stream)
        made = []
        for i in range(12):
            name = f"copy{i}@example.test"
            code, words = self.cluster.ctl("b1", "store", "import", stream, "--as", name, code=None)
            self.assertIn(code, (0, 75), words)
            if code:
                break
            made.append(name)
        self.assertEqual(code, 75, "the disk never filled up")
        self.assertTrue(made)
        self.assertTrue(self.cluster.is_alive("b1"))
        self.assertEqual(self.accounts(), {USER, "user0002@example.test", *made})
        self.check()
        for name in made:
            mt.wait_for(lambda name=name: self.cluster.ctl("b1", "account", "remove", name, code=None)[0] == 0, 30, "a removal")
        mt.wait_for(lambda: self.cluster.ctl("b1", "store", "import", stream, "--as", "late@example.test", code=None)[0] == 0, 60,
                    "an import when the reaper has made room")
        self.check()

        code, words = self.cluster.ctl("b1", "store", "backup", self.small, code=None)
        self.assertEqual(code, 75, words)
        self.assertIn("full", words)
        self.check()
        self.assertEqual(self.cluster.ctl_json("b1", "store", "backup", "verify", self.small)["failed"], 0)
        large = os.path.join(self.dir, "large")
        self.assertEqual(self.cluster.ctl_json("b1", "store", "backup", large)["failed"], 0)
        self.assertEqual(self.cluster.ctl_json("b1", "store", "backup", "verify", large)["failed"], 0)


if __name__ == "__main__":
    unittest.main()
