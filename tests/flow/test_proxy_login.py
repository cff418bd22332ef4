"""Logins through the proxy to our own back-ends: both ways of trust, what a client sees, what a client may not do, what the log keeps."""
import base64
import imaplib
import poplib
import re
import signal
import socket
import ssl
import tempfile
import time
import unittest

import mt


def plain(authzid, authcid, password):
    return base64.b64encode(f"{authzid}\0{authcid}\0{password}".encode()).decode()


class Line:
    """A connection that speaks lines: what clients' libraries would not send."""

    def __init__(self, place, tls=None, source=None):
        self.socket = socket.create_connection(place, 10, source_address=source and (source, 0))
        if tls:
            self.socket = tls.wrap_socket(self.socket, server_hostname="localhost")
        self.stream = self.socket.makefile("rb")

    def send(self, text):
        self.socket.sendall(text.encode("latin-1"))

    def line(self):
        return self.stream.readline().decode("latin-1").rstrip("\r\n")

    def until(self, tag):
        """All lines to the tagged one."""
        lines = []
        while True:
            raw = self.stream.readline()
            if not raw:
                return lines + ["<end>"]
            lines.append(raw.decode("latin-1").rstrip("\r\n"))
            if lines[-1].startswith(tag + " "):
                return lines

    def ask(self, tag, command):
        self.send(f"{tag} {command}\r\n")
        return self.until(tag)

    def rest(self):
        return self.stream.read().decode("latin-1")

    def start_tls(self, context):
        self.socket = context.wrap_socket(self.socket, server_hostname="localhost")
        self.stream = self.socket.makefile("rb")

    def close(self):
        self.stream.close()
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class ProxyLogin(mt.ClusterCase):
    FLAGS = ["--proxies", 1, "--backends", 2, "--users", 4]

    @classmethod
    def setUpClass(cls):
        conf = tempfile.NamedTemporaryFile("w", suffix=".conf")
        conf.write("listener imap {\n\tallow-clear = no\n}\nlistener pop3 {\n\tallow-clear = no\n}\n")
        conf.flush()
        cls.conf = conf
        cls.FLAGS = cls.FLAGS + ["--conf", conf.name]
        super().setUpClass()
        cls.tls = ssl.create_default_context(cafile=cls.cluster.ca)

    def imaps(self, **kw):
        return Line(self.cluster.at("p1", "imaps"), self.tls, **kw)

    def pop3s(self, **kw):
        return Line(self.cluster.at("p1", "pop3s"), self.tls, **kw)

    def wait_log(self, program, words, seconds=5):
        return mt.wait_for(lambda: next((l for l in self.cluster.log(program).splitlines() if all(w in l for w in words)), None), seconds,
                           f"a line of {program}'s log with {words}")

    # ---- the ways in ----

    def test_imap_by_starttls_and_implicit_tls(self):
        m = imaplib.IMAP4(*self.cluster.at("p1", "imap"))
        self.assertNotIn("AUTH=PLAIN", m.capabilities)
        self.assertIn("LOGINDISABLED", m.capabilities)
        m.starttls(self.tls)
        m.login("user0001@example.test", "pass0001")
        self.assertEqual(m.select("INBOX")[0], "OK")
        m.logout()
        m = imaplib.IMAP4_SSL(*self.cluster.at("p1", "imaps"), ssl_context=self.tls)
        m.login("user0002@example.test", "pass0002")
        self.assertEqual(m.select("INBOX")[0], "OK")
        m.logout()

    def test_pop3_by_stls_and_implicit_tls(self):
        p = poplib.POP3(*self.cluster.at("p1", "pop3"))
        with self.assertRaises(poplib.error_proto):
            p.user("user0001@example.test")
        p.stls(self.tls)
        p.user("user0001@example.test")
        p.pass_("pass0001")
        self.assertGreaterEqual(p.stat()[0], 0)
        p.quit()
        p = poplib.POP3_SSL(*self.cluster.at("p1", "pop3s"), context=self.tls)
        p.user("user0002")
        p.pass_("pass0002")
        p.quit()

    def test_a_name_without_domain_gets_the_default_one(self):
        with self.imaps() as c:
            c.line()
            self.assertIn("a OK", c.ask("a", "LOGIN USER0003 pass0003")[-1])
        self.wait_log("p1", ["login user=user0003@example.test"])

    def test_every_mechanism(self):
        for command, answers in (
                ("AUTHENTICATE PLAIN " + plain("", "user0001", "pass0001"), []),
                ("AUTHENTICATE PLAIN", [plain("", "user0001", "pass0001")]),
                ("AUTHENTICATE PLAIN " + plain("user0001@example.test", "user0001", "pass0001"), []),
                ("AUTHENTICATE LOGIN", [base64.b64encode(w).decode() for w in (b"user0001", b"pass0001")]),
                ('LOGIN "user0001" {8+}\r\npass0001', [])):
            with self.subTest(command), self.imaps() as c:
                c.line()
                c.send(f"a {command}\r\n")
                for answer in answers:
                    self.assertTrue(c.line().startswith("+"))
                    c.send(answer + "\r\n")
                self.assertIn("a OK", c.until("a")[-1])

    def test_wrong_password_and_unknown_user(self):
        for user in ("user0001", "nobody"):
            with self.subTest(user), self.imaps() as c:
                c.line()
                begin = time.monotonic()
                self.assertIn("a NO [AUTHENTICATIONFAILED]", c.ask("a", f"LOGIN {user} wrong")[-1])
                self.assertGreater(time.monotonic() - begin, 1.0)
        with self.pop3s() as c:
            c.line()
            c.send("USER user0001\r\nPASS wrong\r\n")
            self.assertTrue(c.line().startswith("+OK"))
            self.assertTrue(c.line().startswith("-ERR [AUTH]"))

    # ---- after the login ----

    def test_capabilities_after_login(self):
        with self.imaps() as c:
            c.line()
            ok = c.ask("a", "LOGIN user0001 pass0001")[-1]
            words = re.search(r"\[CAPABILITY ([^]]*)\]", ok).group(1).split()
            self.assertIn("IMAP4rev1", words)
            self.assertIn("IDLE", words)
            for gone in ("STARTTLS", "LOGINDISABLED", "UNAUTHENTICATE"):
                self.assertNotIn(gone, words)
            self.assertFalse([w for w in words if w.startswith("AUTH=")])

    def test_octets_behind_the_login_follow_in_order(self):
        with self.imaps() as c:
            c.line()
            c.send("a LOGIN user0001 pass0001\r\n" + "".join(f"n{i} NOOP\r\n" for i in range(50)) + "z LOGOUT\r\n")
            lines = c.until("z")
            self.assertEqual([l.split()[0] for l in lines if not l.startswith("*")],
                             ["a"] + [f"n{i}" for i in range(50)] + ["z"])
        with self.pop3s() as c:
            c.line()
            c.send("USER user0001\r\nPASS pass0001\r\nNOOP\r\nSTAT\r\nQUIT\r\n")
            self.assertEqual([l[:3] for l in c.rest().splitlines()], ["+OK"] * 5)

    # ---- who the client is, and what it may not say ----

    def test_the_log_of_the_back_end_has_the_client_and_the_session(self):
        with self.imaps(source="127.0.0.9") as c:
            c.line()
            c.ask("a", "LOGIN user0001 pass0001")
            line = self.wait_log("p1", ["login user=user0001@example.test", "client=127.0.0.9"])
            session = re.search(r"imap: ([a-z2-7]{16}):", line).group(1)
            self.wait_log("b1", [session, "127.0.0.9"])
        with self.pop3s(source="127.0.0.10") as c:
            c.line()
            c.send("USER user0001\r\nPASS pass0001\r\nNOOP\r\n")
            for _ in range(3):
                c.line()
            line = self.wait_log("p1", ["login user=user0001@example.test", "client=127.0.0.10"])
            session = re.search(r"pop3: ([a-z2-7]{16}):", line).group(1)
            self.wait_log("b1", [session, "127.0.0.10"])

    def test_id_of_a_client_is_answered_here_and_not_believed(self):
        with self.imaps(source="127.0.0.11") as c:
            c.line()
            self.assertIn("a OK", c.ask("a", 'ID ("x-originating-ip" "192.0.2.66" "x-session-id" "forgedsession")')[-1])
            c.ask("b", "LOGIN user0001 pass0001")
            # The relay is transparent: after login the back-end is asked, which takes the word of a user for nothing.
            c.ask("c", 'ID ("x-originating-ip" "192.0.2.66" "x-session-id" "forgedsession")')
            c.ask("d", "NOOP")
        self.wait_log("b1", ["127.0.0.11"])
        for program in ("p1", "b1"):
            self.assertNotIn("192.0.2.66", self.cluster.log(program))
            self.assertNotIn("forgedsession:", self.cluster.log(program))

    def test_xclient_of_a_client_is_refused(self):
        with self.pop3s(source="127.0.0.12") as c:
            self.assertNotIn("[XCLIENT]", c.line())
            c.send("XCLIENT ADDR=192.0.2.67 SESSION=forged\r\nUSER user0001\r\nPASS pass0001\r\n"
                   "XCLIENT ADDR=192.0.2.67 SESSION=forged\r\nQUIT\r\n")
            got = [l[:4] for l in c.rest().splitlines()]
            self.assertEqual([word.strip() for word in got], ["-ERR", "+OK", "+OK", "-ERR", "+OK"])
        self.wait_log("b1", ["127.0.0.12"])
        for program in ("p1", "b1"):
            self.assertNotIn("192.0.2.67", self.cluster.log(program))

    def test_a_foreign_identity_is_refused(self):
        with self.imaps() as c:
            c.line()
            self.assertIn("a NO [AUTHORIZATIONFAILED]",
                          c.ask("a", "AUTHENTICATE PLAIN " + plain("user0002@example.test", "user0001", "pass0001"))[-1])
            # The proxy's own name is no way in either, whoever knows it.
            self.assertIn("b NO", c.ask("b", "AUTHENTICATE PLAIN " + plain("user0002@example.test", "proxy", "pass0001"))[-1])
            self.assertIn("c OK", c.ask("c", "LOGIN user0001 pass0001")[-1])
            self.assertIn("d BAD", c.ask("d", "UNAUTHENTICATE")[-1])
            self.assertNotIn("e OK", c.ask("e", "AUTHENTICATE PLAIN " + plain("user0002@example.test", "user0001", "pass0001"))[-1])

    # ---- classes of attack ----

    def test_security_01_starttls_injection(self):
        for service, start, probe in (("imap", "a STARTTLS\r\n", "b CAPABILITY\r\n"), ("pop3", "STLS\r\n", "CAPA\r\n")):
            with self.subTest(service), Line(self.cluster.at("p1", service)) as c:
                c.line()
                c.send(start + probe)
                c.line()
                # Nothing of the injected command is answered, in clear or behind TLS: the connection ends.
                self.assertEqual(c.rest(), "")

    def test_security_01_state_is_forgotten_by_starttls(self):
        with Line(self.cluster.at("p1", "imap")) as c:
            c.line()
            c.send("a STARTTLS\r\n")
            self.assertIn("a OK", c.until("a")[-1])
            c.start_tls(self.tls)
            words = " ".join(c.ask("b", "CAPABILITY"))
            self.assertNotIn("STARTTLS", words)
            self.assertIn("AUTH=PLAIN", words)
            self.assertIn("c BAD", c.ask("c", "STARTTLS")[-1])

    def test_security_02_alpaca(self):
        for service in ("imap", "pop3"):
            with self.subTest(service), Line(self.cluster.at("p1", service)) as c:
                c.line()
                c.send("POST / HTTP/1.1\r\nHost: mail.example.test\r\n\r\na CAPABILITY\r\nCAPA\r\n")
                self.assertEqual(c.rest(), "")
        for names, welcome in ((["imap"], True), (["http/1.1", "imap"], True), (["http/1.1"], False), (["pop3"], False)):
            with self.subTest(names):
                context = ssl.create_default_context(cafile=self.cluster.ca)
                context.set_alpn_protocols(names)
                if welcome:
                    with Line(self.cluster.at("p1", "imaps"), context) as c:
                        self.assertTrue(c.line().startswith("* OK"))
                else:
                    with self.assertRaises((ssl.SSLError, ConnectionError)):
                        Line(self.cluster.at("p1", "imaps"), context)

    def test_security_04_line_ends_in_names(self):
        with self.imaps() as c:
            c.line()
            for name in ("user0001\r\nx LOGIN user0002 pass0002", "user0001\n", "user0001\0", "user0001\x7f"):
                self.assertNotIn(" OK", c.ask("a", f"LOGIN {{{len(name)}+}}\r\n{name} pass0001")[-1])
        with self.pop3s() as c:
            c.line()
            c.send("USER user0001\rPASS x\r\nNOOP\r\n")
            self.assertTrue(c.line().startswith("-ERR"))
            self.assertTrue(c.line().startswith("+OK"))

    def test_security_05_literals_and_left_credentials(self):
        for size in ("4294967295", "18446744073709551615", "18446744073709551616", "99999999999999999999999999", "-1"):
            with self.subTest(size), self.imaps() as c:
                c.line()
                self.assertIn("a BAD", c.ask("a", f"LOGIN {{{size}}}")[-1])
                self.assertIn("b OK", c.ask("b", "NOOP")[-1])
        with self.pop3s() as c:
            c.line()
            # What one attempt said is no part of the next.
            c.send("USER user0001\r\nPASS wrong\r\nPASS pass0001\r\nAUTH PLAIN\r\n*\r\nPASS pass0001\r\nNOOP\r\n")
            self.assertEqual([c.line()[:4] for _ in range(7)], ["+OK", "-ERR", "-ERR", "+ ", "-ERR", "-ERR", "+OK"])

    def test_security_09_memory_before_login(self):
        def memory():
            with open(f"/proc/{self.cluster.pid('p1')}/status") as f:
                return int(re.search(r"VmRSS:\s+(\d+)", f.read()).group(1))

        before, lines = memory(), []
        place = self.cluster.at("p1", "imap")
        for i in range(200):
            c = Line(place)
            c.socket.setblocking(False)
            try:
                for _ in range(64):
                    c.socket.send((b'a ID (' + b'"k" "v" ' * 500, b"a LOGIN {1024+}\r\n" + b"x" * 1000, b"(" * 4000)[i % 3])
            except (BlockingIOError, ConnectionError):
                pass
            lines.append(c)
        time.sleep(0.3)
        grown = memory() - before
        for c in lines:
            c.close()
        if mt.VARIANT == "release":  # sanitizers keep freed memory
            self.assertLess(grown, 200 * 24, "KiB for 200 connections")
        with self.imaps() as c:
            c.line()
            self.assertIn("a OK", c.ask("a", "LOGIN user0001 pass0001")[-1])

    def test_answers_that_nobody_reads(self):
        c = Line(self.cluster.at("p1", "imap"))
        c.socket.settimeout(0.5)
        sent = 0
        try:
            for _ in range(20000):
                sent += c.socket.send(b"a CAPABILITY\r\n" * 100)
        except (TimeoutError, ConnectionError):
            pass
        c.close()
        self.assertLess(sent, 20 << 20)

    # ---- operating ----

    def test_session_list_and_kick(self):
        with self.imaps() as c:
            c.line()
            c.ask("a", "LOGIN user0004 pass0004")
            rows = self.cluster.ctl_json("p1", "session", "list", "--user", "user0004@example.test")["rows"]
            self.assertEqual([r["user"] for r in rows], ["user0004@example.test"])
            self.assertEqual(self.cluster.ctl_json("p1", "session", "kick", "user0004@example.test")["kicked"], 1)
            self.assertEqual(c.rest(), "")

    def test_drain_and_resume_of_a_back_end(self):
        backend = next(r for r in self.cluster.ctl_json("p1", "map", "explain", "user0001")["rows"] if r)
        self.assertTrue(backend)
        self.cluster.ctl("p1", "backend", "drain", "b1")
        try:
            with self.imaps() as c:
                c.line()
                self.assertIn("a NO [UNAVAILABLE]", c.ask("a", "LOGIN user0001 pass0001")[-1])
                self.assertIn("b OK", c.ask("b", "LOGIN user0002 pass0002")[-1])
        finally:
            self.cluster.ctl("p1", "backend", "resume", "b1")
        with self.imaps() as c:
            c.line()
            self.assertIn("a OK", c.ask("a", "LOGIN user0001 pass0001")[-1])


class BackendDies(mt.ClusterCase):
    FLAGS = ["--proxies", 1, "--backends", 2, "--users", 2]

    def test_its_users_are_told_within_a_second_and_others_notice_nothing(self):
        tls = ssl.create_default_context(cafile=self.cluster.ca)
        place = self.cluster.at("p1", "imaps")
        with Line(place, tls) as other:
            other.line()
            self.assertIn("a OK", other.ask("a", "LOGIN user0002 pass0002")[-1])
            self.cluster.kill("b1", signal.SIGSTOP)
            try:
                for _ in range(3):
                    with Line(place, tls) as c:
                        c.line()
                        begin = time.monotonic()
                        self.assertIn("a NO [UNAVAILABLE]", c.ask("a", "LOGIN user0001 pass0001")[-1])
                        self.assertLess(time.monotonic() - begin, 2.5)
                        begin = time.monotonic()
                        self.assertIn("b OK", c.ask("b", "LOGIN user0002 pass0002")[-1])
                        self.assertLess(time.monotonic() - begin, 1.0)
            finally:
                self.cluster.kill("b1", signal.SIGCONT)
            self.cluster.kill("b1")
            mt.wait_for(lambda: not self.cluster.is_alive("b1"), 10, "b1 is dead")
            for _ in range(3):
                with Line(place, tls) as c:
                    c.line()
                    begin = time.monotonic()
                    self.assertIn("a NO [UNAVAILABLE]", c.ask("a", "LOGIN user0001 pass0001")[-1])
                    self.assertLess(time.monotonic() - begin, 1.0)
            self.assertIn("b OK", other.ask("b", "NOOP")[-1])


if __name__ == "__main__":
    unittest.main()
