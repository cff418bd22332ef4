"""A back-end with 2,000 sessions dies and comes back; one stops in the middle of everything. Real programs; the driver is
tests/bench/herd.py."""
import asyncio
import os
import signal
import sys
import time
import unittest

import mt

sys.path.insert(0, os.path.join(mt.ROOT, "tests", "bench"))
import herd  # noqa: E402

SESSIONS = 2000
ATTEMPTS = 3  # the longest turn of a loop counts the time that other programs took from it


class Herd(unittest.TestCase):
    def once(self):
        h = herd.Herd(SESSIONS)
        try:
            return asyncio.run(h.run())
        finally:
            h.stop()

    def test_its_users_are_told_at_once_and_come_back_without_a_herd(self):
        slow = 1 if mt.VARIANT == "release" else 10
        for attempt in range(ATTEMPTS):
            f = self.once()
            self.assertEqual(f["errors"], {"a NO [UNAVAILABLE"})
            self.assertEqual(f["others"], {"a OK"})
            self.assertGreater(f["resumed"], SESSIONS / 2)
            want = {"dropped_s": 1, "error_s": 1, "others_s": 1, "served_s": 5, "slowest_login_s": 2, "longest_turn_ms": 50}
            late = {name: f[name] for name, most in want.items() if f[name] > most * slow}
            if not late:
                return
            print(f"attempt {attempt + 1}: {late}", file=sys.stderr)
        self.fail(f"{late}, wanted {want}")


class Stopped(mt.ClusterCase):
    FLAGS = ["--proxies", 1, "--backends", 2, "--users", 8, "--password", "pw"]

    def test_a_stopped_back_end_holds_nobody(self):
        """SIGSTOP: the kernel goes on taking connections, the program says nothing. Who was under way and who comes then are told."""

        async def logins(user, count):
            clients = [herd.Client(self.cluster.at("p1", "imap"), user, "pw") for _ in range(count)]
            answers = await asyncio.gather(*(c.login() for c in clients))
            for c in clients:
                c.writer.close()
            return answers

        self.assertTrue(asyncio.run(logins("user0001@example.test", 1))[0][0].startswith("a OK"))
        self.cluster.kill("b1", signal.SIGSTOP)
        try:
            for answer, seconds in asyncio.run(logins("user0001@example.test", 50)):
                self.assertTrue(answer.startswith("a NO [UNAVAILABLE]"), answer)
                self.assertLess(seconds, 5)
            mt.wait_for(lambda: self.cluster.ctl_json("p1", "backend", "list")["rows"][0]["imap"] == "down", 10, "it is known as down")
            begin = time.monotonic()
            for answer, seconds in asyncio.run(logins("user0001@example.test", 50)):
                self.assertTrue(answer.startswith("a NO [UNAVAILABLE]"), answer)
            self.assertLess(time.monotonic() - begin, 2)
            for answer, _ in asyncio.run(logins("user0002@example.test", 20)):
                self.assertTrue(answer.startswith("a OK"), answer)
        finally:
            self.cluster.kill("b1", signal.SIGCONT)
        mt.wait_for(lambda: asyncio.run(logins("user0001@example.test", 1))[0][0].startswith("a OK"), 20, "it serves again")


if __name__ == "__main__":
    unittest.main()
