"""What an operator asks of a store: figures with the oldest reader, check, repair and scrub while it runs; repair and compaction when
it is closed."""
import imaplib
import os
import signal
import subprocess
import unittest

import mt
from backend_case import BackendCase

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")


class StoreVerbs(BackendCase):
    USERS = 1
    CONF = "scrub-interval = 0\nretention = 0\n"

    def offline(self, *words):
        return subprocess.run([os.path.join(ROOT, "build/bin/mailtier-backend"), "--store", self.cluster.at("b1", "data"), *words],
                              capture_output=True, text=True, timeout=60)

    def test_a_running_store_and_a_closed_one(self):
        body = "Subject: x\r\n\r\n" + "".join(os.urandom(30).hex() + "\r\n" for _ in range(5000))
        for _ in range(8):
            self.deliver(self.user(1), body)
        stat = self.cluster.ctl_json("b1", "store", "stat")
        self.assertEqual((stat["messages"], stat["kept"]), (8, 0))
        self.assertIn("oldest_reader_job", stat)
        self.assertEqual(self.cluster.ctl_json("b1", "store", "repair"), {"mended": 0, "left": 0, "damaged": 0})
        self.cluster.ctl("b1", "store", "scrub", "start")

        def scrubbed():
            rows = self.cluster.ctl_json("b1", "store", "scrub", "status")["rows"]
            return rows if all(r["ended"] for r in rows) else None
        rows = mt.wait_for(scrubbed, 30, "the scrub")
        self.assertEqual(sum(r["bodies"] for r in rows), 8)
        self.assertEqual(sum(r["damaged"] for r in rows), 0)
        self.assertEqual(self.offline("repair").returncode, 75)
        self.assertEqual(self.offline("compact").returncode, 75)
        m = imaplib.IMAP4_SSL(*self.cluster.at("b1", "imaps"), ssl_context=self.tls())
        m.login(self.user(1), self.password(1))
        m.select("INBOX")
        m.store("1:7", "+FLAGS", "\\Deleted")
        m.expunge()
        m.logout()
        mt.wait_for(lambda: self.cluster.ctl_json("b1", "store", "stat")["blobs"] == 1, 30, "the reaper")
        self.cluster.kill("b1", signal.SIGTERM)
        mt.wait_for(lambda: self.offline("stat").returncode == 0, 30, "the end of the back-end")
        out = self.offline("compact")
        self.assertEqual(out.returncode, 0, out.stderr)
        self.assertGreater(int(out.stdout.split()[-1]), 1000000, out.stdout)
        self.assertEqual(self.offline("repair").stdout, "mended 0 left 0 damaged 0\n")
        self.assertEqual(self.offline("check").returncode, 0)
        self.assertEqual(self.offline("compact", "--no-bodies").returncode, 64)


if __name__ == "__main__":
    unittest.main()
