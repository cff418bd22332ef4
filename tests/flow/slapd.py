"""A private OpenLDAP server for flow tests, with as many users as are wanted: every other one has an {SSHA} password."""
import base64
import hashlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile

import mt

SLAPD = "/usr/sbin/slapd"
BASE = "dc=example,dc=test"


def ssha(password):
    salt = os.urandom(8)
    return "{SSHA}" + base64.b64encode(hashlib.sha1(password.encode() + salt).digest() + salt).decode()


class Slapd:
    """users: uid=userNNNN, mail userNNNN@example.test and aliasN@example.test, mailHost b1 and b2 in turn, password dir-NNNN. more: LDIF.
    secure: no simple bind without TLS."""

    def __init__(self, users, more="", secure=True):
        self.dir = tempfile.mkdtemp(prefix="mt-slapd-")
        os.chmod(self.dir, 0o755)
        os.mkdir(self.path("db"))
        self.port = mt.fresh_port()
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30",
                        "-subj", "/CN=d", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", self.path("key.pem"),
                        "-out", self.path("cert.pem")], check=True, capture_output=True)
        self.write("password", "proxy-Pw\n")
        self.write("slapd.conf", "".join(f"include /etc/ldap/schema/{s}.schema\n" for s in ("core", "cosine", "inetorgperson", "misc"))
                   + f"modulepath /usr/lib/ldap\nmoduleload back_mdb\nTLSCertificateFile {self.path('cert.pem')}\n"
                   f"TLSCertificateKeyFile {self.path('key.pem')}\n{'security simple_bind=128' if secure else ''}\nloglevel 0\nthreads 4\n"
                   f"access to attrs=userPassword by dn.exact=\"cn=proxy,{BASE}\" read by anonymous auth by * none\n"
                   f"access to * by dn.exact=\"cn=proxy,{BASE}\" read by * none\n"
                   f"database mdb\nsuffix \"{BASE}\"\ndirectory {self.path('db')}\nmaxsize 67108864\nindex objectClass,mail,mailLocalAddress,uid eq\n")
        entries = [f"dn: {BASE}\nobjectClass: dcObject\nobjectClass: organization\no: x\ndc: example\n",
                   f"dn: cn=proxy,{BASE}\nobjectClass: organizationalRole\nobjectClass: simpleSecurityObject\nuserPassword: proxy-Pw\n"]
        for i in range(1, users + 1):
            name = f"user{i:04}"
            entries.append(f"dn: uid={name},{BASE}\nobjectClass: inetOrgPerson\nobjectClass: inetLocalMailRecipient\ncn: {name}\nsn: x\n"
                           f"mail: {name}@example.test\nmailLocalAddress: alias{i}@example.test\nmailHost: b{(i - 1) % 2 + 1}\n"
                           f"userPassword: {ssha(f'dir-{i:04}') if i % 2 else f'dir-{i:04}'}\n")
        self.write("users.ldif", "\n".join(entries) + "\n" + more)
        subprocess.run(["/usr/sbin/slapadd", "-q", "-f", self.path("slapd.conf"), "-l", self.path("users.ldif")], check=True, capture_output=True)
        self.start()

    def path(self, name):
        return os.path.join(self.dir, name)

    def write(self, name, text):
        with open(os.open(self.path(name), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as f:
            f.write(text)

    def start(self):
        self.process = subprocess.Popen([SLAPD, "-d", "0", "-f", self.path("slapd.conf"), "-h", f"ldap://127.0.0.1:{self.port}"],
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        mt.wait_for(lambda: socket.socket().connect_ex(("127.0.0.1", self.port)) == 0, 20, "slapd listens")

    def halt(self):
        self.process.send_signal(signal.SIGSTOP)
        mt.wait_for(lambda: open(f"/proc/{self.process.pid}/stat").read().rsplit(")", 1)[1].split()[0] == "T", 5, "slapd stands")

    def go(self):
        self.process.send_signal(signal.SIGCONT)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def end(self):
        self.kill()
        shutil.rmtree(self.dir)
