"""The proxy in front of servers that are not ours: trust = replay, STARTTLS and implicit TLS towards them, servers without SASL-IR or
SASL, all their ways to fail. Each server here is a script of a few lines."""
import base64
import os
import socket
import ssl
import subprocess
import tempfile
import threading
import unittest

import mt
from test_proxy_login import Line


class Server:
    """An IMAP or POP3 server that knows a greeting, capabilities and how logins end; it remembers every line."""

    def __init__(self, host, serve, **knobs):
        self.knobs, self.lines, self.serve, self.accepted, self.login_at = knobs, [], serve, 0, None
        self.listener = socket.create_server((host, 0), backlog=50)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                s, _ = self.listener.accept()
            except OSError:
                return
            self.accepted += 1
            threading.Thread(target=self._run, args=(s, self.accepted), daemon=True).start()

    def _run(self, s, number):
        threading.current_thread().number = number
        try:
            s.settimeout(20)
            if self.knobs.get("implicit"):
                s = self.knobs["tls"].wrap_socket(s, server_side=True)
            self.serve(self, s)
        except (OSError, ssl.SSLError, ValueError):
            pass
        finally:
            s.close()

    def close(self):
        self.listener.close()


def decode(text):
    return base64.b64decode(text).split(b"\0")


def imap(server, s):
    k = server.knobs
    f, is_tls = s.makefile("rb"), bool(k.get("implicit"))
    caps = k.get("caps", "IMAP4rev1 SASL-IR AUTH=PLAIN ID")
    starttls = "tls" in k and not k.get("implicit")

    def say(text):
        s.sendall((text + "\r\n").encode())

    def answer(tag, user, password):
        result = k["login"](user, password)
        say(f"{tag} {result}")

    say(k.get("greeting") or (f"* OK [CAPABILITY {caps}] foreign" if k.get("tells", True) else "* OK foreign"))
    while True:
        raw = f.readline()
        if not raw:
            return
        line = raw.decode("latin-1").rstrip("\r\n")
        server.lines.append((is_tls, line))
        tag, _, rest = line.partition(" ")
        word, _, rest = rest.partition(" ")
        word = word.upper()
        if word == "CAPABILITY":
            say(f"* CAPABILITY {caps}{' STARTTLS' if starttls and not is_tls else ''}")
            say(f"{tag} OK done")
        elif word == "STARTTLS":
            say(f"{tag} OK go")
            s = k["tls"].wrap_socket(s, server_side=True)
            f, is_tls = s.makefile("rb"), True
        elif word == "ID":
            say("* ID NIL")
            say(f"{tag} OK id")
        elif word == "AUTHENTICATE":
            parts = rest.split()
            if len(parts) < 2:
                say("+ ")
                parts.append(f.readline().decode().strip())
                server.lines.append((is_tls, parts[1]))
            _, user, password = decode(parts[1])
            server.login_at = threading.current_thread().number
            answer(tag, user.decode(), password.decode())
        elif word == "LOGIN":
            user, password = rest.replace('"', "").split(" ", 1)
            answer(tag, user, password)
        elif word == "LOGOUT":
            say("* BYE")
            say(f"{tag} OK out")
            return
        else:
            say(f"{tag} OK echo {rest}")


def pop3(server, s):
    k = server.knobs
    f, user = s.makefile("rb"), ""

    def say(text):
        s.sendall((text + "\r\n").encode())

    say(k.get("greeting", "+OK foreign"))
    while True:
        raw = f.readline()
        if not raw:
            return
        line = raw.decode("latin-1").rstrip("\r\n")
        server.lines.append((False, line))
        word, _, rest = line.partition(" ")
        if word == "CAPA":
            say(k.get("capa", "+OK\r\nSASL PLAIN\r\n."))
        elif word == "UTF8":
            say(k["utf8"])
        elif word == "AUTH":
            _, user, password = decode(rest.split()[1])
            say(k["login"](user.decode(), password.decode()))
        elif word == "USER":
            user = rest
            say("+OK")
        elif word == "PASS":
            say(k["login"](user, rest))
        elif word == "QUIT":
            say("+OK bye")
            return
        else:
            say("+OK " + line)


USER = "user0001@example.test"


def right(text="OK [CAPABILITY IMAP4rev1 IDLE STARTTLS AUTH=PLAIN LOGINDISABLED] in", no="NO [AUTHENTICATIONFAILED] wrong"):
    return lambda user, password: text if (user, password) == (USER, "secret") else no


class Foreign(unittest.TestCase):
    """Each test: its own server and its own proxy."""

    def start(self, serve, backend, check=True, service="imap", maps=None, **knobs):
        self.host = mt.fresh_host()
        self.dir = tempfile.mkdtemp(prefix="mt-foreign-")
        self.addCleanup(lambda: subprocess.run(["rm", "-rf", self.dir]))
        if "tls" in knobs:
            self.make_certificate()
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self.path("cert.pem"), self.path("key.pem"))
            knobs["tls"] = context
            backend += f'\tca = "{self.path("cert.pem")}"\n'
        self.server = Server(self.host, serve, **knobs)
        self.addCleanup(self.server.close)
        self.write("users.map", maps or f"{USER} f1\n", 0o600)
        self.write("more.conf", f"""
default-domain = example.test
loops = 1
listener imap {{ allow-clear = yes }}
listener pop3 {{ allow-clear = yes }}
limits {{ failed-login-delay = 50ms }}
backend f1 {{
	host = {self.host}
	{service}-port = {self.server.port}
{backend}{"" if "probe-interval" in backend else f"	probe-interval = {'1s' if check else 0}"}
}}
backend-default {{
	trust = replay
	tls = none
	hosts = {{{self.host}}}
	{service}-port = {self.server.port}
}}
""")
        self.write("auth.conf", "".join(f"service {s} {{\n\tauthenticate = backend\n}}\n" for s in ("imap", "pop3", "submission"))
                   if "replay" in backend else "", 0o644)
        self.cluster = mt.Cluster("--backends", 0, "--map", self.path("users.map"), "--conf", self.path("more.conf"), "--conf",
                                  self.path("auth.conf"), host=mt.fresh_host())
        self.addCleanup(self.cluster.stop)

    def path(self, name):
        return os.path.join(self.dir, name)

    def write(self, name, text, mode=0o644):
        with open(os.open(self.path(name), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "w") as f:
            f.write(text)

    def make_certificate(self):
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                        "-subj", "/CN=foreign", "-addext", f"subjectAltName=IP:{self.host}", "-keyout", self.path("key.pem"), "-out",
                        self.path("cert.pem")], check=True, capture_output=True)

    def imap_login(self, password="secret"):
        with Line(self.cluster.at("p1", "imap")) as c:
            c.line()
            c.send(f"a LOGIN {USER} {password}\r\nb ECHO hello\r\n")
            ok = c.until("a")[-1]
            return ok, c.until("b")[-1] if " OK" in ok else None

    def pop3_login(self, password="secret", before=()):
        with Line(self.cluster.at("p1", "pop3")) as c:
            c.line()
            c.send("".join(f"{line}\r\n" for line in (*before, f"USER {USER}", f"PASS {password}")))
            for _ in before:
                c.line()
            c.line()
            return c.line()

    REPLAY = "\ttrust = replay\n\ttls = none\n"

    def test_replay_in_one_flight(self):
        self.start(imap, self.REPLAY, login=right())
        ok, echo = self.imap_login()
        self.assertEqual(ok, "a OK [CAPABILITY IMAP4rev1 IDLE] Logged in.")
        self.assertEqual(echo, "b OK echo hello")
        ids = [l for _, l in self.server.lines if " ID (" in l]
        self.assertIn('"x-originating-ip" "127.0.0.1"', ids[0])
        self.assertIn("NO [AUTHENTICATIONFAILED]", self.imap_login("wrong")[0])
        # Every login had its own credential.
        seen = [decode(l.split()[-1]) for _, l in self.server.lines if "AUTHENTICATE PLAIN " in l]
        self.assertEqual(seen, [[b"", USER.encode(), b"secret"], [b"", USER.encode(), b"wrong"]])

    def test_step_by_step_without_sasl_ir_and_capabilities_in_the_greeting(self):
        self.start(imap, self.REPLAY, check=False, login=right(), tells=False, caps="IMAP4rev1 AUTH=PLAIN")
        for _ in range(2):
            self.assertEqual(self.imap_login()[1], "b OK echo hello")
        self.assertFalse([l for _, l in self.server.lines if " ID " in l])

    def test_login_command_for_servers_without_sasl(self):
        self.start(imap, self.REPLAY, login=right(), caps="IMAP4rev1")
        self.assertEqual(self.imap_login()[1], "b OK echo hello")
        self.assertIn("NO [AUTHENTICATIONFAILED]", self.imap_login("wrong")[0])

    def test_starttls_and_implicit_tls_with_proxy_auth(self):
        vouch = lambda user, password: "OK in" if (user, password) == ("proxy", "ours") else "NO no"
        for mode in ("starttls", "implicit"):
            with self.subTest(mode):
                self.start_vouching(mode, vouch)
                self.assertEqual(self.imap_login()[1], "b OK echo hello")
                self.assertIn("NO [AUTHENTICATIONFAILED]", self.imap_login("wrong")[0])
                logins = [(t, l) for t, l in self.server.lines if "AUTHENTICATE" in l]
                self.assertTrue(logins)
                self.assertTrue(all(t for t, _ in logins), "a credential in clear")
                self.assertEqual(decode(logins[0][1].split()[-1]), [USER.encode(), b"proxy", b"ours"])

    def test_spare_connections(self):
        """A login takes one that stood before; and one that the server ends while it waits costs no login."""
        self.start_vouching("starttls", lambda user, password: "OK in", more="\tspare = 1\n\tprobe-interval = 0\n")
        mt.wait_for(lambda: self.cluster.metric("p1", "mailtier_proxy_spare_connections") == 1, 10, "a spare stands")
        before = self.server.accepted
        self.assertEqual(self.imap_login()[1], "b OK echo hello")
        self.assertLessEqual(self.server.login_at, before)
        mt.wait_for(lambda: self.server.accepted > before, 10, "another takes its place")
        for _ in range(5):
            self.assertEqual(self.imap_login()[1], "b OK echo hello")

    def start_vouching(self, mode, vouch, more=""):
        secret = tempfile.NamedTemporaryFile("w", suffix=".secret")
        os.chmod(secret.name, 0o600)
        secret.write("ours\n")
        secret.flush()
        self.addCleanup(secret.close)
        self.start(imap, f'\ttrust = proxy-auth\n\ttls = {mode}\n\tcredential = "{secret.name}"\n' + more, tls=None, implicit=mode == "implicit",
                   login=vouch, maps=f"{USER} f1 password={{PLAIN}}secret\n")

    def test_every_way_to_fail(self):
        answers = {"OK": None}
        self.start(imap, self.REPLAY, login=lambda user, password: answers["now"])
        for now, want in (("NO [UNAVAILABLE] later", "a NO [UNAVAILABLE]"), ("NO [AUTHORIZATIONFAILED] none", "a NO [AUTHORIZATIONFAILED]"),
                          ("NO [INUSE] busy", "a NO [INUSE]"), ("NO [LIMIT] many", "a NO [LIMIT]"), ("NO failed", "a NO [AUTHENTICATIONFAILED]"),
                          ("BAD what", "a NO [UNAVAILABLE]"), ("NONSENSE", "a NO [UNAVAILABLE]"), ("NO [SERVERBUG] x", "a NO [UNAVAILABLE]")):
            with self.subTest(now):
                answers["now"] = now
                self.assertTrue(self.imap_login()[0].startswith(want), now)

    def test_a_server_that_is_down_or_refuses_at_the_greeting(self):
        self.start(imap, self.REPLAY, login=right(), greeting="* BYE overloaded")
        self.assertIn("a NO [UNAVAILABLE]", self.imap_login()[0])
        self.server.close()
        self.assertIn("a NO [UNAVAILABLE]", self.imap_login()[0])

    def test_a_host_that_a_map_names(self):
        self.start(imap, self.REPLAY, login=right(), maps="placeholder@example.test f1\n")
        with open(self.path("users.map"), "w") as f:
            f.write(f"{USER} {self.host}\nuser0002@example.test 192.0.2.1\n")
        self.cluster.ctl("p1", "map", "reload", "--force")
        self.assertEqual(self.imap_login()[1], "b OK echo hello")
        with Line(self.cluster.at("p1", "imap")) as c:
            c.line()
            self.assertIn("a NO [UNAVAILABLE]", c.ask("a", "LOGIN user0002 secret")[-1])
        self.assertIn("ERROR proxy", self.cluster.log("p1"))

    def test_pop3(self):
        self.start(pop3, self.REPLAY, service="pop3", login=right("+OK in", "-ERR [AUTH] wrong"), greeting="+OK [XCLIENT] foreign")
        self.assertTrue(self.pop3_login().startswith("+OK"))
        self.assertTrue(self.pop3_login("wrong").startswith("-ERR [AUTH]"))
        self.assertIn("XCLIENT ADDR=127.0.0.1", "\n".join(l for _, l in self.server.lines))

    def test_pop3_utf8_goes_to_those_who_know_it(self):
        """RFC 6856: before the login, in the same flight; what the back-end says to it does not matter."""
        for capa, says, wants in (("+OK\r\nSASL PLAIN\r\nUTF8 USER\r\n.", "-ERR no", True),
                                  ("+OK\r\nSASL PLAIN\r\n.", "+OK", False)):
            with self.subTest(capa, says=says):
                self.start(pop3, self.REPLAY, service="pop3", login=right("+OK in", "-ERR [AUTH] wrong"), greeting="+OK [XCLIENT] foreign",
                           capa=capa, utf8=says)
                self.assertTrue(self.pop3_login(before=["UTF8"]).startswith("+OK"))
                lines = [l for _, l in self.server.lines]
                self.assertEqual("UTF8" in lines, wants, lines)
                del self.server.lines[:]
                self.assertTrue(self.pop3_login().startswith("+OK"))
                self.assertNotIn("UTF8", [l for _, l in self.server.lines])
                self.assertTrue(self.pop3_login("wrong", before=["UTF8"]).startswith("-ERR [AUTH]"))

    def test_pop3_by_user_and_pass(self):
        self.start(pop3, self.REPLAY, service="pop3", login=right("+OK in", "-ERR wrong"), capa="-ERR what")
        self.assertTrue(self.pop3_login().startswith("+OK"))
        self.assertTrue(self.pop3_login("wrong").startswith("-ERR [AUTH]"))
        self.assertFalse([l for _, l in self.server.lines if l.startswith("XCLIENT")])


class Check(unittest.TestCase):
    """--check refuses what cannot work or would break a promise, with file, line and key."""
    BASE = """
listener imap { service = imap
 listen = {"127.0.0.1:10143"}
 tls = none
}
service imap { maps = {users} }
map users { file = "users.map" }
"""
    GOOD = 'backend b { host = 127.0.0.1\n tls = none\n credential = "secret"\n }\n'

    def check(self, text):
        with tempfile.TemporaryDirectory() as d:
            for name, content in (("p.conf", text), ("secret", "x\n"), ("users.map", "")):
                with open(os.open(os.path.join(d, name), os.O_WRONLY | os.O_CREAT, 0o600), "w") as f:
                    f.write(content)
            done = subprocess.run([os.path.join(mt.bin_dir(), "mailtier-proxy"), "-c", os.path.join(d, "p.conf"), "--check"],
                                  capture_output=True, text=True, timeout=60)
            return done.returncode, done.stdout + done.stderr

    def test_combinations(self):
        replay = self.BASE.replace("maps = {users}", "maps = {users}\n authenticate = backend\n")
        for text, want in (
                (self.BASE + self.GOOD, None),
                (replay + 'backend b { host = 127.0.0.1\n tls = none\n trust = replay\n }\n', None),
                (replay + self.GOOD, "replay"),
                (replay + self.GOOD.replace("backend b", "backend c") + 'backend b { host = x\n trust = replay\n }\n', "backend c"),
                (replay.replace("authenticate", "backends = {b}\n authenticate") + self.GOOD.replace("backend b", "backend c") +
                 'backend b { host = x\n trust = replay\n }\n', None),
                (self.BASE + self.GOOD.replace("127.0.0.1", "10.0.0.1"), "loopback"),
                (self.BASE + self.GOOD.replace("127.0.0.1", "10.0.0.1").replace("tls = none", "tls = starttls\n verify = no"), "verify = yes"),
                (self.BASE + self.GOOD.replace(' credential = "secret"\n', ""), "credential"),
                (self.BASE.replace("{users}", "{others}") + self.GOOD, "no section map others"),
                (self.BASE.replace("maps = {users}", "maps = {}") + self.GOOD, "no map is named"),
                (self.BASE.replace("tls = none", "tls = implicit") + self.GOOD, "no section tls default"),
                (self.BASE + self.GOOD.replace("tls = none", "tls = none\n spare = 2"), "spare"),
                (self.BASE + self.GOOD.replace("tls = none", "tls = implicit\n spare = 2\n identity = proxy-v2"), "spare"),
                (self.BASE + self.GOOD.replace("host = 127.0.0.1", 'host = {"127.0.0.1", "127.0.0.1"}'), "twice"),
                (self.BASE + self.GOOD.replace("host = 127.0.0.1", 'host = {"127.0.0.1", "10.0.0.1"}'), "loopback"),
                (self.BASE + self.GOOD.replace("host = 127.0.0.1", "host = {}"), "one to 8"),
                (self.BASE + self.GOOD.replace("tls = none", "tls = none\n source-addresses = here"), "no address"),
                (self.BASE + self.GOOD + "nonsense = 1\n", "nonsense")):
            with self.subTest(text):
                status, out = self.check(text)
                self.assertEqual(status, 0 if want is None else 1, out)
                if want:
                    self.assertIn(want, out)


if __name__ == "__main__":
    unittest.main()
