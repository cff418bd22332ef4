"""Hand-over of a back-end: its clients are told to come again, new ones wait, nothing is lost or doubled. And, with the faults variant of
the programs, either side of a hand-over dying at each step, on both tiers."""
import imaplib
import os
import re
import shutil
import signal
import smtplib
import tempfile
import threading
import time
import unittest

import mt

USERS = 4


class Base(mt.ClusterCase):
    FLAGS = ["--proxies", 1, "--backends", 2, "--users", USERS, "--password", "secret", "--loops", 2]

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="mt-handover-")
        cls.addClassCleanup(shutil.rmtree, cls.folder, ignore_errors=True)
        cls.conf = os.path.join(cls.folder, "more.conf")
        cls.set_conf("")
        cls.FLAGS = cls.FLAGS + ["--backend-conf", cls.conf]
        super().setUpClass()

    @classmethod
    def set_conf(cls, text):
        with open(cls.conf, "w") as f:
            f.write(text)

    def login(self, name, n=1, timeout=60):
        m = imaplib.IMAP4(*self.cluster.at(name, "imap"), timeout=timeout)
        self.addCleanup(m.shutdown)
        m.login(f"user{n:04d}", "secret")
        return m

    def hand_over(self, name):
        old = self.cluster.pid(name)
        answer = self.cluster.ctl_json(name, "handover")
        mt.wait_for(lambda: self.cluster.pid(name) == answer["pid"] != old, 30, "the starter hears of the new process")
        return old

    def check_store(self, name):
        self.assertEqual(self.cluster.ctl_json(name, "store", "check")["errors"], 0)


class HandoverBackend(Base):
    def test_clients_are_told_and_new_ones_wait(self):
        m = self.login("b1")
        m.append("INBOX", None, None, b"Subject: before\r\n\r\nx\r\n")
        generation = int(self.cluster.metric("b1", "mailtier_program_generation"))
        old = self.hand_over("b1")
        self.assertIn(b"* BYE The server goes down for a moment.", m.readline())
        other = self.login("b1")  # waits in the queue, if the new one does not serve yet
        self.assertNotEqual(other.select()[1][0], b"0")
        self.assertEqual(other.append("INBOX", None, None, b"Subject: after\r\n\r\nx\r\n")[0], "OK")
        mt.wait_for(lambda: not os.path.exists(f"/proc/{old}"), 30, "the old one has ended")
        self.assertEqual(int(self.cluster.metric("b1", "mailtier_program_generation")), generation + 1)
        self.check_store("b1")
        self.hand_over("b1")
        self.assertEqual(self.login("b1").noop()[0], "OK")
        self.assertEqual(int(self.cluster.metric("b1", "mailtier_program_predecessors")), 0)

    def test_a_reload_in_the_middle_is_for_both(self):
        """While the old one waits for a delivery's end, and the new one for the old one's."""
        s = smtplib.SMTP(*self.cluster.at("p1", "smtp"), timeout=60)
        self.addCleanup(s.close)
        s.ehlo()
        s.mail("a@example.net")
        s.rcpt("user0001@example.test")
        name = next(n for n in ("b1", "b2") if self.cluster.ctl_json(n, "session", "list", "--service", "lmtp")["rows"])
        old = self.cluster.pid(name)
        self.cluster.kill(name, signal.SIGUSR2)
        mt.wait_for(lambda: "comes up pid=" in self.cluster.log(name), 30, "a new process")
        new = int(re.findall(r"comes up pid=(\d+)", self.cluster.log(name))[-1])
        for pid in (old, new) * 3:
            os.kill(pid, signal.SIGHUP)
        mt.wait_for(lambda: "configuration read again" in self.cluster.log(name).rpartition("comes up pid=")[2], 30, "the old one has read it")
        mt.wait_for(lambda: "handed over" in self.cluster.log(name), 30, "the new one waits for the old one's end")
        self.assertEqual(s.data("Subject: in the middle\r\n\r\nx\r\n")[0], 250)
        s.quit()
        mt.wait_for(lambda: "configuration read again" in self.cluster.log(name).partition("took over")[2], 60, "the new one too")
        mt.wait_for(lambda: self.cluster.pid(name) == new, 30, "the starter hears of it")
        self.assertEqual(self.login("b1").noop()[0], "OK")

    def test_bad_configuration_changes_nothing(self):
        m = self.login("b2", 2)
        pid = self.cluster.pid("b2")
        self.set_conf("no-such-key = 1\n")
        self.addCleanup(self.set_conf, "")
        code, said = self.cluster.ctl("b2", "handover", code=None)
        self.assertEqual((code, "no-such-key" in said), (75, True), said)
        self.assertEqual(m.noop()[0], "OK")
        self.assertEqual(self.cluster.pid("b2"), pid)

    def test_deliveries_go_on(self):
        """Through the proxy, all the time; a client that gets 4xx repeats, as mail servers do. Each message is there once."""
        stop, accepted, bad = threading.Event(), [], []

        def deliver(subject, to):
            """One try; the recipients that are left for the next one."""
            try:
                with smtplib.SMTP(*self.cluster.at("p1", "smtp"), timeout=60) as s:
                    refused = s.sendmail("a@example.net", to, f"Subject: {subject}\r\n\r\nx\r\n")
            except smtplib.SMTPRecipientsRefused as e:
                refused = e.recipients
            except smtplib.SMTPResponseException as e:
                refused = {t: (e.smtp_code, e.smtp_error) for t in to}
            for code, words in refused.values():
                if code >= 500:
                    raise AssertionError(f"{code} {words}")
            return list(refused)

        def work(i):
            n = 0
            while not stop.is_set():
                subject = f"w{i}.{n}"
                to = [f"user{(n + k) % USERS + 1:04d}@example.test" for k in range(2)]
                left = to
                try:
                    while left := deliver(subject, left):
                        time.sleep(0.02)
                except Exception as e:
                    bad.append(repr(e))
                    return
                accepted.append((subject, to))
                n += 1

        threads = [threading.Thread(target=work, args=(i,)) for i in range(3)]
        for t in threads:
            t.start()
        try:
            for name in ("b1", "b2", "b1"):
                before = len(accepted)
                self.hand_over(name)
                mt.wait_for(lambda: bad or len(accepted) > before + 10, 60, "mail goes on")
        finally:
            stop.set()
            for t in threads:
                t.join()
        self.assertEqual(bad, [])
        for n in range(1, USERS + 1):
            m = self.login(f"b{(n - 1) % 2 + 1}", n)
            m.select()
            data = m.fetch("1:*", "BODY.PEEK[HEADER.FIELDS (SUBJECT)]")[1]
            got = [part[1].decode().split(":")[1].strip() for part in data if isinstance(part, tuple)]
            want = [subject for subject, to in accepted if f"user{n:04d}@example.test" in to]
            self.assertEqual(sorted(s for s in got if s.startswith("w")), sorted(want))
        for b in ("b1", "b2"):
            self.check_store(b)


@unittest.skipUnless(os.path.exists(os.path.join(mt.bin_dir("faults"), "mailtier-proxy")), "make VARIANT=faults all")
class HandoverFaults(Base):
    VARIANT = "faults"

    @classmethod
    def setUpClass(cls):
        cls.faults = tempfile.mkdtemp(prefix="mt-faults-")
        cls.addClassCleanup(shutil.rmtree, cls.faults, ignore_errors=True)
        cls.ENV = {"MAILTIER_FAULT_DIR": cls.faults}
        super().setUpClass()

    def fault(self, name, words):
        path = os.path.join(self.faults, name)
        with open(path + ".new", "w") as f:
            f.write(words + "\n")
        os.rename(path + ".new", path)
        self.addCleanup(lambda: os.path.exists(path) and os.unlink(path))

    def begin(self, name, words):
        """(the old process, what the log says from now on)."""
        self.fault(name, words)
        start = len(self.cluster.log(name))
        old = self.cluster.pid(name)
        self.cluster.kill(name, signal.SIGUSR2)
        return old, lambda: self.cluster.log(name)[start:]

    def serves(self, name):
        self.assertEqual(self.login(name, 1).noop()[0], "OK")

    def test_new_one_dies_when_it_is_ready_or_has_begun(self):
        for name in ("p1", "b1"):
            for point in ("handover-ready", "handover-serving") if name == "p1" else ("handover-ready",):
                m = self.login(name)
                old, log = self.begin(name, f"{point}:kill")
                mt.wait_for(lambda: "hand-over failed, this program goes on: the new program ended" in log(), 60, f"{name} {point}")
                self.assertEqual(m.noop()[0], "OK")
                self.serves(name)
                self.assertEqual(self.cluster.pid(name), old)

    def test_old_one_dies_before_go_or_when_it_would_retire(self):
        for name in ("p1", "b1"):
            for point in ("handover-go", "handover-retires"):
                old, log = self.begin(name, f"{point}:kill")
                mt.wait_for(lambda: not os.path.exists(f"/proc/{old}") and self.cluster.pid(name) != old, 60, f"{name} {point}")
                self.serves(name)
                self.assertIn("took over", log())
        self.check_store("b1")

    def test_old_back_end_that_does_not_end_is_killed(self):
        self.set_conf("handover-limit = 2s\n")
        self.addCleanup(self.set_conf, "")
        old, log = self.begin("b1", "handover-retires:sleep:1:600000")
        mt.wait_for(lambda: self.cluster.pid("b1") != old, 60, "the new one serves")
        self.assertIn("does not end, it is killed", log())
        self.serves("b1")
        self.check_store("b1")


del Base

if __name__ == "__main__":
    unittest.main()
