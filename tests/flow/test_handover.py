"""Hand-over of a proxy to a newly started program: what lives on, what is refused, who dies when."""
import contextlib
import imaplib
import os
import re
import shutil
import signal
import socket
import tempfile
import threading
import time

import mt

PROXY = ["--proxies", 1, "--backends", 1, "--users", 4, "--loops", 2]


def login(place, user="user0001", password="pass0001", timeout=30):
    m = imaplib.IMAP4(*place, timeout=timeout)
    m.login(user, password)
    return m


class Handover(mt.ClusterCase):
    FLAGS = PROXY

    @classmethod
    def setUpClass(cls):
        # A configuration and a program that tests may change.
        cls.folder = tempfile.mkdtemp(prefix="mt-handover-")
        cls.addClassCleanup(shutil.rmtree, cls.folder, ignore_errors=True)
        cls.conf = os.path.join(cls.folder, "more.conf")
        cls.set_conf("")
        cls.bin = os.path.join(cls.folder, "bin")
        shutil.copytree(mt.bin_dir(), cls.bin)
        cls.FLAGS = PROXY + ["--conf", cls.conf]
        cls.ENV = {"MAILTIER_BIN": cls.bin}
        super().setUpClass()
        cls.place = cls.cluster.at("p1", "imap")

    @classmethod
    def set_conf(cls, text):
        with open(cls.conf, "w") as f:
            f.write(text)

    def setUp(self):
        self.set_conf("")

    def generation(self):
        """An old program that took the question of this client still may end before it answers; then it is asked again."""
        def ask():
            with contextlib.suppress(ConnectionError):
                return int(self.cluster.metric("p1", "mailtier_program_generation"))
        return mt.wait_for(ask, 10, "the status listener answers")

    def hand_over(self):
        """By the verb; the new process."""
        old = self.cluster.pid("p1")
        answer = self.cluster.ctl_json("p1", "handover")
        mt.wait_for(lambda: self.cluster.pid("p1") == answer["pid"] != old, 30, "the starter hears of the new process")
        return old, answer["pid"]

    def old_ctl(self, pid, *words):
        self.cluster.places["old", "ctl"] = f"{self.cluster.at('p1', 'ctl')}.{pid}"
        return self.cluster.ctl_json("old", *words)

    def is_running(self, pid):
        return os.path.exists(f"/proc/{pid}")

    def test_sessions_live_on_and_new_clients_meet_the_new_program(self):
        before = self.generation()
        m = login(self.place)
        old, new = self.hand_over()
        self.assertEqual(self.generation(), before + 1)
        self.assertEqual(m.noop()[0], "OK")
        with login(self.place, "user0002", "pass0002") as other:
            self.assertEqual(other.noop()[0], "OK")
            # Each has its own; the old one is asked under its number.
            self.assertEqual([r["user"] for r in self.old_ctl(old, "session", "list")["rows"]], ["user0001@example.test"])
            self.assertEqual([r["user"] for r in self.cluster.ctl_json("p1", "session", "list")["rows"]], ["user0002@example.test"])
            mt.wait_for(lambda: self.cluster.metric("p1", "mailtier_program_predecessor_sessions") == 1, 30, "the old one's count")
        self.assertTrue(self.is_running(old))
        m.logout()
        mt.wait_for(lambda: not self.is_running(old), 30, "the old program ends with its last session")
        mt.wait_for(lambda: self.cluster.metric("p1", "mailtier_program_predecessors") == 0, 30, "the new one knows")
        self.assertFalse(os.path.exists(f"{self.cluster.at('p1', 'ctl')}.{old}"))
        self.assertIn(f"took over pid={old} ", self.cluster.log("p1"))

    def test_client_in_the_middle_of_its_login_goes_on(self):
        m = imaplib.IMAP4(*self.place, timeout=30)  # has its greeting
        old, _ = self.hand_over()
        m.login("user0003", "pass0003")
        self.assertEqual(m.noop()[0], "OK")
        m.logout()
        mt.wait_for(lambda: not self.is_running(old), 30, "the old program ends")

    def test_several_in_a_row(self):
        before = self.generation()
        held = []
        for _ in range(3):
            held.append((login(self.place), self.hand_over()[0]))
        self.assertEqual(self.generation(), before + 3)
        mt.wait_for(lambda: self.cluster.metric("p1", "mailtier_program_predecessors") == 3, 30, "three old ones")
        mt.wait_for(lambda: self.cluster.metric("p1", "mailtier_program_predecessor_sessions") == 3, 30, "a session each")
        for m, pid in held[::-1]:
            self.assertEqual(m.noop()[0], "OK")
            m.logout()
            mt.wait_for(lambda: not self.is_running(pid), 30, "an old one ends")
        mt.wait_for(lambda: self.cluster.metric("p1", "mailtier_program_predecessors") == 0, 30, "all are known to have ended")

    def test_signal_does_the_same(self):
        old = self.cluster.pid("p1")
        self.cluster.kill("p1", signal.SIGUSR2)
        mt.wait_for(lambda: self.cluster.pid("p1") != old, 30, "another process")
        mt.wait_for(lambda: not self.is_running(old), 30, "without sessions the old one ends at once")
        login(self.place).logout()

    def test_sigterm_ends_an_old_one(self):
        m = login(self.place)
        old, _ = self.hand_over()
        os.kill(old, signal.SIGTERM)
        mt.wait_for(lambda: not self.is_running(old), 30, "the old one drains for drain-limit, and ends")
        with self.assertRaises((imaplib.IMAP4.abort, OSError)):
            m.noop()
        login(self.place).logout()

    def test_old_one_ends_at_the_limit(self):
        self.set_conf("handover-sessions = 1s\n")
        count = self.cluster.log("p1").count("configuration read again")
        self.cluster.kill("p1", signal.SIGHUP)
        mt.wait_for(lambda: self.cluster.log("p1").count("configuration read again") > count, 30, "the reload")
        m = login(self.place)
        old, _ = self.hand_over()
        mt.wait_for(lambda: not self.is_running(old), 30, "a session does not hold it beyond handover-sessions")
        with self.assertRaises((imaplib.IMAP4.abort, OSError)):
            m.noop()

    # ---- what goes wrong ----

    def failed(self, words):
        """A hand-over that fails: the exit status is 75, the ERROR line and the answer have the reason, and all goes on."""
        before, pid = self.cluster.log("p1").count("hand-over failed"), self.cluster.pid("p1")
        m = login(self.place)
        code, said = self.cluster.ctl("p1", "handover", code=None)
        self.assertEqual(code, 75, said)
        self.assertRegex(said, words)
        log = self.cluster.log("p1")
        self.assertEqual(log.count("hand-over failed"), before + 1)
        self.assertRegex([line for line in log.split("\n") if "hand-over failed" in line][-1], f" ERROR proxy: .*{words}")
        self.assertEqual(m.noop()[0], "OK")
        m.logout()
        login(self.place).logout()
        self.assertEqual(self.cluster.pid("p1"), pid)

    def test_bad_configuration(self):
        self.set_conf("no-such-key = 1\n")
        self.failed("no-such-key")

    def test_address_that_is_taken(self):
        with socket.create_server((self.cluster.host, 0)) as other:
            port = other.getsockname()[1]
            self.set_conf(f"listener more {{ service = imap listen = {{\"{self.cluster.host}:{port}\"}} }}\n")
            self.failed(f"{port}.*cannot bind")

    def test_program_that_is_none(self):
        path = os.path.join(self.bin, "mailtier-proxy")
        os.rename(path, path + ".good")
        self.addCleanup(os.rename, path + ".good", path)
        self.failed("cannot be started: No such file")
        with open(path, "w") as f:
            f.write("#!/bin/sh\necho this one cannot >&2\nexit 3\n")
        os.chmod(path, 0o755)
        self.failed("ended with status 3; this one cannot")

    def test_another_version_at_the_same_path_takes_over(self):
        path = os.path.join(self.bin, "mailtier-proxy")
        shutil.copy2(path, path + ".new")
        os.rename(path + ".new", path)  # as a package does
        before = os.stat(f"/proc/{self.cluster.pid('p1')}/exe").st_ino
        _, new = self.hand_over()
        self.assertEqual(os.stat(f"/proc/{new}/exe").st_ino, os.stat(path).st_ino)
        self.assertNotEqual(os.stat(path).st_ino, before)
        self.hand_over()  # and that one hands over too

    def test_map_that_cannot_be_used(self):
        # The limit is the old one's, which reads it first, and forgets it at the end.
        def reload(text):
            self.set_conf(text)
            count = self.cluster.log("p1").count("configuration read again")
            self.cluster.kill("p1", signal.SIGHUP)
            mt.wait_for(lambda: self.cluster.log("p1").count("configuration read again") > count, 30, "the reload")
        self.addCleanup(reload, "")
        reload("handover-limit = 5s\n")
        self.set_conf(f"handover-limit = 5s\nmap users {{ file = \"{self.folder}/none.map\" }}\n")
        self.failed("not ready in time: map users is not usable")

    def slow(self):
        """While this holds, a new program does not get ready: the back-end that it probes stands still."""
        @contextlib.contextmanager
        def held():
            self.set_conf("backend b1 { connect-timeout = 20s }\n")
            self.cluster.kill("b1", signal.SIGSTOP)
            try:
                yield
            finally:
                self.cluster.kill("b1", signal.SIGCONT)
        return held()

    def begin(self):
        """A hand-over by signal that will not come to its end: the new process."""
        count = self.cluster.log("p1").count("the new program comes up")
        self.cluster.kill("p1", signal.SIGUSR2)
        mt.wait_for(lambda: self.cluster.log("p1").count("the new program comes up") > count, 15, "a new process")
        return int(re.findall(r"comes up pid=(\d+)", self.cluster.log("p1"))[-1])

    def test_new_one_is_killed_in_the_middle(self):
        pid = self.cluster.pid("p1")
        with self.slow():
            new = self.begin()
            os.kill(new, signal.SIGKILL)
            mt.wait_for(lambda: "hand-over failed" in self.cluster.log("p1").rpartition("comes up")[2], 15, "the old one notices")
        self.assertEqual(self.cluster.pid("p1"), pid)
        login(self.place).logout()
        self.set_conf("")
        self.hand_over()  # and the next one comes to its end

    def test_second_one_is_refused_meanwhile(self):
        with self.slow():
            new = self.begin()
            code, said = self.cluster.ctl("p1", "handover", code=None)
            self.assertEqual((code, "a hand-over is under way" in said), (75, True), said)
            self.cluster.kill("p1", signal.SIGUSR2)
            mt.wait_for(lambda: self.cluster.log("p1").count("refused: a hand-over is under way") >= 2, 15, "a line for each")
        mt.wait_for(lambda: self.cluster.pid("p1") == new, 30, "the first one is done in the end")
        login(self.place).logout()

    def test_old_one_is_killed_in_the_middle(self):
        old = self.cluster.pid("p1")
        with self.slow():
            new = self.begin()
            os.kill(old, signal.SIGKILL)
            mt.wait_for(lambda: not self.is_running(old), 15, "the old one is gone")
        mt.wait_for(lambda: self.cluster.pid("p1") == new, 30, "the new one serves in its place")
        login(self.place).logout()
        self.assertIn("the old program died during the hand-over", self.cluster.log("p1"))
        self.hand_over()

    def test_reloads_in_the_middle_disturb_neither(self):
        with self.slow():
            new = self.begin()
            for pid in (self.cluster.pid("p1"), new) * 3:
                os.kill(pid, signal.SIGHUP)
            mt.wait_for(lambda: self.cluster.log("p1").rpartition("comes up")[2].count("configuration read again") >= 2, 30, "both have read it")
        mt.wait_for(lambda: self.cluster.pid("p1") == new, 30, "it is done in the end")
        login(self.place).logout()

    def test_nothing_is_left_open(self):
        """Descriptors of a program after many hand-overs, and of one that has tried in vain again and again."""
        def open_files(pid):
            return len(os.listdir(f"/proc/{pid}/fd"))

        def settled(pid, most, what):
            mt.wait_for(lambda: open_files(pid) <= most, 30, f"{what}: {[os.readlink(f'/proc/{pid}/fd/{n}') for n in os.listdir(f'/proc/{pid}/fd')]}")

        old, new = self.hand_over()
        mt.wait_for(lambda: not self.is_running(old), 30, "the old one ends")
        time.sleep(1)  # spare connections and probes stand
        most = open_files(new) + 4  # a probe may be under way
        for _ in range(4):
            old, new = self.hand_over()
            mt.wait_for(lambda: not self.is_running(old), 30, "the old one ends")
        settled(new, most, "after hand-overs")
        self.set_conf("nonsense = yes\n")
        for _ in range(8):
            self.cluster.ctl("p1", "handover", code=75)
        settled(new, most, "after failures")
        self.assertEqual(self.cluster.pid("p1"), new)

    # ---- other listeners, other loops ----

    def test_listeners_come_and_go(self):
        host, _ = self.place
        with socket.create_server((host, 0)) as s:
            port = s.getsockname()[1]
        self.set_conf(f"listener more {{ service = imap listen = {{\"{host}:{port}\"}} allow-clear = yes }}\n")
        self.hand_over()
        kept = login((host, port))
        self.set_conf("")
        old, _ = self.hand_over()

        def is_closed():
            try:
                socket.create_connection((host, port), 5).close()
                return False
            except ConnectionRefusedError:
                return True
        mt.wait_for(is_closed, 30, "a listener that no configuration names is closed")
        self.assertEqual(kept.noop()[0], "OK")
        kept.logout()
        login(self.place).logout()
        mt.wait_for(lambda: not self.is_running(old), 30, "the old one ends")

    def test_another_number_of_loops(self):
        for loops in (1, 4, 3, 2):
            self.set_conf(f"loops = {loops}\n")
            self.hand_over()
            self.assertIn(f"started loops={loops}", self.cluster.log("p1").rpartition("comes up")[2])
            # Whichever socket the kernel chooses, somebody accepts from it.
            for _ in range(24):
                with socket.create_connection(self.place, 30) as s:
                    self.assertTrue(s.recv(100).startswith(b"* OK"))

    def test_no_connection_is_lost_by_many(self):
        """Connections come all the time while it is handed over again and again, with other numbers of loops."""
        stop, bad, good = threading.Event(), [], [0] * 4

        def work(i):
            while not stop.is_set():
                try:
                    with socket.create_connection(self.place, 30) as s:
                        line = s.recv(100)
                    if not line.startswith(b"* OK"):
                        bad.append(line)
                    good[i] += 1
                except OSError as e:
                    bad.append(repr(e))
        threads = [threading.Thread(target=work, args=(i,)) for i in range(len(good))]
        for t in threads:
            t.start()
        try:
            for loops in (1, 3, 2, 2):
                before = list(good)
                self.set_conf(f"loops = {loops}\n")
                self.hand_over()
                mt.wait_for(lambda: all(a > b for a, b in zip(good, before)) or bad, 60, "everybody got in")
        finally:
            stop.set()
            for t in threads:
                t.join()
        self.assertEqual(bad, [])


class EndsInTheMiddle(mt.ClusterCase):
    """The supervisor ends the old program, or all of them, while the new one comes up."""
    FLAGS = PROXY + ["--restart"]

    @classmethod
    def setUpClass(cls):
        conf = tempfile.NamedTemporaryFile("w", suffix=".conf")
        cls.addClassCleanup(conf.close)
        conf.write("drain-limit = 60s\n")
        conf.flush()
        cls.FLAGS = cls.FLAGS + ["--conf", conf.name]
        super().setUpClass()

    @staticmethod
    def has_ended(pid):
        try:
            with open(f"/proc/{pid}/stat") as f:
                return f.read().rpartition(")")[2].split()[0] == "Z"  # it is the starter's to notice
        except OSError:
            return True

    def test_sigterm_to_the_old_one(self):
        place = self.cluster.at("p1", "imap")
        held = login(place)
        old = self.cluster.pid("p1")
        self.cluster.kill("b1", signal.SIGSTOP)  # the new one waits for its probes
        try:
            self.cluster.kill("p1", signal.SIGUSR2)
            mt.wait_for(lambda: "the new program comes up" in self.cluster.log("p1"), 15, "a new process")
            new = int(re.findall(r"comes up pid=(\d+)", self.cluster.log("p1"))[-1])
            os.kill(old, signal.SIGTERM)
            mt.wait_for(lambda: self.has_ended(new), 15, "the new one ends: nobody wants it any more")
        finally:
            self.cluster.kill("b1", signal.SIGCONT)
        self.assertIn("this program is to end", self.cluster.log("p1"))
        self.assertEqual(held.noop()[0], "OK")  # it drains, as if nobody had begun
        held.logout()
        self.cluster.wait_restarted("p1", old, 60)
        mt.wait_for(lambda: self.cluster.log("p1").count("started loops") >= 2, 60, "it serves")
        login(place).logout()


if __name__ == "__main__":
    import unittest
    unittest.main()
