"""Fifty sessions on one mailbox, half through a proxy, half of them with QRESYNC: each appends, moves, expunges, changes flags, goes without a
word and comes back (the players of test_imap_model.py). Every few rounds all stand still, and the fifty pictures must be the same, and what
the server has. MAILTIER_ROUNDS makes it long: `make soak-imap`."""
import os

import test_imap_model as model
from imap_wire import Wire

PLAYERS = int(os.environ.get("MAILTIER_PLAYERS", "50"))
PHASES = int(os.environ.get("MAILTIER_PHASES", "2"))
ROUNDS = int(os.environ.get("MAILTIER_ROUNDS", "12"))
BOX = b"INBOX"


class Crowd(model.Stage):
    def test_fifty_pictures_agree(self):
        self.cluster.ctl("b1", "account", "set", model.USER.decode(), "--quota", "4G", "--count", "1000000")
        shared = model.Shared()
        first = Wire(self.cluster.at("b1", "imap"))
        first.ask(b"LOGIN %s %s" % (model.USER, model.PASSWORD))
        for box in model.BOXES[:2]:
            first.ask(b'CREATE "%s"' % box)
        first.close()
        self.deliver(shared, 10)
        players = [model.Player(shared, self.cluster.at("p1" if i % 2 else "b1", "imap"), f"player {i}", model.SEED * 1000 + i, BOX, qresync=i % 4 < 2)
                   for i in range(PLAYERS)]
        try:
            for phase in range(PHASES):
                ends = self.play(players, shared, ROUNDS)
                self.assertEqual(len(ends), PLAYERS)
                for name, picture in ends.items():
                    self.assertEqual(picture, ends["player 0"], f"seed {model.SEED}, phase {phase}, {name}")
                self.assertGreater(len(ends["player 0"]), 5)
        finally:
            for p in players:
                p.wire.close()
        count, octets, quota = self.sizes()
        self.assertRegex(quota, rb"STORAGE %d \d+" % ((octets + 1023) // 1024))
        self.assertRegex(quota, rb"MESSAGE %d \d+" % count)
        self.cluster.ctl("b1", "store", "check")


if __name__ == "__main__":
    import unittest
    unittest.main()
