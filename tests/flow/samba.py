"""A private Active Directory: Samba's domain controller on a loopback address of its own, made anew for each run (about eight seconds).
Its ports are the real ones, so it takes root; skipped without Samba."""
import os
import shutil
import signal
import subprocess
import tempfile

import mt

SAMBA = "/usr/sbin/samba"
ADMIN_PASSWORD = "Admin-Pw-1!"

# Users of a domain in one process: samba-tool takes half a second for each. Lines: name, password, and attributes as A=V.
MAKE_USERS = """
import sys, ldb
from samba.auth import system_session
from samba.param import LoadParm
from samba.samdb import SamDB
lp = LoadParm(); lp.load(sys.argv[1])
db = SamDB(url=sys.argv[2], session_info=system_session(), lp=lp)
for line in sys.stdin:
    name, password, *more = line.rstrip("\\n").split("\\t")
    db.newuser(name, password)
    m = ldb.Message(ldb.Dn(db, f"CN={name},CN=Users,{sys.argv[3]}"))
    for item in more:
        key, value = item.split("=", 1)
        if key in m:
            m[key] = ldb.MessageElement(list(m[key]) + [value.encode()], ldb.FLAG_MOD_REPLACE, key)
        else:
            m[key] = ldb.MessageElement([value.encode()], ldb.FLAG_MOD_REPLACE, key)
    if len(m):
        db.modify(m)
"""


def missing():
    """Why it cannot run here, or None."""
    if not (os.path.exists(SAMBA) and shutil.which("samba-tool") and os.path.isdir("/usr/share/samba/setup")):
        return "Samba's domain controller is not installed"
    if os.geteuid() != 0:
        return "a domain controller needs root"
    return None


class Samba:
    """realm: such as corp.example. It listens on .address: LDAP 389, LDAPS 636, Kerberos 88."""

    def __init__(self, realm):
        self.realm = realm
        self.base = ",".join("DC=" + p for p in realm.split("."))
        self.address = mt.fresh_host()
        self.dir = tempfile.mkdtemp(prefix="mt-samba-")
        os.chmod(self.dir, 0o755)
        self.process = None
        try:
            self._certificates()
            self._provision()
            self._krb5()
            self.tool("domain", "passwordsettings", "set", "--complexity=off", "--min-pwd-length=4", "--history-length=0", "--min-pwd-age=0",
                      "--account-lockout-threshold=3")
        except BaseException:
            shutil.rmtree(self.dir)
            raise

    def path(self, name):
        return os.path.join(self.dir, name)

    def write(self, name, text):
        with open(os.open(self.path(name), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as f:
            f.write(text)
        return self.path(name)

    def _certificates(self):
        for name, alt in (("dc", f"IP:{self.address}"), ("other", "DNS:other.example")):
            subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30",
                            "-subj", f"/CN={name}", "-addext", f"subjectAltName={alt}", "-keyout", self.path(name + ".key"),
                            "-out", self.path(name + ".pem")], check=True, capture_output=True)
            os.chmod(self.path(name + ".key"), 0o600)

    def _provision(self):
        options = {"bind interfaces only": "yes", "interfaces": self.address + "/8", "server services": "ldap, kdc",
                   "pid directory": self.path("run"), "log file": self.path("samba.log"), "ncalrpc dir": self.path("ncalrpc"),
                   "tls enabled": "yes", "tls certfile": self.path("dc.pem"), "tls keyfile": self.path("dc.key"), "tls cafile": self.path("dc.pem"),
                   "ldap server require strong auth": "allow_sasl_over_tls"}
        os.mkdir(self.path("run"))
        done = subprocess.run(["samba-tool", "domain", "provision", f"--realm={self.realm.upper()}", f"--domain={self.realm.split('.')[0].upper()}",
                               "--server-role=dc", "--dns-backend=NONE", "--host-name=dc1", f"--host-ip={self.address}",
                               f"--adminpass={ADMIN_PASSWORD}", f"--targetdir={self.dir}"] + [f"--option={k} = {v}" for k, v in options.items()],
                              capture_output=True, text=True)
        if done.returncode:
            raise AssertionError("samba-tool domain provision: " + done.stdout[-1000:] + done.stderr[-2000:])

    def _krb5(self):
        realm = self.realm.upper()
        self.krb5 = self.write("krb5.conf", f"[libdefaults]\n default_realm = {realm}\n dns_lookup_kdc = false\n dns_lookup_realm = false\n"
                               " dns_canonicalize_hostname = false\n rdns = false\n udp_preference_limit = 1\n"
                               f"[realms]\n {realm} = {{\n  kdc = {self.address}\n }}\n")

    def tool(self, *words):
        db = [] if words[:2] == ("domain", "exportkeytab") else ["-H", self.path("private/sam.ldb")]
        done = subprocess.run(["samba-tool", *words, f"--configfile={self.path('etc/smb.conf')}", *db], capture_output=True, text=True)
        if done.returncode:
            raise AssertionError(f"samba-tool {' '.join(words)}: {done.stdout}{done.stderr}")

    def users(self, *rows):
        """(name, password, {attribute: value or list})"""
        text = ""
        for name, password, attributes in rows:
            items = [f"{k}={v}" for k, vs in attributes.items() for v in (vs if isinstance(vs, list) else [vs])]
            text += "\t".join([name, password] + items) + "\n"
        subprocess.run(["/usr/bin/python3", "-c", MAKE_USERS, self.path("etc/smb.conf"), self.path("private/sam.ldb"), self.base],
                       input=text, text=True, check=True)

    def keytab(self, name, principal):
        """A keytab with the principal's key."""
        self.tool("domain", "exportkeytab", self.path(name), f"--principal={principal}")
        os.chmod(self.path(name), 0o600)

    def start(self):
        # The address by which clients name it belongs to its service, for Kerberos.
        self.tool("spn", "add", f"ldap/{self.address}", "DC1$")
        with open(self.path("samba.out"), "w") as out:
            self.process = subprocess.Popen([SAMBA, f"--configfile={self.path('etc/smb.conf')}", "--foreground", "--no-process-group",
                                             "--debug-stdout"], stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True)
        mt.wait_for(lambda: self.search("(objectClass=domain)") is not None, 30, "the domain controller answers")

    def search(self, filter_text):
        """What ldapsearch shows over LDAPS, as the administrator; None: no answer."""
        done = subprocess.run(["ldapsearch", "-x", "-LLL", "-o", "nettimeout=3", "-H", f"ldaps://{self.address}", "-D", f"administrator@{self.realm}",
                               "-w", ADMIN_PASSWORD, "-b", self.base, filter_text], capture_output=True, text=True,
                              env={**os.environ, "LDAPTLS_CACERT": self.path("dc.pem")})
        return done.stdout if done.returncode == 0 else None

    def end(self):
        if self.process:
            try:
                os.killpg(self.process.pid, signal.SIGTERM)
                self.process.wait(10)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                pass
            try:
                os.killpg(self.process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            self.process.wait()
        shutil.rmtree(self.dir, ignore_errors=True)
