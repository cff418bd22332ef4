"""Ways to log in, on both tiers, by other people's clients: gsasl, curl, mbsync and Python; a real MIT KDC, client certificates, a
password map on a real slapd. What a test wants and is not installed is skipped."""
import base64
import imaplib
import os
import poplib
import shutil
import signal
import smtplib
import socket
import ssl
import subprocess
import tempfile
import unittest

import mt
import samba
from slapd import SLAPD, Slapd

REALM, SERVICE_HOST, DOMAIN = "CORP.EXAMPLE", "mail.corp.example", "example.test"
KDC = "/usr/sbin/krb5kdc"
ALL = ("PLAIN, LOGIN, CRAM-MD5, DIGEST-MD5, SCRAM-SHA-1, SCRAM-SHA-1-PLUS, SCRAM-SHA-256, SCRAM-SHA-256-PLUS, EXTERNAL, GSSAPI")
CLEAR = "PLAIN, CRAM-MD5, SCRAM-SHA-256, GSSAPI"
COMMON = """
default-domain = example.test
gssapi-host = {host}
gssapi-keytab = {dir}/service.keytab
gssapi-realms = {{"{realm}={domain}"}}
tls default {{ client-ca = {dir}/ca.pem }}
limits {{ failed-login-delay = 0s failed-logins = 5 penalty-delay = 1ms penalty-most = 100ms penalty-free = 0 }}
"""


def user(i):
    return f"user{i:04}@{DOMAIN}"


class Kdc:
    """A realm of its own on loopback, with a principal for user 1 and one that looks like a service."""

    def __init__(self, dir):
        self.dir, port = dir, mt.fresh_port()
        self.env = {**os.environ, "KRB5_CONFIG": f"{dir}/krb5.conf", "KRB5_KDC_PROFILE": f"{dir}/kdc.conf",
                    "KRB5RCACHETYPE": "none"}
        self.write("krb5.conf", f"[libdefaults]\n default_realm = {REALM}\n dns_lookup_kdc = false\n dns_lookup_realm = false\n"
                   f" dns_canonicalize_hostname = false\n rdns = false\n udp_preference_limit = 1\n[realms]\n {REALM} = {{\n"
                   f"  kdc = 127.0.0.1:{port}\n }}\n[domain_realm]\n .corp.example = {REALM}\n")
        self.write("kdc.conf", f"[kdcdefaults]\n kdc_listen = 127.0.0.1:{port}\n kdc_tcp_listen = 127.0.0.1:{port}\n[realms]\n"
                   f" {REALM} = {{\n  database_name = {dir}/principal\n  key_stash_file = {dir}/stash\n  acl_file = {dir}/acl\n }}\n"
                   f"[logging]\n kdc = FILE:{dir}/kdc.log\n")
        self.run("kdb5_util", "create", "-s", "-r", REALM, "-P", "master-Pw")
        for name in ("user0001", "user0002", "nobody", "imap/other.corp.example"):
            self.admin(f"addprinc -pw {name}-Pw {name}")
        for service in ("imap", "pop", "smtp"):
            self.admin(f"addprinc -randkey {service}/{SERVICE_HOST}")
            self.admin(f"ktadd -k {dir}/service.keytab {service}/{SERVICE_HOST}")
        os.chmod(f"{dir}/service.keytab", 0o600)
        self.process = subprocess.Popen([KDC, "-n", "-r", REALM], env=self.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        mt.wait_for(lambda: socket.socket().connect_ex(("127.0.0.1", port)) == 0, 20, "the KDC listens")

    def write(self, name, text):
        with open(os.path.join(self.dir, name), "w") as f:
            f.write(text)

    def run(self, *command, input=None, env=None):
        done = subprocess.run(command, env=env or self.env, input=input, text=True, capture_output=True, timeout=60)
        if done.returncode:
            raise AssertionError(f"{command}: {done.stdout}{done.stderr}")

    def admin(self, query):
        self.run("kadmin.local", "-r", REALM, "-q", query)

    def ticket(self, name):
        """The environment of a client that has one."""
        env = {**self.env, "KRB5CCNAME": f"FILE:{self.dir}/cc.{name.replace('/', '.')}"}
        self.run("kinit", name, input=f"{name}-Pw\n", env=env)
        return env

    def end(self):
        self.process.terminate()
        self.process.wait()


def certificates(dir):
    """A CA of clients, one certificate for user 1 by SAN, one that names two, one whose common name alone is an address."""
    def openssl(*words):
        subprocess.run(["openssl"] + list(words), check=True, capture_output=True)
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    openssl("req", "-x509", *key, "-days", "30", "-subj", "/CN=Clients", "-keyout", f"{dir}/ca.key", "-out", f"{dir}/ca.pem")
    for name, cn, san in (("one", "One", f"email:{user(1)}"), ("two", "Two", f"email:{user(1)},email:{user(2)}"),
                          ("cn", user(1), None), ("stranger", "x", "email:stranger@example.test")):
        with open(f"{dir}/{name}.ext", "w") as f:
            f.write("basicConstraints = CA:FALSE\n" + (f"subjectAltName = {san}\n" if san else ""))
        openssl("req", *key, "-subj", f"/CN={cn}", "-keyout", f"{dir}/{name}.key", "-out", f"{dir}/{name}.csr")
        openssl("x509", "-req", "-in", f"{dir}/{name}.csr", "-CA", f"{dir}/ca.pem", "-CAkey", f"{dir}/ca.key", "-CAcreateserial",
                "-days", "30", "-extfile", f"{dir}/{name}.ext", "-out", f"{dir}/{name}.pem")


def hashed(scheme, password):
    return subprocess.run([os.path.join(mt.bin_dir(), "mailtier-proxy"), "--hash-password", scheme], input=password + "\n",
                          text=True, capture_output=True, check=True).stdout.strip()


@unittest.skipUnless(os.path.exists(KDC) and shutil.which("gsasl"), "krb5-kdc or gsasl is not installed")
class Mechanisms(mt.ClusterCase):
    """User 1 is stored in clear, user 2 as SCRAM keys of SHA-256, user 3 as a hash; 4 in clear, with a letter of its own."""
    PASSWORDS = {1: "pass0001", 2: "pass0002", 3: "pass0003", 4: "pass,=0004"}

    @classmethod
    def setUpClass(cls):
        cls.dir = tempfile.mkdtemp(prefix="mt-mechanisms-")
        cls.addClassCleanup(shutil.rmtree, cls.dir)
        cls.kdc = Kdc(cls.dir)
        cls.addClassCleanup(cls.kdc.end)
        certificates(cls.dir)
        cls.stored = {1: "{PLAIN}" + cls.PASSWORDS[1], 2: hashed("SCRAM-SHA-256", cls.PASSWORDS[2]),
                      3: hashed("SSHA512", cls.PASSWORDS[3]), 4: "{PLAIN}" + cls.PASSWORDS[4]}
        cls.write("users.map", "".join(f"{user(i)} b1 password={cls.stored[i]}\n" for i in cls.stored))
        common = COMMON.format(host=SERVICE_HOST, dir=cls.dir, realm=REALM, domain=DOMAIN)
        lists = f"mechanisms = {{{ALL}}} mechanisms-clear = {{{CLEAR}}}"
        cls.balanced = mt.fresh_port()
        cls.conf = common + "".join(f"service {s} {{ {lists} }}\n" for s in ("imap", "pop3", "submission")) + (
            f"listener balanced {{ service = imap listen = {{\"127.0.0.1:{cls.balanced}\"}} tls = none proxy-protocol = required"
            " proxy-networks = {\"127.0.0.0/8\"} }\n")
        cls.write("proxy.conf", cls.conf)
        cls.write("backend.conf", common + "".join(f"service {s} {{ {lists} }}\n" for s in ("imap", "pop3")))
        cls.FLAGS = ["--proxies", 1, "--backends", 1, "--users", 4, "--map", f"{cls.dir}/users.map",
                     "--conf", f"{cls.dir}/proxy.conf", "--backend-conf", f"{cls.dir}/backend.conf"]
        cls.ENV = {k: cls.kdc.env[k] for k in ("KRB5_CONFIG", "KRB5RCACHETYPE")}
        super().setUpClass()
        for i, stored in cls.stored.items():
            cls.cluster.ctl("b1", "account", "set", user(i), "--hash", stored)

    @classmethod
    def write(cls, name, text):
        with open(os.open(os.path.join(cls.dir, name), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as f:
            f.write(text)

    @classmethod
    def tls(cls, version=None, certificate=None):
        context = ssl.create_default_context(cafile=cls.cluster.ca)
        if version:
            context.maximum_version = version
        if certificate:
            context.load_cert_chain(f"{cls.dir}/{certificate}.pem", f"{cls.dir}/{certificate}.key")
        return context

    # ---- other people's clients ----

    def gsasl(self, program, service, name, password, mechanism, *more, protocol="--imap", authzid=""):
        """True if it got in."""
        host, port = self.cluster.at(program, service)
        done = subprocess.run(["gsasl", protocol, "--connect", f"{host}:{port}", "-a", name, "-z", authzid, "-p", password, "-m", mechanism,
                               "--service", "imap" if protocol == "--imap" else "smtp", "--hostname", SERVICE_HOST,
                               "--quiet"] + list(more), input="", text=True, capture_output=True, timeout=60)
        self.said = done.stdout + done.stderr
        return done.returncode == 0

    def curl(self, program, service, mechanism, name, *more, env=None, password=""):
        """curl's exit status: 0, or 67 for a login that was denied."""
        host, port = self.cluster.at(program, service)
        scheme = {"imap": "imap", "imaps": "imaps", "pop3": "pop3", "pop3s": "pop3s", "submission": "smtp",
                  "submissions": "smtps"}[service]
        command = ["curl", "-sS", "--cacert", self.cluster.ca, "--login-options", f"AUTH={mechanism}", "-u", f"{name}:{password}",
                   "--resolve", f"{SERVICE_HOST}:{port}:{host}", "-k", "--max-time", "40", "--noproxy", "*"] + list(more)
        if scheme.startswith("imap"):
            command += [f"{scheme}://{SERVICE_HOST}:{port}/", "-X", "NOOP"]
        elif scheme.startswith("pop3"):
            command += [f"{scheme}://{SERVICE_HOST}:{port}/", "-X", "NOOP", "-I"]
        else:
            command += [f"{scheme}://{SERVICE_HOST}:{port}", "-X", "NOOP"]
        done = subprocess.run(command, env=env, text=True, capture_output=True, timeout=60)
        self.said = done.stdout + done.stderr
        return done.returncode

    @staticmethod
    def authenticate(m, mechanism, initial):
        """AUTHENTICATE with an initial response, and nothing more; OK, NO or BAD."""
        m.send(f"z1 AUTHENTICATE {mechanism} {base64.b64encode(initial).decode() or '='}\r\n".encode())
        while True:
            line = m.readline()
            if line.startswith(b"+ "):
                m.send(b"*\r\n")
            if line.startswith(b"z1 ") or not line:
                return line.split()[1].decode() if line else "end"

    def logins(self, program, service, result):
        return self.cluster.metrics(program).get(f'mailtier_front_logins_total{{service="{service}",result="{result}"}}', 0)

    # ---- what is offered ----

    def test_lists_follow_the_connection(self):
        for program in ("p1", "b1"):
            with self.subTest(program=program):
                m = imaplib.IMAP4(*self.cluster.at(program, "imap"))
                self.assertEqual({c for c in m.capabilities if c.startswith("AUTH=")},
                                 {"AUTH=" + name.strip() for name in CLEAR.split(",")})
                host, port = self.cluster.at(program, "imap")
                m.starttls(self.tls())
                offered = {c[5:] for c in m.capabilities if c.startswith("AUTH=")}
                self.assertEqual(offered, {name.strip() for name in ALL.split(",")} - {"EXTERNAL"})
                m.shutdown()
                m = imaplib.IMAP4_SSL(*self.cluster.at(program, "imaps"), ssl_context=self.tls(certificate="one"))
                self.assertIn("AUTH=EXTERNAL", m.capabilities)
                m.shutdown()
                for certificate in ("two", "cn"):
                    m = imaplib.IMAP4_SSL(*self.cluster.at(program, "imaps"), ssl_context=self.tls(certificate=certificate))
                    self.assertNotIn("AUTH=EXTERNAL", m.capabilities)
                    m.shutdown()
        p = poplib.POP3(*self.cluster.at("p1", "pop3"))
        self.assertEqual(set(p.capa()["SASL"]), {name.strip() for name in CLEAR.split(",")})
        p.quit()
        with smtplib.SMTP(*self.cluster.at("p1", "submission")) as s:
            s.ehlo()
            self.assertEqual(set(s.esmtp_features["auth"].split()), {name.strip() for name in CLEAR.split(",")})

    def offered(self, connection):
        greeting = connection.makefile("rb").readline().decode()
        return {word[5:] for word in greeting[greeting.index("[") + 1:greeting.index("]")].split() if word.startswith("AUTH=")}

    def test_security_07_behind_a_balancer_nothing_binds(self):
        """A balancer says that its client came by TLS, and with a certificate: what holds over TLS is offered, but no -PLUS."""
        tlv = b"\x20" + (5).to_bytes(2, "big")
        addresses = socket.inet_aton("192.0.2.7") + socket.inet_aton("192.0.2.1") + b"\x04\x00\x00\x8f"
        for flags, want in ((1, {name.strip() for name in ALL.split(",")} - {"EXTERNAL", "SCRAM-SHA-1-PLUS", "SCRAM-SHA-256-PLUS"}),
                            (0, {"CRAM-MD5", "SCRAM-SHA-256", "GSSAPI"})):  # without allow-clear: no PLAIN
            body = addresses + tlv + bytes([flags]) + (0).to_bytes(4, "big")
            with socket.create_connection(("127.0.0.1", self.balanced), timeout=20) as s:
                s.sendall(b"\r\n\r\n\x00\r\nQUIT\n\x21\x11" + len(body).to_bytes(2, "big") + body)
                self.assertEqual(self.offered(s), want)

    def test_a_reload_changes_the_lists(self):
        def now():
            with socket.create_connection(self.cluster.at("p1", "pop3"), timeout=20) as s:
                f = s.makefile("rb")
                f.readline()
                s.sendall(b"AUTH\r\n")
                lines = []
                while not lines or lines[-1] not in (b".", b"") and not lines[0].startswith(b"-"):
                    lines.append(f.readline().strip())
                return {line.decode() for line in lines[1:-1]}

        def reload(text):
            self.write("proxy.conf", text)
            self.cluster.kill("p1", signal.SIGHUP)
        self.addCleanup(mt.wait_for, lambda: len(now()) == 4, 20, "the old lists are back")
        self.addCleanup(reload, self.conf)
        reload(self.conf.replace("service pop3 { mechanisms", "service pop3 { mechanisms-clear = {DIGEST-MD5} mechanisms")
               .replace(f"mechanisms-clear = {{DIGEST-MD5}} mechanisms = {{{ALL}}} mechanisms-clear = {{{CLEAR}}}",
                        "mechanisms-clear = {DIGEST-MD5}"))
        mt.wait_for(lambda: now() == {"DIGEST-MD5"}, 20, "the new list is in force")

    # ---- challenges ----

    def test_cram_md5(self):
        for program in ("p1", "b1"):
            m = imaplib.IMAP4(*self.cluster.at(program, "imap"))
            self.assertEqual(m.login_cram_md5(user(1), self.PASSWORDS[1])[0], "OK")
            self.assertEqual(m.select()[0], "OK")
            m.logout()
            m = imaplib.IMAP4(*self.cluster.at(program, "imap"))
            before = self.logins(program, "imap", "wrong-credential")
            with self.assertRaisesRegex(imaplib.IMAP4.error, "AUTHENTICATIONFAILED"):
                m.login_cram_md5(user(1), "wrong")
            m.shutdown()
            # It counts, as any wrong password.
            self.assertEqual(self.logins(program, "imap", "wrong-credential"), before + 1)
        with smtplib.SMTP(*self.cluster.at("p1", "submission")) as s:
            s.ehlo()
            s.user, s.password = user(1), self.PASSWORDS[1]
            self.assertEqual(s.auth("CRAM-MD5", s.auth_cram_md5)[0], 235)
        for service in ("imap", "pop3", "submission"):
            self.assertEqual(self.curl("p1", service, "CRAM-MD5", user(1), password=self.PASSWORDS[1]), 0, self.said)
            self.assertNotEqual(self.curl("p1", service, "CRAM-MD5", user(1), password="wrong"), 0)

    def test_digest_md5(self):
        for program, service in (("p1", "imaps"), ("p1", "pop3s"), ("p1", "submissions"), ("b1", "imaps"), ("b1", "pop3s")):
            with self.subTest(program=program, service=service):
                self.assertEqual(self.curl(program, service, "DIGEST-MD5", user(1), password=self.PASSWORDS[1]), 0, self.said)
                self.assertEqual(self.curl(program, service, "DIGEST-MD5", "user0001", password=self.PASSWORDS[1]), 0, self.said)
                self.assertNotEqual(self.curl(program, service, "DIGEST-MD5", user(1), password="wrong"), 0)

    def test_scram(self):
        for program in ("p1", "b1"):
            for i, mechanisms in ((1, ("SCRAM-SHA-1", "SCRAM-SHA-256")), (2, ("SCRAM-SHA-256",)), (4, ("SCRAM-SHA-256",))):
                for mechanism in mechanisms:
                    with self.subTest(program=program, user=i, mechanism=mechanism):
                        ca = ["--x509-ca-file", self.cluster.ca, "--starttls", "--no-cb"]
                        self.assertTrue(self.gsasl(program, "imap", user(i), self.PASSWORDS[i], mechanism, *ca), self.said)
                        self.assertFalse(self.gsasl(program, "imap", user(i), "wrong", mechanism, *ca))
            # Without TLS, and by a bare name.
            self.assertTrue(self.gsasl(program, "imap", "user0001", self.PASSWORDS[1], "SCRAM-SHA-256", "--no-starttls"), self.said)
            self.assertFalse(self.gsasl(program, "imap", "nobody@example.test", "x", "SCRAM-SHA-256", "--no-starttls"))
            # For himself, by name; and for somebody else.
            for authzid, want in ((user(1), True), ("user0001", True), (user(2), False)):
                self.assertEqual(self.gsasl(program, "imap", user(1), self.PASSWORDS[1], "SCRAM-SHA-256", "--no-starttls", authzid=authzid),
                                 want, self.said)
        self.assertTrue(self.gsasl("p1", "submission", user(2), self.PASSWORDS[2], "SCRAM-SHA-256", "--no-starttls",
                                   protocol="--smtp"), self.said)
        # Stored keys are a hash like others: PLAIN works against them.
        m = imaplib.IMAP4(*self.cluster.at("p1", "imap"))
        self.assertEqual(m.login(user(2), self.PASSWORDS[2])[0], "OK")
        m.logout()

    def test_security_07_scram_plus_binds_to_tls(self):
        ca = ["--x509-ca-file", self.cluster.ca, "--starttls"]
        for program in ("p1", "b1"):
            for i, mechanism in ((1, "SCRAM-SHA-1-PLUS"), (1, "SCRAM-SHA-256-PLUS"), (2, "SCRAM-SHA-256-PLUS")):
                for priority in ("NORMAL", "NORMAL:-VERS-TLS1.3"):
                    with self.subTest(program=program, mechanism=mechanism, priority=priority):
                        self.assertTrue(self.gsasl(program, "imap", user(i), self.PASSWORDS[i], mechanism, "--priority", priority, *ca),
                                        self.said)
            self.assertFalse(self.gsasl(program, "imap", user(1), "wrong", "SCRAM-SHA-256-PLUS", *ca))
        # "y": the client could bind and was told that we cannot. "p" with something else than this connection has.
        for first, word in (("y,,n=user0001,r=abcdefgh", "NO"), ("p=tls-unique,,n=user0001,r=abcdefgh", "BAD")):
            m = imaplib.IMAP4_SSL(*self.cluster.at("p1", "imaps"), ssl_context=self.tls())
            mechanism = "SCRAM-SHA-256" if word == "NO" else "SCRAM-SHA-256-PLUS"
            self.assertEqual(self.authenticate(m, mechanism, first.encode()), word)
            m.shutdown()

    def test_mbsync(self):
        folder = tempfile.mkdtemp(prefix="mt-mbsync-")
        self.addCleanup(shutil.rmtree, folder)
        host, port = self.cluster.at("p1", "imaps")
        for mechanism, i in (("SCRAM-SHA-256", 2), ("DIGEST-MD5", 1), ("CRAM-MD5", 1)):
            with open(f"{folder}/rc", "w") as f:
                f.write(f"IMAPAccount a\nHost {host}\nPort {port}\nUser {user(i)}\nPass {self.PASSWORDS[i]}\nSSLType IMAPS\n"
                        f"CertificateFile {self.cluster.ca}\nAuthMechs {mechanism}\n\nIMAPStore far\nAccount a\n\n"
                        f"MaildirStore near\nPath {folder}/{mechanism}/\nInbox {folder}/{mechanism}/INBOX\n\n"
                        f"Channel c\nFar :far:\nNear :near:\nPatterns INBOX\nCreate Near\nSyncState *\n")
            os.mkdir(f"{folder}/{mechanism}")
            done = subprocess.run(["mbsync", "-c", f"{folder}/rc", "-a"], text=True, capture_output=True, timeout=60)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            self.assertTrue(os.path.isdir(f"{folder}/{mechanism}/INBOX"))

    def test_a_hash_alone_serves_no_challenge_and_has_no_penalty(self):
        for program in ("p1", "b1"):
            before = self.logins(program, "imap", "wrong-credential"), self.logins(program, "imap", "unserved-mechanism")
            for _ in range(4):  # more than penalty-free allows
                m = imaplib.IMAP4(*self.cluster.at(program, "imap"))
                for _ in range(2):
                    with self.assertRaisesRegex(imaplib.IMAP4.error, "AUTHENTICATIONFAILED"):
                        m.login_cram_md5(user(3), self.PASSWORDS[3])
                # The same connection, by the way that his hash serves.
                self.assertEqual(m.login(user(3), self.PASSWORDS[3])[0], "OK")
                m.logout()
            self.assertEqual(self.logins(program, "imap", "wrong-credential"), before[0])
            self.assertEqual(self.logins(program, "imap", "unserved-mechanism"), before[1] + 8)

    # ---- tickets ----

    def test_gssapi(self):
        env = self.kdc.ticket("user0001")
        for program, service in (("p1", "imap"), ("p1", "imaps"), ("p1", "pop3"), ("p1", "pop3s"), ("p1", "submission"),
                                 ("p1", "submissions"), ("b1", "imap"), ("b1", "imaps"), ("b1", "pop3s")):
            with self.subTest(program=program, service=service):
                self.assertEqual(self.curl(program, service, "GSSAPI", user(1), env=env), 0, self.said)
                # Somebody else's mailbox, by one's own ticket.
                self.assertNotEqual(self.curl(program, service, "GSSAPI", user(1), "--sasl-authzid", user(2), env=env), 0, self.said)
        # Known to Kerberos and not to the map; a principal of a service.
        for name in ("nobody", "imap/other.corp.example"):
            env = self.kdc.ticket(name)
            self.assertNotEqual(self.curl("p1", "imap", "GSSAPI", user(1), env=env), 0, self.said)
            self.assertNotEqual(self.curl("b1", "imap", "GSSAPI", user(1), env=env), 0, self.said)
        mt.wait_for(lambda: "is no principal of a realm that is listed" in self.cluster.log("p1"), 10, "the log says why")

    def test_security_08_garbage_for_tickets_harms_nobody(self):
        env = self.kdc.ticket("user0001")
        m = imaplib.IMAP4(*self.cluster.at("p1", "imap"))
        for token in (b"", b"\x60", b"\x60\x82\xff\xff" + bytes(100), os.urandom(1000), b"x" * 9000):
            self.assertIn(self.authenticate(m, "GSSAPI", token), ("NO", "BAD"))
            self.assertEqual(self.curl("p1", "imap", "GSSAPI", user(1), env=env), 0, self.said)
        m.shutdown()

    # ---- certificates ----

    def external(self, program, service, certificate, authzid=""):
        m = imaplib.IMAP4_SSL(*self.cluster.at(program, service), ssl_context=self.tls(certificate=certificate))
        try:
            return self.authenticate(m, "EXTERNAL", authzid.encode())
        finally:
            m.shutdown()

    def test_external(self):
        for program in ("p1", "b1"):
            with self.subTest(program=program):
                self.assertEqual(self.external(program, "imaps", "one"), "OK")
                self.assertEqual(self.external(program, "imaps", "one", user(1)), "OK")
                self.assertEqual(self.external(program, "imaps", "one", "user0001"), "OK")
                self.assertEqual(self.external(program, "imaps", "one", user(2)), "NO")
                self.assertEqual(self.external(program, "imaps", "stranger"), "NO")
                self.assertEqual(self.external(program, "imaps", "cn"), "NO")
                self.assertEqual(self.external(program, "imaps", None), "NO")
        files = ["--cert", f"{self.dir}/one.pem", "--key", f"{self.dir}/one.key"]
        for service in ("imaps", "pop3s", "submissions"):
            self.assertEqual(self.curl("p1", service, "EXTERNAL", user(1), *files), 0, self.said)
            self.assertNotEqual(self.curl("p1", service, "EXTERNAL", user(2), *files), 0)

    # ---- what cannot work ----

    def check(self, text):
        self.write("check.conf", text)
        with open(self.cluster.at("p1", "conf")) as f:
            whole = f.read()
        self.write("whole.conf", whole)
        done = subprocess.run([os.path.join(mt.bin_dir(), "mailtier-proxy"), "-c", f"{self.dir}/whole.conf", "--conf",
                               f"{self.dir}/check.conf", "--check"], text=True, capture_output=True, timeout=60)
        return done.returncode, done.stdout + done.stderr

    def test_check_refuses_what_cannot_work(self):
        self.write("pw", "x\n")
        bind = (f"connector dir {{ uris = {{\"ldap://127.0.0.1\"}} bind = anonymous base = \"dc=x\" }}\n"
                "map bind { type = ldap-bind connector = dir }\n")
        for text, words in (
                ("service imap { mechanisms = {CRAM-MD5} maps = {users, bind} }\n" + bind, "map bind has type = ldap-bind"),
                ("service imap { mechanisms = {GSSAPI} }\n", "there is no keytab"),
                ("service imap { mechanisms = {EXTERNAL} }\n", "client-ca"),
                ("service imap { mechanisms-clear = {SCRAM-SHA-256-PLUS} }\n", "are for connections with TLS"),
                ("service imap { mechanisms = {SCRAM-SHA-256} authenticate = backend }\n", "passes the password on"),
                ("service imap { mechanisms = {SCRAM-SHA-256} }\nbackend b1 { trust = replay }\n", "needs the user's password"),
                (f"gssapi-keytab = {self.dir}/service.keytab\ngssapi-realms = {{\"x\"}}\nservice imap {{ mechanisms = {{GSSAPI}} }}\n",
                 "is not REALM=domain"),
                ("service imap { mechanisms = {} mechanisms-clear = {} }\n", "no mechanism is left")):
            with self.subTest(words=words):
                code, said = self.check(text)
                self.assertNotEqual(code, 0, said)
                self.assertIn(words, said)
        code, said = self.check("service imap { mechanisms = {GSSAPI, PLAIN} maps = {users, bind} }\n" + bind
                                + f"gssapi-keytab = {self.dir}/service.keytab\ngssapi-realms = {{\"A.B=a.b\"}}\n")
        self.assertEqual(code, 0, said)


@unittest.skipUnless(os.path.exists(SLAPD), "slapd is not installed")
class Directory(mt.ClusterCase):
    """A password map whose directory stores passwords in clear serves challenges."""
    @classmethod
    def setUpClass(cls):
        cls.slapd = Slapd(6)
        cls.addClassCleanup(cls.slapd.end)
        cls.slapd.write("proxy.conf", f"""
connector dir {{ uris = {{"ldap://127.0.0.1:{cls.slapd.port}"}} ca = {cls.slapd.path('cert.pem')} bind-dn = "cn=proxy,dc=example,dc=test"
    password = {cls.slapd.path('password')} base = "dc=example,dc=test" }}
map dir {{ type = ldap-password connector = dir }}
limits {{ failed-login-delay = 0s penalty-delay = 0s }}
service imap {{ maps = {{dir}} mechanisms-clear = {{CRAM-MD5, SCRAM-SHA-256, PLAIN}} }}
""")
        cls.FLAGS = ["--proxies", 1, "--backends", 2, "--users", 6, "--conf", cls.slapd.path("proxy.conf")]
        super().setUpClass()

    def test_challenges_against_a_directory(self):
        mt.wait_for(lambda: next(r for r in self.cluster.ctl_json("p1", "map", "status")["rows"] if r["map"] == "dir")["usable"], 15,
                    "the connector is up")
        for i in (2, 4, 2):
            m = imaplib.IMAP4(*self.cluster.at("p1", "imap"))
            with self.assertRaisesRegex(imaplib.IMAP4.error, "AUTHENTICATIONFAILED"):
                m.login_cram_md5(user(i), "wrong")
            self.assertEqual(m.login_cram_md5(user(i), f"dir-{i:04}")[0], "OK")
            m.logout()
        # Whose password is hashed there is not served, and may come in by it.
        m = imaplib.IMAP4(*self.cluster.at("p1", "imap"))
        for _ in range(2):
            with self.assertRaisesRegex(imaplib.IMAP4.error, "AUTHENTICATIONFAILED"):
                m.login_cram_md5(user(1), "dir-0001")
        self.assertEqual(m.login(user(1), "dir-0001")[0], "OK")
        m.logout()
        self.slapd.halt()
        try:
            m = imaplib.IMAP4(*self.cluster.at("p1", "imap"))
            with self.assertRaisesRegex(imaplib.IMAP4.error, "UNAVAILABLE"):
                m.login_cram_md5(user(2), "dir-0002")
            m.shutdown()
        finally:
            self.slapd.go()


@unittest.skipIf(samba.missing(), "Samba's domain controller is not there")
class ActiveDirectory(mt.ClusterCase):
    """Windows tickets, which carry the user's groups, and a map that binds: one keytab, no passwords read."""
    @classmethod
    def setUpClass(cls):
        cls.ad = samba.Samba("corp.example")
        cls.addClassCleanup(cls.ad.end)
        cls.ad.users(("mailproxy", "proxy-Pw-1", {}), ("mailservice", "service-Pw-1", {}),
                     ("user0001", "pw-1", {"mail": user(1), "info": "b1"}), ("unknown", "pw-9", {"userAccountControl": "512"}))
        cls.ad.tool("spn", "add", f"imap/{SERVICE_HOST}", "mailservice")
        cls.ad.keytab("service.keytab", f"imap/{SERVICE_HOST}")
        cls.ad.write("ad.password", "proxy-Pw-1\n")
        cls.ad.start()
        cls.ad.write("proxy.conf", f"""
connector ad {{ type = activedirectory uris = {{"ldaps://{cls.ad.address}"}} ca = {cls.ad.path('dc.pem')} base = "DC=corp,DC=example"
    bind-dn = "CN=mailproxy,CN=Users,DC=corp,DC=example" password = {cls.ad.path('ad.password')} host-attribute = info }}
map people {{ type = ldap-bind connector = ad }}
gssapi-host = {SERVICE_HOST}
gssapi-keytab = {cls.ad.path('service.keytab')}
gssapi-realms = {{"CORP.EXAMPLE=corp.example"}}
service imap {{ maps = {{people}} mechanisms-clear = {{GSSAPI, PLAIN}} }}
""")
        cls.FLAGS = ["--proxies", 1, "--backends", 1, "--users", 2, "--conf", cls.ad.path("proxy.conf")]
        cls.ENV = {"KRB5_CONFIG": cls.ad.krb5, "KRB5RCACHETYPE": "none"}
        super().setUpClass()

    def curl(self, name, password):
        env = {**os.environ, "KRB5_CONFIG": self.ad.krb5, "KRB5CCNAME": f"FILE:{self.ad.path('cc.' + name)}"}
        subprocess.run(["kinit", name], env=env, input=f"{password}\n", text=True, capture_output=True, check=True, timeout=60)
        host, port = self.cluster.at("p1", "imap")
        done = subprocess.run(["curl", "-sSv", "--login-options", "AUTH=GSSAPI", "-u", f"{name}@x:", "--resolve",
                               f"{SERVICE_HOST}:{port}:{host}", "--noproxy", "*", f"imap://{SERVICE_HOST}:{port}/", "-X", "NOOP"],
                              env=env, text=True, capture_output=True, timeout=60)
        self.said = done.stdout + done.stderr
        return done.returncode

    def test_windows_tickets(self):
        mt.wait_for(lambda: next(r for r in self.cluster.ctl_json("p1", "map", "status")["rows"] if r["map"] == "people")["usable"], 30,
                    "the connector is up")
        self.assertEqual(self.curl("user0001", "pw-1"), 0, self.said)
        # In the domain, with no mailbox anywhere.
        self.assertNotEqual(self.curl("unknown", "pw-9"), 0, self.said)


if __name__ == "__main__":
    unittest.main()
