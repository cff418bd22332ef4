"""mailtierctl session list and session kick, on both tiers, for all kinds of sessions."""
import imaplib
import poplib
import smtplib

import mt


class Sessions(mt.ClusterCase):
    FLAGS = ["--proxies", 1, "--backends", 2, "--users", 4, "--loops", 2]

    def rows(self, name, *options):
        answer = self.cluster.ctl_json(name, "session", "list", *options)
        rows = answer.get("rows", [])
        self.assertEqual(answer["sessions"], len(rows))
        return rows

    def login(self, n, place=None):
        m = imaplib.IMAP4(*(place or self.cluster.at("p1", "imap")), timeout=30)
        self.addCleanup(m.shutdown)
        m.login(f"user{n:04d}", f"pass{n:04d}")
        return m

    def transaction(self, to):
        s = smtplib.SMTP(*self.cluster.at("p1", "smtp"), timeout=30)
        self.addCleanup(s.close)
        s.ehlo("client.example.net")
        self.assertEqual(s.mail("a@example.net")[0], 250)
        self.assertEqual(s.rcpt(to)[0], 250)
        return s

    def test_filters_on_the_proxy(self):
        self.login(1)
        self.login(2)
        p = poplib.POP3(*self.cluster.at("p1", "pop3"), timeout=30)
        self.addCleanup(p.close)
        p.user("user0003")
        p.pass_("pass0003")
        s = self.transaction("user0002@example.test")
        names = {("user0001@example.test", "imap", "b1", "joined"), ("user0002@example.test", "imap", "b2", "joined"),
                 ("user0003@example.test", "pop3", "b1", "joined"), ("", "smtp", "b2", "transaction")}

        def listed(*options):
            return {(r["user"], r["service"], r["backend"], r["state"]) for r in self.rows("p1", *options)}
        mt.wait_for(lambda: listed() == names, 30, "all of them and no other")
        for options, want in [
                (("--user", "User0001@example.test"), {n for n in names if n[0].startswith("user0001")}),
                (("--backend", "b1"), {n for n in names if n[2] == "b1"}),
                (("--service", "smtp"), {n for n in names if n[1] == "smtp"}),
                (("--service", "imap", "--backend", "b2"), {n for n in names if n[1:3] == ("imap", "b2")}),
                (("--peer", "127.0.0.0/8"), names),
                (("--peer", "192.0.2.0/24"), set())]:
            self.assertEqual(listed(*options), want, options)
        kicked = int(self.cluster.metric("p1", "mailtier_control_sessions_kicked_total"))
        row = self.rows("p1", "--service", "smtp")[0]
        self.assertEqual(set(row), {"session", "user", "service", "client", "backend", "state", "since"})
        self.assertEqual(self.cluster.ctl_json("p1", "session", "kick", row["session"])["kicked"], 1)
        with self.assertRaises((smtplib.SMTPServerDisconnected, smtplib.SMTPResponseException)):
            for _ in range(2):
                if s.docmd("NOOP")[0] == 421:
                    raise smtplib.SMTPServerDisconnected
        self.assertEqual(self.cluster.ctl_json("p1", "session", "kick", "--service", "pop3")["kicked"], 1)
        with self.assertRaises((poplib.error_proto, OSError)):
            p.noop()
        self.assertEqual(self.cluster.ctl_json("p1", "session", "kick", "--backend", "b9")["kicked"], 0)
        self.cluster.ctl("p1", "session", "kick", "nobody@example.test", code=1)
        self.cluster.ctl("p1", "session", "kick", code=64)
        self.cluster.ctl("p1", "session", "list", "--peer", "nowhere", code=64)
        self.assertEqual(int(self.cluster.metric("p1", "mailtier_control_sessions_kicked_total")) - kicked, 2)

    def test_before_login(self):
        for name in ("p1", "b1"):
            m = imaplib.IMAP4(*self.cluster.at(name, "imap"), timeout=30)
            self.addCleanup(m.shutdown)

            def waiting():
                return [r for r in self.rows(name, "--service", "imap", "--peer", "127.0.0.1") if r["user"] == "" and r["state"] == "command"]
            # Ready connections of the proxy wait at the back-end too.
            row = max(waiting(), key=lambda r: r["since"])
            self.cluster.ctl(name, "session", "kick", row["session"])
            mt.wait_for(lambda: row["session"] not in [r["session"] for r in waiting()], 30, "it is gone")

    def test_back_end(self):
        m = self.login(1, self.cluster.at("b1", "imap"))
        s = self.transaction("user0001@example.test")
        rows = self.rows("b1", "--service", "lmtp")
        self.assertEqual([(r["service"], r["state"]) for r in rows], [("lmtp", "transaction")])
        self.assertNotIn("backend", rows[0])
        self.assertEqual([r["service"] for r in self.rows("b1", "--user", "user0001@example.test", "--peer", "127.0.0.0/8")], ["imap"])
        # The proxy's leg is cut: its client gets a temporary error, and nothing is stored.
        self.assertEqual(self.cluster.ctl_json("b1", "session", "kick", "--service", "lmtp")["kicked"], 1)
        with self.assertRaises(smtplib.SMTPDataError) as caught:
            s.data("Subject: x\r\n\r\nx\r\n")
        self.assertEqual(caught.exception.smtp_code, 451)
        self.assertEqual(self.cluster.ctl_json("b1", "session", "kick", "--user", "user0001@example.test")["kicked"], 1)
        self.assertIn(b"* BYE Ended by the operator.", m.readline())


if __name__ == "__main__":
    import unittest
    unittest.main()
