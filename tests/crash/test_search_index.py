"""The text index under kill -9 at each of its fault points and without room: what a search finds is what the messages have, always; the index
checks out; indexing goes on afterwards. The first needs the faults variant (make VARIANT=faults all)."""
import os
import random
import string
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "flow"))
import mt  # noqa: E402
from imap_wire import Closed, Wire, fetch_items  # noqa: E402

USER, PASSWORD = "user0001@example.test", "pw"
BATCH = 70  # messages that are just enough for a segment
SMALL_COUNT = 4  # so many small segments at the end are joined
POINTS = ("search-before-commit", "search-after-commit", "search-join-commit")


class Index(unittest.TestCase):
    def start(self, *flags, **kw):
        conf = tempfile.NamedTemporaryFile("w", suffix=".conf")
        self.addCleanup(conf.close)
        conf.write("text-index-share = 100\nslots = 1\n")
        conf.flush()
        self.rng = random.Random(11)
        self.cluster = mt.Cluster("--proxies", 0, "--backends", 1, "--users", 1, "--password", PASSWORD, "--backend-conf", conf.name, *flags, **kw)
        self.addCleanup(self.cluster.stop)

    def login(self):
        def attempt():
            try:
                wire = Wire(self.cluster.at("b1", "imap"), timeout=60)
                if wire.ask(b"LOGIN %s %s" % (USER.encode(), PASSWORD.encode()))[1].startswith(b"OK"):
                    return wire
                wire.close()
            except (OSError, Closed):
                pass
            return None
        wire = mt.wait_for(attempt, 60, "the back-end takes logins")
        self.addCleanup(wire.close)
        return wire

    def batch(self, wire, octets=4500, letters="abcdefgh", vocabulary=20):
        words = ["".join(self.rng.choice(letters) for _ in range(5)) for _ in range(vocabulary)]
        mails = []
        for i in range(BATCH):
            text = f"Subject: {self.rng.choice(words)} {i}\r\n\r\n"
            while len(text) < octets:
                text += " ".join(self.rng.choice(words) for _ in range(10)) + "\r\n"
            mails.append(b" {%d+}\r\n%s" % (len(text), text.encode()))
        return wire.ask(b"APPEND INBOX" + b"".join(mails))[1]

    def status(self):
        return next(r for r in self.cluster.ctl_json("b1", "index", "status", USER)["rows"] if r["mailbox"] == "INBOX")

    def wait_indexed(self, count, seconds=60):
        mt.wait_for(lambda: self.status()["indexed"] >= count, seconds, f"{count} messages are indexed")

    def verify(self):
        """Needles out of the messages and others; the index itself. How many messages there are."""
        wire = self.login()
        wire.ask(b"SELECT INBOX")
        items = [fetch_items(u)[1] for u in wire.ask(b"UID FETCH 1:* (BODY.PEEK[])")[0] if b" FETCH (" in u[:30]]
        bodies = {int(i[b"UID"]): i[b"BODY[]"].partition(b"\r\n\r\n")[2] for i in items}
        for i in range(30):
            text = self.rng.choice(list(bodies.values()))
            at = self.rng.randrange(len(text))
            needle = text[at:at + self.rng.choice([3, 5, 8, 15])].replace(b"\r", b"").replace(b"\n", b"") or b"x"
            needle = b"zzz" if i == 0 else needle
            line = next(u for u in wire.ask(b'UID SEARCH BODY "%s"' % needle)[0] if u.startswith(b"* SEARCH"))
            self.assertEqual([int(n) for n in line.split()[2:]], sorted(u for u, t in bodies.items() if needle in t), needle)
        wire.close()
        self.assertEqual(self.cluster.ctl_json("b1", "store", "check")["errors"], 0)
        return len(bodies)


class Killed(Index):
    def arm(self, words):
        path = os.path.join(self.faults, "b1")
        with open(path + ".new", "w") as f:
            f.write(words + "\n")
        os.rename(path + ".new", path)

    def test_killed_at_each_fault_point(self):
        if not os.path.exists(os.path.join(mt.bin_dir("faults"), "mailtier-backend")):
            self.skipTest("make VARIANT=faults all")
        self.faults = tempfile.mkdtemp(prefix="mt-faults-")
        os.chmod(self.faults, 0o755)
        self.start("--restart", variant="faults", env={"MAILTIER_FAULT_DIR": self.faults})
        segments = 0
        for point in POINTS:
            with self.subTest(point):
                while point == "search-join-commit" and segments < SMALL_COUNT - 1:
                    before = self.status()["indexed"]
                    self.assertRegex(self.batch(self.login()), rb"\AOK")
                    self.wait_indexed(before + BATCH)
                    segments = self.status()["segments"]
                old = self.cluster.pid("b1")
                self.arm(point + ":kill")
                try:
                    self.batch(self.login())
                except (Closed, OSError):
                    pass  # it was faster than the answer
                mt.wait_for(lambda: self.cluster.pid("b1") != old or not self.cluster.is_alive("b1"), 60, f"{point}: it has died")
                os.unlink(os.path.join(self.faults, "b1"))
                self.cluster.wait_restarted("b1", old, 60)
                self.wait_indexed(self.verify())
                segments = self.status()["segments"]
                self.verify()
        self.assertGreaterEqual(segments, SMALL_COUNT)  # they are as they were
        self.assertRegex(self.batch(self.login()), rb"\AOK")
        mt.wait_for(lambda: self.status()["segments"] < SMALL_COUNT, 60, "segments are joined")
        self.wait_indexed(self.verify())


class Full(Index):
    def around(self, path):
        folder = os.path.join(path, "c", "b1", "s0", "text")
        script = f"mkdir -p '{folder}' && mount -t tmpfs -o size=4m,mode=777 none '{folder}' && head -c 3700k /dev/zero >'{folder}/ballast' && exec \"$@\""
        return ["unshare", "-m", "sh", "-c", script, "sh"]

    def test_no_room_for_the_index(self):
        if subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
            self.skipTest("no permission for a mount namespace of its own")
        self.start(around=self.around)
        wire = self.login()
        for _ in range(30):
            self.assertRegex(self.batch(wire, 12000, string.ascii_lowercase, 3000), rb"\AOK", "mail goes on")
            mt.wait_for(lambda: self.cluster.ctl_json("b1", "index", "status")["idle"], 60, "the indexer has looked at it")
            if self.cluster.ctl_json("b1", "index", "status")["full"]:
                break
        self.assertTrue(self.cluster.ctl_json("b1", "index", "status")["full"], "the disk never filled up")
        self.assertRegex(self.batch(wire), rb"\AOK")
        count = self.verify()
        self.assertLess(self.status()["indexed"], count)
        os.unlink(f"/proc/{self.cluster.pid('b1')}/root{self.cluster.at('b1', 'data')}/s0/text/ballast")
        if "MAILTIER_PATIENT" not in os.environ:  # it comes back by itself after a minute
            self.cluster.ctl("b1", "index", "rebuild", USER)
        self.wait_indexed(count, 90)
        self.verify()
        status = self.cluster.ctl_json("b1", "index", "status")
        self.assertFalse(status["full"])


if __name__ == "__main__":
    unittest.main()
