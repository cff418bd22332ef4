"""Map files that change under load: each swap is whole, a bad file never takes force."""
import imaplib
import os
import threading
import time
import unittest

import mt


class MapReload(mt.ClusterCase):
    FLAGS = ["--proxies", 1, "--backends", 2, "--users", 20, "--password", "secret"]

    def map_path(self):
        return self.status()["file"]

    def metric(self, name):
        return self.cluster.metric("p1", name)

    def login(self, user):
        m = imaplib.IMAP4(*self.cluster.at("p1", "imap"))
        try:
            return m.login(user, "secret")
        finally:
            m.logout()

    def replace(self, text):
        path = self.map_file
        with open(os.open(path + ".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as f:
            f.write(text)
        os.rename(path + ".new", path)

    def status(self):
        return self.cluster.ctl_json("p1", "map", "status")["rows"][0]

    def setUp(self):
        self.map_file = self.status()["file"]
        with open(self.map_file) as f:
            self.good = f.read()
        self.addCleanup(self.restore)

    def restore(self):
        self.replace(self.good)
        self.cluster.ctl("p1", "map", "reload", "--force")

    def test_a_hundred_swaps_under_load(self):
        failures, logins, stop = [], [0], threading.Event()

        def worker(k):
            n = 0
            while not stop.is_set():
                user = f"user{(k * 7 + n) % 20 + 1:04}@example.test"
                n += 1
                try:
                    self.login(user)
                    logins[0] += 1
                except Exception as e:
                    failures.append(f"{user}: {e}")

        workers = [threading.Thread(target=worker, args=(k,)) for k in range(4)]
        for w in workers:
            w.start()
        begin = self.status()["loads"]
        try:
            for i in range(100):
                # every other generation has more lines, so that a half-read file would show
                more = "".join(f"extra{j:05}@example.test b1\n" for j in range((i % 2) * 300 + i))
                lines = self.good.rsplit("# end", 1)[0]
                count = sum(1 for x in lines.splitlines() if x and not x.startswith("#")) + more.count("\n")
                self.replace(lines + more + f"# end {count}\n")
                if i % 20 == 19:  # some generations stand still long enough to be read, others are overtaken
                    want = count
                    mt.wait_for(lambda: self.status()["entries"] == want, 10, f"generation of {want} entries")
        finally:
            stop.set()
            for w in workers:
                w.join()
        self.assertEqual(failures, [])
        self.assertGreater(logins[0], 100)
        self.assertGreaterEqual(self.status()["loads"] - begin, 5)

    def refused(self, text, words):
        before = self.status()
        self.replace(text)
        mt.wait_for(lambda: words in (self.status()["error"] or ""), 10,
                    f"refusal with {words!r}, have {self.status()['error']!r}")
        after = self.status()
        self.assertEqual(after["generation"], before["generation"])
        self.assertEqual(after["entries"], before["entries"])
        self.login("user0001@example.test")
        self.assertGreater(self.metric("mailtier_map_load_failures_total"), 0)

    def test_a_broken_file_is_refused_with_file_and_line(self):
        lines = self.good.splitlines(True)
        lines[2] = "broken@example.test nowhere-at-all\n"
        self.refused("".join(lines), ":3:")

    def test_a_file_cut_at_a_line_end_is_refused(self):
        self.refused("".join(self.good.splitlines(True)[:-1]), "end")

    def test_an_emptied_file_is_refused(self):
        self.refused("", "")

    def test_a_shrunken_file_is_refused_until_forced(self):
        lines = [x for x in self.good.splitlines(True) if x.strip() and not x.startswith("#")][:10]
        text = "".join(lines) + f"# end {len(lines)}\n"
        self.refused(text, "")
        self.cluster.ctl("p1", "map", "reload", "--force")
        mt.wait_for(lambda: self.status()["entries"] == 10, 10, "the forced generation")

    def test_a_file_written_slowly_in_place_is_waited_for(self):
        before = self.status()
        lines = self.good.splitlines(True)
        body = "".join(lines[:-1]) + "late@example.test b1\n"
        count = sum(1 for x in body.splitlines() if x and not x.startswith("#"))
        whole = body + f"# end {count}\n"
        with open(self.map_file, "w") as f:
            for i in range(0, len(whole), len(whole) // 12 + 1):
                f.write(whole[i:i + len(whole) // 12 + 1])
                f.flush()
                os.fsync(f.fileno())
                time.sleep(0.3)  # a slow writer is what is tested here
                self.login("user0001@example.test")
        mt.wait_for(lambda: self.status()["entries"] == before["entries"] + 1, 10, "the new generation")
        self.assertEqual(self.status()["failures"], before["failures"])


if __name__ == "__main__":
    unittest.main()
