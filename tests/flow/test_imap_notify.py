"""NOTIFY (RFC 5465) through the proxy: a session that sends nothing hears of deliveries, of other sessions' doings and of the operator's;
clients that go away amid news; many that watch one account."""
import mt
from backend_case import BackendCase
from imap_wire import Wire

MAIL = b"From: a@b.test\r\nSubject: good morning\r\n\r\ntext\r\n"
ALL = b"(MessageNew MessageExpunge FlagChange MailboxName SubscriptionChange MailboxMetadataChange ServerMetadataChange)"


class ImapNotify(BackendCase):
    USERS = 3
    STARTER = ["--proxies", "1", "--password", "pw"]

    def connect(self, name, user):
        wire = Wire(self.cluster.at(name, "imap"))
        self.addCleanup(wire.close)
        password = self.password(user) if name == "b1" else "pw"
        self.assertRegex(wire.ask(f"LOGIN {self.user(user)} {password}".encode())[1], rb"\AOK")
        return wire

    def until(self, wire, pattern):
        for _ in range(200):
            line = wire.response(20)
            if pattern in line:
                return line
        self.fail(pattern)

    def test_a_client_that_sends_nothing_hears_all(self):
        wire, other = self.connect("p1", 1), self.connect("b1", 1)
        self.assertIn(b" NOTIFY ", b"".join(wire.ask(b"CAPABILITY")[0]))
        wire.ask(b"SELECT INBOX")
        self.assertRegex(wire.ask(b"NOTIFY SET STATUS (selected (MessageNew (UID BODY.PEEK[HEADER.FIELDS (Subject)]) MessageExpunge "
                                  b"FlagChange)) (personal %s)" % ALL)[1], rb"\AOK")
        self.deliver(self.user(1), MAIL)
        self.until(wire, b"* 1 EXISTS")
        self.assertIn(b"Subject: good morning", self.until(wire, b"* 1 FETCH (UID 1 BODY[HEADER.FIELDS"))
        other.ask(b"SELECT INBOX")
        other.ask(b"UID COPY 1 Archive")
        self.until(wire, b"* STATUS Archive (MESSAGES 1 UIDNEXT 2")
        other.ask(b"STORE 1 +FLAGS (\\Deleted)")
        self.until(wire, b"* 1 FETCH (UID 1 FLAGS")
        other.ask(b"EXPUNGE")
        self.until(wire, b"* 1 EXPUNGE")
        other.ask(b"CREATE Projects")
        self.until(wire, b'"/" Projects\r\n')
        other.ask(b"RENAME Projects Work")
        self.until(wire, b'"/" Work ("OLDNAME" (Projects))')
        other.ask(b'SETMETADATA Work (/shared/comment "x")')
        self.until(wire, b"* METADATA Work /shared/comment")
        other.ask(b"DELETE Work")
        self.until(wire, b"* LIST (\\NonExistent")
        self.assertEqual(wire.ask(b"NOTIFY NONE")[0], [])
        self.deliver(self.user(1), MAIL)
        self.assertEqual(wire.ask(b"NOOP")[0], [])

    def test_many_watch_and_some_go_away(self):
        wires = [self.connect("p1" if i % 2 else "b1", 2) for i in range(20)]
        for wire in wires:
            wire.ask(b"SELECT INBOX")
            self.assertRegex(wire.ask(b"NOTIFY SET (selected (MessageNew (UID BODY.PEEK[]) MessageExpunge)) (personal %s)" % ALL)[1],
                             rb"\AOK")
        for i in range(20):
            self.deliver(self.user(2), MAIL)
            if i < 10:
                wires[i].sock.close()
        for wire in wires[10:]:
            self.until(wire, b"* 20 FETCH (UID 20 BODY[] ")
            self.assertRegex(wire.ask(b"NOOP")[1], rb"\AOK")
        mt.wait_for(lambda: self.cluster.is_alive("b1"), 5, "the back-end lives")


if __name__ == "__main__":
    import unittest
    unittest.main()
