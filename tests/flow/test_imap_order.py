"""SORT and THREAD (RFC 5256) of random mail against a second implementation, written from the RFC's text step by step and with nothing
else in mind: recursive, slow, plain."""
import random
import re

import mt
from imap_wire import Wire

SUBJECTS = ["", "alpha", "Beta", "gamma", "GAMMA", "d\xe9lta"]
WRAPS = ["%s", "%s", "Re: %s", "Fwd: %s", "[list] %s", "Re: [list] %s", "%s (fwd)", "[fwd: %s]", "re[2]: Re: %s"]


def words(subject):
    return "=?utf-8?q?%s?=" % "".join("=%02X" % b for b in subject.encode()) if not subject.isascii() else subject


def capital(text):
    """In what is sorted letters of ASCII are capital ones."""
    return "".join(c.upper() if "a" <= c <= "z" else c for c in text)


class Mail:
    def __init__(self, rng, number, ids):
        self.number = number
        self.time = rng.randrange(0, 40) * 3600  # many are equal
        self.base = rng.choice(SUBJECTS)
        wrap = rng.choice(WRAPS)
        if not self.base and wrap.startswith("[list]"):
            wrap = "%s"  # a blob alone would be the base
        self.base_text = self.base if "[list]" not in wrap or self.base else "[list]"
        self.is_reply = wrap not in ("%s", "[list] %s")
        self.subject = wrap % words(self.base)
        self.sender = rng.choice("abcdefg") + rng.choice(["", "x", "Y"])
        self.id = rng.choice(ids) if rng.random() < .9 else None
        self.references = [rng.choice(ids) for _ in range(rng.choice([0, 0, 1, 1, 2, 3, 6]))]

    def text(self):
        out = f"Date: {1 + self.time // 86400} Jan 2001 {self.time // 3600 % 24:02}:00:00 +0000\r\nFrom: {self.sender}@x\r\n"
        out += f"Subject: {self.subject}\r\n" if self.subject else ""
        out += f"Message-ID: <{self.id}>\r\n" if self.id else ""
        if len(self.references) == 1 and self.number % 2:
            out += f"In-Reply-To: answer to <{self.references[0]}>\r\n"
        elif self.references:
            out += "References: " + " ".join(f"<{r}>" for r in self.references) + "\r\n"
        return (out + "\r\nbody\r\n").encode()

    def key(self):
        return (self.time, self.number)


class Node:
    def __init__(self, mail=None):
        self.mail, self.parent, self.children = mail, None, []

    def attach(self, parent):
        self.detach()
        self.parent = parent
        parent.children.append(self)

    def detach(self):
        if self.parent:
            self.parent.children.remove(self)
        self.parent = None

    def key(self):
        return self.mail.key() if self.mail else min(c.key() for c in self.children)

    def first(self):
        return self if self.mail else min(self.children, key=Node.key)

    def is_reply(self):
        return self.mail is not None and self.mail.is_reply


def descends(node, ancestor):
    while node:
        if node is ancestor:
            return True
        node = node.parent
    return False


def prune(node):
    for c in list(node.children):
        prune(c)
    out = []
    for c in node.children:
        if c.mail:
            out.append(c)
        else:
            out += c.children
    for c in out:
        c.parent = node
    node.children = out


def show(node):
    out = ""
    while True:
        out += str(node.mail.number) if node.mail else ""
        if len(node.children) != 1:
            break
        out += " "
        node = node.children[0]
    children = sorted(node.children, key=Node.key)
    return out + (" " if node.mail and children else "") + "".join(f"({show(c)})" for c in children)


def references(mails):
    table, nodes = {}, []
    for m in mails:  # step 1
        node = table.get(m.id) if m.id else None
        if node is None or node.mail:
            node = Node()
            if m.id and m.id not in table:
                table[m.id] = node
        node.mail = m
        if node not in nodes:
            nodes.append(node)
        last = None
        for r in m.references:
            n = table.setdefault(r, Node())
            if n not in nodes:
                nodes.append(n)
            if last and not n.parent and not descends(last, n):
                n.attach(last)
            last = n
        node.detach()
        if last and not descends(last, node):
            node.attach(last)
    roots = [n for n in nodes if not n.parent]  # step 2
    for n in roots:  # step 3
        prune(n)
    roots = [n.children[0] if not n.mail and len(n.children) == 1 else n for n in roots if n.mail or n.children]
    for n in roots:
        n.parent = None
    roots.sort(key=Node.key)  # step 4
    subjects = {}  # step 5
    subject = {id(n): n.first().mail.base_text.lower() for n in roots}
    for n in roots:
        s = subject[id(n)]
        if s and (s not in subjects or (subjects[s].mail and (not n.mail or (subjects[s].is_reply() and not n.is_reply())))):
            subjects[s] = n
    for n in list(roots):
        s = subject[id(n)]
        if not s or subjects[s] is n:
            continue
        other = subjects[s]
        if not other.mail and not n.mail:
            for c in list(n.children):
                c.attach(other)
            roots.remove(n)
        elif not other.mail or (n.is_reply() and not other.is_reply()):
            roots.remove(n)
            n.attach(other)
        else:
            dummy = Node()
            roots[roots.index(other)] = dummy
            roots.remove(n)
            n.attach(dummy)
            other.attach(dummy)
            subjects[s] = dummy
    return "".join(f"({show(n)})" for n in sorted(roots, key=Node.key))  # step 6


def ordered_subject(mails):
    threads = {}
    for m in sorted(mails, key=Mail.key):
        threads.setdefault(m.base_text.lower(), []).append(m)
    out = ""
    for thread in threads.values():
        rest = [str(m.number) for m in thread[1:]]
        out += f"({thread[0].number}" + (f" {rest[0]}" if len(rest) == 1 else " " * bool(rest) + "".join(f"({r})" for r in rest)) + ")"
    return out


class Order(mt.ClusterCase):
    FLAGS = ["--proxies", 0, "--backends", 1, "--users", 2]

    def test_sort_and_thread_agree_with_a_second_implementation(self):
        wire = Wire(self.cluster.at("b1", "imap"))
        self.addCleanup(wire.close)
        self.assertRegex(wire.ask(b"LOGIN user0001@example.test pass0001")[1], rb"OK")
        for seed in range(12):
            rng = random.Random(seed)
            count = rng.choice([5, 20, 60, 150])
            ids = [f"{n}@x" for n in range(max(2, int(count * rng.choice([.3, 1, 3]))))]
            mails = [Mail(rng, n, ids) for n in range(1, count + 1)]
            box = b"m%d" % seed
            wire.ask(b"CREATE " + box)
            for m in mails:
                self.assertRegex(wire.ask(b"APPEND %s {%d+}\r\n%s" % (box, len(m.text()), m.text()))[1], rb"OK")
            wire.ask(b"SELECT " + box)
            for low in (1, count // 2):
                part = mails[low - 1:]
                for name, want in (("REFERENCES", references(part)), ("ORDEREDSUBJECT", ordered_subject(part))):
                    got = wire.ask(b"THREAD %s UTF-8 %d:*" % (name.encode(), low))[0][0].decode()
                    self.assertEqual(got, f"* THREAD {want}\r\n", (seed, name))
                for program, key in (("DATE", lambda m: m.time), ("SUBJECT DATE", lambda m: (capital(m.base_text.lower().replace("\xe9", "e\u0301")), m.time)),
                                     ("FROM", lambda m: capital(m.sender)), ("REVERSE FROM", lambda m: [-ord(c) for c in capital(m.sender)] + [0])):
                    got = wire.ask(b"SORT (%s) UTF-8 %d:*" % (program.encode(), low))[0][0].decode()
                    self.assertEqual(got, "* SORT " + " ".join(str(m.number) for m in sorted(part, key=key)) + "\r\n", (seed, program))
        self.assertEqual(re.sub(r"\(|\)", "", ordered_subject([])), "")


if __name__ == "__main__":
    import unittest
    unittest.main()
