"""POP3 on the back-end, command by command: RFC 1939, RFC 2449."""
import imaplib
import os
import threading
import time

import mt
from backend_case import BackendCase


class Pop3Case(BackendCase):
    def login(self, i, expect="+OK"):
        p = self.connect("pop3s")
        self.assertTrue(p.line().startswith("+OK"))
        self.assertEqual(p.ask(f"USER {self.user(i)}")[:3], "+OK")
        self.assertTrue(p.ask(f"PASS {self.password(i)}").startswith(expect))
        return p

    def retr(self, p, n):
        first = p.ask(f"RETR {n}")
        self.assertTrue(first.startswith("+OK"), first)
        return p.lines()

    def quit(self, p):
        self.assertEqual(p.ask("QUIT")[:3], "+OK")
        self.assertEqual(p.line(), "")
        p.close()


MESSAGES = [
    b"Subject: plain\r\n\r\nhello\r\n",
    b"Subject: dots\r\n\r\n.\r\n..\r\n.x\r\nend.\r\n",
    b"Subject: only a header\r\n\r\n",
    b"Subject: 8-bit \xe4\xf6\r\n\r\n\xff\xfe\x80\r\n",
    b"Subject: long\r\n\r\n" + b"x" * 14000 + b"\r\n.\r\n",
    b"Subject: lines\r\n\r\n" + b"".join(b"line %d\r\n" % i for i in range(5000)),
    b"Subject: large\r\n\r\n" + (b"0123456789abcdef" * 60 + b"\r\n.dot\r\n") * 1000,
]


class Messages(Pop3Case):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        for m in MESSAGES:
            cls.deliver(cls.user(1), m)

    def test_retr_gives_the_octets_and_the_size_says_how_many(self):
        p = self.login(1)
        sizes = p.ask("LIST")
        self.assertEqual(sizes, f"+OK {len(MESSAGES)} messages")
        listed = [line.split() for line in p.lines().decode().splitlines()]
        total = 0
        for i, want in enumerate(MESSAGES, 1):
            got = self.retr(p, i)
            self.assertTrue(got.endswith(want), i)
            trace = got[:-len(want)]
            self.assertTrue(trace.startswith(b"Return-Path: <sender@elsewhere.test>\r\nReceived: "))
            self.assertEqual([str(i), str(len(got))], listed[i - 1])
            self.assertEqual(p.ask(f"LIST {i}"), f"+OK {i} {len(got)}")
            total += len(got)
        self.assertEqual(p.ask("STAT"), f"+OK {len(MESSAGES)} {total}")
        self.quit(p)

    def test_top_gives_header_and_lines(self):
        p = self.login(1)
        for i, want in enumerate(MESSAGES, 1):
            whole = self.retr(p, i)
            header, body = whole.split(b"\r\n\r\n", 1)
            for n in (0, 1, 2, 4999, 4000000000):
                self.assertTrue(p.ask(f"TOP {i} {n}").startswith("+OK"))
                lines = body.split(b"\r\n")[:-1]
                self.assertEqual(p.lines(), header + b"\r\n\r\n" + b"".join(x + b"\r\n" for x in lines[:n]), (i, n))
        self.quit(p)

    def test_unique_ids_are_unique_and_stable(self):
        p = self.login(1)
        self.assertTrue(p.ask("UIDL").startswith("+OK"))
        ids = [line.split() for line in p.lines().decode().splitlines()]
        self.assertEqual([int(n) for n, _ in ids], list(range(1, len(MESSAGES) + 1)))
        self.assertEqual(len({u for _, u in ids}), len(MESSAGES))
        for n, u in ids:
            self.assertEqual(p.ask(f"UIDL {n}"), f"+OK {n} {u}")
            self.assertTrue(1 <= len(u) <= 70 and all(0x21 <= ord(c) <= 0x7e for c in u))
        self.quit(p)
        p = self.login(1)
        p.ask("UIDL")
        self.assertEqual([line.split() for line in p.lines().decode().splitlines()], ids)
        self.quit(p)

    def test_pipelined_commands_are_answered_in_order(self):
        p = self.login(1)
        count = len(MESSAGES)
        p.send(b"".join(b"NOOP\r\nRETR %d\r\nUIDL %d\r\nLIST %d\r\nBAD\r\nNOOP\r\n" % (i, i, i) for i in range(1, count + 1)) +
               b"STAT\r\nQUIT\r\n")
        for i in range(1, count + 1):
            self.assertEqual(p.line(), "+OK")
            self.assertTrue(p.line().startswith("+OK"))
            self.assertTrue(p.lines().endswith(MESSAGES[i - 1]))
            self.assertTrue(p.line().startswith(f"+OK {i} "))
            self.assertTrue(p.line().startswith(f"+OK {i} "))
            self.assertTrue(p.line().startswith("-ERR"))
            self.assertEqual(p.line(), "+OK")
        self.assertTrue(p.line().startswith(f"+OK {count} "))
        self.assertTrue(p.line().startswith("+OK"))
        self.assertEqual(p.line(), "")

    def test_capabilities_and_what_is_refused_after_login(self):
        p = self.login(1)
        p.ask("CAPA")
        words = p.lines().decode().splitlines()
        for word in ("TOP", "UIDL", "PIPELINING", "RESP-CODES", "EXPIRE NEVER"):
            self.assertIn(word, words)
        self.assertFalse([w for w in words if w.startswith(("SASL", "USER", "STLS", "XCLIENT"))])
        for command in ("USER x", "STLS", "AUTH PLAIN", "XCLIENT ADDR=10.0.0.1", "RETR", "TOP 1"):
            self.assertEqual(p.ask(command)[:4], "-ERR", command)
        self.assertEqual(p.ask("NOOP")[:3], "+OK")
        for command in ("RETR 0", "RETR 99", "RETR x", "DELE 4294967296", "LIST 99", "TOP 1 x", "UIDL 0"):
            self.assertEqual(p.ask(command)[:4], "-ERR", command)
            self.assertEqual(p.ask("NOOP")[:3], "+OK")
        self.quit(p)

    def test_a_session_of_nonsense_ends(self):
        p = self.login(1)
        p.send(b"NONSENSE\r\n" * 100)
        answers = []
        while line := p.line():
            answers.append(line)
        self.assertEqual(len(answers), 10)
        p = self.login(1)
        self.assertTrue(p.ask("A" * 600).startswith("-ERR"))
        self.assertEqual(p.line(), "")

    def test_a_client_that_does_not_read_costs_no_memory(self):
        def rss():
            with open(f"/proc/{self.cluster.pid('b1')}/statm") as f:
                return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

        p = self.login(1)
        before = rss()
        for _ in range(6):
            p.send(b"RETR 7\r\n" * 10)
        time.sleep(0.5)
        self.assertLess(rss() - before, (4 if mt.VARIANT == "release" else 64) << 20)
        for _ in range(60):
            self.assertTrue(p.line().startswith("+OK"))
            self.assertTrue(p.lines().endswith(MESSAGES[6]))
        self.quit(p)


class Deletions(Pop3Case):
    def fill(self, i, count):
        for n in range(count):
            self.deliver(self.user(i), b"Subject: %d\r\n\r\n%d\r\n" % (n, n))

    def subjects(self, i):
        p = self.login(i)
        count = int(p.ask("STAT").split()[1])
        got = [self.retr(p, n + 1).split(b"Subject: ")[1].split(b"\r\n")[0].decode() for n in range(count)]
        self.quit(p)
        return got

    def test_deletions_happen_at_quit_alone(self):
        self.fill(1, 5)
        p = self.login(1)
        self.assertEqual(p.ask("DELE 2")[:3], "+OK")
        self.assertEqual(p.ask("DELE 2")[:4], "-ERR")
        self.assertEqual(p.ask("RETR 2")[:4], "-ERR")
        self.assertTrue(p.ask("STAT").startswith("+OK 4 "))
        p.ask("LIST")
        self.assertEqual([x.split()[0] for x in p.lines().decode().splitlines()], ["1", "3", "4", "5"])
        p.ask("UIDL")
        self.assertEqual([x.split()[0] for x in p.lines().decode().splitlines()], ["1", "3", "4", "5"])
        self.assertEqual(p.ask("RSET")[:3], "+OK")
        self.assertTrue(p.ask("STAT").startswith("+OK 5 "))
        p.ask("DELE 1")
        p.close()  # without QUIT: nothing is deleted
        mt.wait_for(lambda: "sessions: 0" in self.cluster.ctl("b1", "session", "list"), 10, "the session has ended")
        self.assertEqual(self.subjects(1), ["0", "1", "2", "3", "4"])
        p = self.login(1)
        p.ask("UIDL")
        before = dict(reversed(x.split()) for x in p.lines().decode().splitlines())
        p.send(b"DELE 1\r\nDELE 3\r\n")
        p.line(), p.line()
        self.quit(p)
        self.assertEqual(self.subjects(1), ["1", "3", "4"])
        p = self.login(1)
        p.ask("UIDL")
        after = [x.split()[1] for x in p.lines().decode().splitlines()]
        self.assertEqual(after, [u for u, n in sorted(before.items(), key=lambda x: int(x[1])) if n not in ("1", "3")])
        self.quit(p)
        self.assertEqual(self.cluster.ctl_json("b1", "quota", self.user(1))["messages"], 3)

    def test_one_session_at_a_time(self):
        p = self.login(2)
        q = self.login(2, expect="-ERR [IN-USE]")
        q.close()
        self.login(3).close()  # others are not concerned
        self.quit(p)
        self.quit(self.login(2))

    def test_messages_that_imap_expunges_meanwhile_can_still_be_read(self):
        self.fill(4, 3)
        p = self.login(4)
        host, port = self.cluster.at("b1", "imaps")
        with imaplib.IMAP4_SSL(host, port, ssl_context=self.tls()) as m:
            m.login(self.user(4), self.password(4))
            m.select()
            m.store("2", "+FLAGS", "\\Deleted")
            m.expunge()
            self.assertIn(b"Subject: 1", self.retr(p, 2))
            p.ask("UIDL")
            self.assertEqual(len(p.lines().splitlines()), 3)
            p.send(b"DELE 2\r\nDELE 3\r\n")
            p.line(), p.line()
            self.quit(p)
            self.assertEqual(m.search(None, "ALL")[1], [b"1"])
        self.assertEqual(self.subjects(4), ["0"])

    def test_the_operator_sees_and_ends_sessions(self):
        p = self.login(3)
        rows = self.cluster.ctl("b1", "session", "list")
        self.assertIn(self.user(3), rows)
        self.assertIn("pop3", rows)
        self.cluster.ctl("b1", "session", "kick", self.user(3))
        self.assertTrue(p.line().startswith("-ERR [SYS/TEMP]"))
        self.assertEqual(p.line(), "")
        self.cluster.ctl("b1", "session", "kick", self.user(3), code=1)


class Snapshot(Pop3Case):
    CONF = "pop3-lock = snapshot\n"

    def test_each_session_sees_what_there_was(self):
        for n in range(3):
            self.deliver(self.user(1), b"Subject: %d\r\n\r\n\r\n" % n)
        p, q = self.login(1), self.login(1)
        self.deliver(self.user(1), b"Subject: late\r\n\r\n\r\n")
        p.ask("DELE 1")
        p.ask("DELE 2")
        self.quit(p)
        self.assertTrue(q.ask("STAT").startswith("+OK 3 "))
        self.assertIn(b"Subject: 0", self.retr(q, 1))
        q.ask("DELE 2")  # gone already: no error
        q.ask("DELE 3")
        self.quit(q)
        r = self.login(1)
        self.assertTrue(r.ask("STAT").startswith("+OK 1 "))
        self.assertIn(b"Subject: late", self.retr(r, 1))
        self.quit(r)

    def test_many_sessions_at_once(self):
        faults = []

        def one(k):
            try:
                p = self.login(2)
                p.ask("STAT")
                self.quit(p)
            except Exception as e:  # noqa: the thread's fault is shown below
                faults.append((k, e))

        threads = [threading.Thread(target=one, args=(k,)) for k in range(20)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        self.assertEqual(faults, [])
