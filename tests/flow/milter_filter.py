#!/usr/bin/python3
"""A filter on sendmail's own libmilter, for tests: notes each event as a line of JSON, and does what the message asks for.

    milter_filter.py SOCKET LOG        SOCKET as libmilter writes it: inet:PORT@HOST or unix:PATH

    HELO name, local part of the sender or of a recipient:   reject, tempfail, discard, accept, reply, crash, hang
    fields "X-Do: WHAT", at the end of the message:          those, and the edits below, in order
"""
import json
import os
import sys
import time

import Milter

LOG = None
VERDICTS = {
    "reject": Milter.REJECT,
    "tempfail": Milter.TEMPFAIL,
    "discard": Milter.DISCARD,
    "accept": Milter.ACCEPT,
}


def note(event, **what):
    os.write(LOG, (json.dumps({"event": event, **what}) + "\n").encode())


class Filter(Milter.Base):
    def __init__(self):
        self.id = Milter.uniqueID()
        self.wants = []
        self.octets = 0

    def act(self, word):
        if word == "reply":
            self.setreply("554", "5.7.9", "as the message asked")
            return Milter.REJECT
        if word == "crash":
            os._exit(1)
        if word == "hang":
            time.sleep(3600)
        return VERDICTS.get(word, Milter.CONTINUE)

    def connect(self, name, family, address):
        self.wants, self.octets = [], 0
        note("connect", name=name, address=address, host=self.getsymval("j"))
        return Milter.CONTINUE

    def hello(self, name):
        note("helo", name=name)
        return self.act(name.split(".")[0])

    def envfrom(self, path, *params):
        self.wants, self.octets = [], 0
        note("mail", path=path, params=params, user=self.getsymval("{auth_authen}"), id=self.getsymval("i"))
        return self.act(path.strip("<>").split("@")[0])

    def envrcpt(self, path, *params):
        note("rcpt", path=path, params=params)
        return self.act(path.strip("<>").split("@")[0])

    def data(self):
        note("data")
        return Milter.CONTINUE

    def header(self, name, value):
        note("header", name=name, value=value)
        if name.lower() == "x-do":
            self.wants += [value.strip()]
        return Milter.CONTINUE

    def eoh(self):
        note("eoh")
        return Milter.CONTINUE

    def body(self, piece):
        self.octets += len(piece)
        return Milter.CONTINUE

    def unknown(self, line):
        note("unknown", line=line)
        return Milter.CONTINUE

    def eom(self):
        note("eom", octets=self.octets, wants=self.wants)
        for want in self.wants:
            word, _, rest = want.partition(" ")
            edit = EDITS.get(word)
            if edit:
                edit(self, rest)
            else:
                verdict = self.act(word)
                if verdict != Milter.CONTINUE:
                    return verdict
        return Milter.CONTINUE

    def abort(self):
        note("abort")
        return Milter.CONTINUE

    def close(self):
        note("close")
        return Milter.CONTINUE


EDITS = {
    "add": lambda f, rest: f.addheader("X-Added", rest),
    "forge": lambda f, rest: f.addheader("X-Added", "one\nX-Forged: two\n\nbody"),
    "first": lambda f, rest: f.addheader("X-First", rest, 0),
    "change": lambda f, rest: f.chgheader("Subject", 1, rest),
    "delete": lambda f, rest: f.chgheader("X-Gone", 1, ""),
    "body": lambda f, rest: f.replacebody(rest.encode() + b"\r\n"),
    "also": lambda f, rest: f.addrcpt("<%s>" % rest),
    "not": lambda f, rest: f.delrcpt("<%s>" % rest),
    "from": lambda f, rest: f.chgfrom("<%s>" % rest),
    "quarantine": lambda f, rest: f.quarantine(rest),
    "slow": lambda f, rest: [(time.sleep(0.3), f.progress()) for _ in range(int(rest))],
}


def main():
    global LOG
    socket, log = sys.argv[1:]
    LOG = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    Milter.factory = Filter
    Milter.set_flags(
        Milter.ADDHDRS + Milter.CHGHDRS + Milter.CHGBODY + Milter.ADDRCPT + Milter.DELRCPT + Milter.CHGFROM + Milter.QUARANTINE
    )
    Milter.runmilter("mailtier-test", socket, timeout=60)


main()
