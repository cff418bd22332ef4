"""Servers of other makers for the flow tests: Dovecot, Cyrus, Postfix and OpenSMTPD as Debian packages them, unpacked below build/peers by
tests/bench/peers and never installed. Each runs in a mount namespace of its own, where the unpacked tree lies over /usr: that wants root.
Where a server cannot be had, the test is skipped and says why."""
import fcntl
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import unittest

import mt

UNPACKED = os.path.join(mt.ROOT, "build", "peers")
OVERLAY = f"mount -t overlay peers -o lowerdir={UNPACKED}/usr:/usr /usr"


def need(path, packages):
    """Skips unless the unpacked tree has it; fetches once if it is not there."""
    if os.geteuid() != 0:
        raise unittest.SkipTest(f"{packages}: only root may run a peer over the unpacked tree")
    if not os.path.exists(UNPACKED + path):
        os.makedirs(UNPACKED, exist_ok=True)
        with open(os.path.join(UNPACKED, "lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not os.path.exists(UNPACKED + path):
                subprocess.run([os.path.join(mt.ROOT, "tests", "bench", "peers")], capture_output=True, timeout=300, check=False)
    if not os.path.exists(UNPACKED + path):
        raise unittest.SkipTest(f"{packages}: the packages cannot be had (apt-get download)")
    seen = subprocess.run(["unshare", "-m", "sh", "-c", f"{OVERLAY} && ldd {path}"], capture_output=True, text=True, check=False)
    if seen.returncode:
        raise unittest.SkipTest(f"{packages}: no mount namespace with the unpacked tree can be made here: {seen.stderr.strip()}")
    missing = [line.split()[0] for line in seen.stdout.splitlines() if "not found" in line]
    if [name for name in missing if not name.startswith(("libdovecot", "libpostfix"))]:  # theirs are found by their own paths
        raise unittest.SkipTest(f"{packages}: this machine lacks {' '.join(missing)}")


class Peer:
    """A folder, a configuration and a process; .host, .ports by name."""
    setup = ""  # shell, run in the namespace before the program

    def __init__(self, ports):
        self.host = mt.fresh_host()
        self.dir = tempfile.mkdtemp(prefix="mt-peer-")
        os.chmod(self.dir, 0o755)
        self.ports = {name: 21000 + i for i, name in enumerate(ports)}
        self.process = None

    def path(self, name):
        return os.path.join(self.dir, name)

    def write(self, name, text, mode=0o644):
        with open(os.open(self.path(name), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "w") as f:
            f.write(text)
        os.chmod(self.path(name), mode)
        return self.path(name)

    def start(self, command, wait):
        overlay = f"{OVERLAY} && {self.setup or 'true'} && exec \"$@\""
        self.out = open(self.path("out"), "w")
        self.process = subprocess.Popen(["unshare", "-m", "sh", "-c", overlay, "sh"] + command, stdin=subprocess.DEVNULL, stdout=self.out,
                                        stderr=self.out)
        for name in wait:
            mt.wait_for(lambda: self.process.poll() is not None or self.answers(name), 30, f"{name} answers\n{self.log()}")
        if self.process.poll() is not None:
            raise AssertionError(f"it ended at once: {self.process.returncode}\n{self.log()}")

    def answers(self, name):
        try:
            socket.create_connection((self.host, self.ports[name]), 1).close()
            return True
        except OSError:
            return False

    def log(self):
        text = ""
        for name in ("out", "log"):
            if os.path.exists(self.path(name)):
                with open(self.path(name), errors="replace") as f:
                    text += f.read()
        return text

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        shutil.rmtree(self.dir, ignore_errors=True)


class Certificates:
    """A CA, and what it signs."""

    def __init__(self, folder):
        self.dir = folder
        self.openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30", "-subj", "/CN=Peers",
                     "-keyout", self.path("ca.key"), "-out", self.path("ca.pem"))

    def path(self, name):
        return os.path.join(self.dir, name)

    def openssl(self, *words):
        subprocess.run(["openssl", *words], check=True, capture_output=True)

    def make(self, name, names, days=30, signed=True):
        """NAME.pem and NAME.key for these subject alternative names; days < 0: run out. Unsigned: by nobody we know."""
        self.openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={name}", "-keyout",
                     self.path(name + ".key"), "-out", self.path(name + ".csr"))
        with open(self.path(name + ".ext"), "w") as f:
            f.write(f"subjectAltName={names}\n")
        by = ["-CA", self.path("ca.pem"), "-CAkey", self.path("ca.key"), "-CAcreateserial"] if signed else ["-signkey", self.path(name + ".key")]
        self.openssl("x509", "-req", "-in", self.path(name + ".csr"), *by, "-days", str(days), "-extfile", self.path(name + ".ext"), "-out",
                     self.path(name + ".pem"))
        os.chmod(self.path(name + ".key"), 0o600)
        return self.path(name + ".pem"), self.path(name + ".key")


class Dovecot(Peer):
    """IMAP, POP3 and LMTP with STARTTLS; master user proxy:ours; users with password secret. haproxy: listeners that want a header.
    client_ca: clients must show a certificate."""

    def __init__(self, users, certificate, client_ca=None):
        need("/usr/sbin/dovecot", "dovecot-core, dovecot-imapd, dovecot-pop3d, dovecot-lmtpd")
        super().__init__(["imap", "pop3", "lmtp", "imap-haproxy", "pop3-haproxy", "lmtp-haproxy"])
        os.makedirs(self.path("mail"))
        os.chown(self.path("mail"), 4000, 4000)
        self.write("users", "".join(f"{u}:{{PLAIN}}secret\n" for u in users))
        self.write("masters", "proxy:{PLAIN}ours\n")
        ca = f"ssl_ca = <{client_ca}\nssl_verify_client_cert = yes\nauth_ssl_require_client_cert = yes\nssl_require_crl = no\n" if client_ca else ""
        p = self.ports
        listeners = lambda name: (f"  inet_listener {name} {{\n    port = {p[name]}\n  }}\n  inet_listener {name}_haproxy {{\n"
                                  f"    port = {p[name + '-haproxy']}\n    haproxy = yes\n  }}\n")
        self.write("conf", f"""base_dir = {self.dir}/run
state_dir = {self.dir}/run
default_internal_user = daemon
default_internal_group = daemon
default_login_user = nobody
log_path = {self.dir}/log
auth_verbose = yes
protocols = imap pop3 lmtp
listen = {self.host}
ssl = yes
ssl_cert = <{certificate[0]}
ssl_key = <{certificate[1]}
{ca}disable_plaintext_auth = no
auth_mechanisms = plain
first_valid_uid = 1
mail_location = sdbox:~/sdbox
login_trusted_networks = 127.0.0.0/8
haproxy_trusted_networks = 127.0.0.0/8
passdb {{
  driver = passwd-file
  args = {self.dir}/masters
  master = yes
}}
passdb {{
  driver = passwd-file
  args = {self.dir}/users
}}
userdb {{
  driver = static
  args = uid=4000 gid=4000 home={self.dir}/mail/%n
}}
service imap-login {{
  chroot =
{listeners('imap')}  inet_listener imaps {{
    port = 0
  }}
}}
service pop3-login {{
  chroot =
{listeners('pop3')}  inet_listener pop3s {{
    port = 0
  }}
}}
service lmtp {{
{listeners('lmtp')}}}
service anvil {{
  chroot =
}}
service stats {{
  chroot =
}}
""")
        self.start(["/usr/sbin/dovecot", "-F", "-c", self.path("conf")], ["imap", "pop3", "lmtp"])


class Cyrus(Peer):
    """IMAP and POP3 with STARTTLS, LMTP in clear (lmtpd -a takes whoever reaches it, and no TLS); `proxy` with password ours may act for everybody; users with password secret, whose mailboxes
    come into being with the first message."""

    def __init__(self, users, certificate, client_ca):
        need("/usr/lib/cyrus/bin/imapd", "cyrus-imapd, cyrus-pop3d, cyrus-common, sasl2-bin")
        need("/usr/sbin/saslpasswd2", "sasl2-bin")
        super().__init__(["imap", "pop3", "lmtp"])
        for name in ("db", "log", "msg", "proc", "ptclient", "quota", "socket", "user", "lock", "spool", "tls"):
            os.makedirs(self.path(f"lib/{name}"))
        for i, source in enumerate(certificate):
            shutil.copy(source, self.path(("lib/tls/cert.pem", "lib/tls/key.pem")[i]))
        self.write("imapd.conf", f"""configdirectory: {self.dir}/lib
partition-default: {self.dir}/lib/spool
defaultpartition: default
cyrus_user: daemon
cyrus_group: daemon
admins: cyrus
proxyservers: proxy
virtdomains: userid
defaultdomain: example.test
unixhierarchysep: yes
servername: cyrus.example.test
allowplaintext: yes
autocreate_quota: 0
autocreate_post: yes
sasl_pwcheck_method: auxprop
sasl_auxprop_plugin: sasldb
sasl_sasldb_path: {self.dir}/lib/sasldb2
sasl_mech_list: PLAIN
tls_server_cert: {self.dir}/lib/tls/cert.pem
tls_server_key: {self.dir}/lib/tls/key.pem
tls_client_ca_file: {client_ca}
tls_client_certs: optional
lmtp_downcase_rcpt: yes
syslog_prefix: cyrus
""")
        self.write("cyrus.conf", "START {\n}\nSERVICES {\n" + "".join(
            f'  {name} cmd="{command} -C {self.dir}/imapd.conf" listen="{self.host}:{self.ports[name]}" prefork=1 maxchild=50\n'
            for name, command in (("imap", "imapd"), ("pop3", "pop3d"), ("lmtp", "lmtpd -a"))) + "}\nEVENTS {\n}\n")
        self.write("passwords", "".join(f"{u.partition('@')[0]} cyrus.example.test secret\n" for u in users) +
                   "proxy cyrus.example.test ours\n")
        subprocess.run(["chown", "-R", "daemon:daemon", self.path("lib")], check=True)
        self.setup = (f"while read u d p; do echo $p | /usr/sbin/saslpasswd2 -f {self.dir}/lib/sasldb2 -p -c -u $d $u || exit 1; done "
                      f"<{self.dir}/passwords && chown daemon {self.dir}/lib/sasldb2")
        self.start(["/usr/lib/cyrus/bin/master", "-C", self.path("imapd.conf"), "-M", self.path("cyrus.conf"), "-p", self.path("lib/pid"),
                    "-D"], ["imap", "pop3", "lmtp"])


class Postfix(Peer):
    """SMTP with STARTTLS, which takes mail for these domains into maildirs; XCLIENT is believed of loopback. client_ca: whoever delivers
    must show a certificate."""

    def __init__(self, certificate, client_ca=None, domains="example.test"):
        need("/usr/lib/postfix/sbin/master", "postfix")
        super().__init__(["smtp"])
        for sub in ("etc", "queue", "data", "mail"):
            os.makedirs(self.path(sub))
        os.chown(self.path("mail"), 4000, 4000)
        shutil.chown(self.path("data"), "games")
        dynamic = UNPACKED + "/etc/postfix/dynamicmaps.cf"
        if os.path.exists(dynamic):
            shutil.copy(dynamic, self.path("etc"))
        for name in ("active", "bounce", "corrupt", "defer", "deferred", "flush", "hold", "incoming", "private", "saved", "trace"):
            os.makedirs(self.path("queue/" + name), mode=0o700)
            shutil.chown(self.path("queue/" + name), "games")
        for name, mode in (("maildrop", 0o1730), ("public", 0o2710)):
            os.makedirs(self.path("queue/" + name))
            shutil.chown(self.path("queue/" + name), "games", "operator")
            os.chmod(self.path("queue/" + name), mode)
        os.makedirs(self.path("queue/pid"))
        strict = f"smtpd_tls_CAfile = {client_ca}\nsmtpd_tls_req_ccert = yes\nsmtpd_tls_ask_ccert = yes\n" if client_ca else ""
        self.write("etc/main.cf", f"""compatibility_level = 3.6
queue_directory = {self.dir}/queue
data_directory = {self.dir}/data
daemon_directory = /usr/lib/postfix/sbin
command_directory = /usr/sbin
meta_directory = {self.dir}/etc
shlib_directory = /usr/lib/postfix
mail_owner = games
setgid_group = operator
default_privs = nobody
maillog_file =
inet_interfaces = all
inet_protocols = ipv4
myhostname = postfix.example.test
mydestination =
virtual_mailbox_domains = {domains}
virtual_mailbox_base = {self.dir}/mail
virtual_mailbox_maps = static:all/
virtual_uid_maps = static:4000
virtual_gid_maps = static:4000
virtual_transport = virtual
smtpd_relay_restrictions = reject_unauth_destination
smtpd_authorized_xclient_hosts = 127.0.0.0/8
smtpd_client_connection_count_limit = 0
smtpd_tls_security_level = {"encrypt" if client_ca else "may"}
smtpd_tls_cert_file = {certificate[0]}
smtpd_tls_key_file = {certificate[1]}
{strict}alias_maps =
local_recipient_maps =
""")
        services = "".join(f"{name} unix {private} {'n' if name == 'virtual' else '-'} n {wake} {most} {command}\n" for name, private, wake, most, command in (
            ("cleanup", "n", "-", "0", "cleanup"), ("qmgr", "n", "300", "1", "qmgr"), ("tlsmgr", "-", "1000?", "1", "tlsmgr"),
            ("rewrite", "-", "-", "-", "trivial-rewrite"), ("bounce", "-", "-", "0", "bounce"), ("defer", "-", "-", "0", "bounce"),
            ("trace", "-", "-", "0", "bounce"), ("verify", "-", "-", "1", "verify"), ("flush", "n", "1000?", "0", "flush"),
            ("proxymap", "-", "-", "-", "proxymap"), ("smtp", "-", "-", "-", "smtp"), ("error", "-", "-", "-", "error"),
            ("retry", "-", "-", "-", "error"), ("anvil", "-", "-", "1", "anvil"), ("virtual", "-", "-", "-", "virtual")))
        self.write("etc/master.cf", f"{self.host}:{self.ports['smtp']} inet n - n - - smtpd\n" + services)
        self.start(["/usr/lib/postfix/sbin/master", "-c", self.path("etc"), "-d"], ["smtp"])

    def messages(self):
        folder = self.path("mail/all/new")
        out = []
        for name in os.listdir(folder) if os.path.isdir(folder) else []:
            with open(os.path.join(folder, name), errors="replace") as f:
                out.append(f.read())
        return out


class OpenSmtpd(Peer):
    """SMTP with STARTTLS, which takes mail for a domain into files. Debian 12's fails every TLS handshake (it is older than OpenSSL 3): who
    sends to it does without."""

    def __init__(self, certificate, domain):
        need("/usr/sbin/smtpd", "opensmtpd, libevent-2.1-7, libdb5.3")
        super().__init__(["smtp"])
        os.makedirs(self.path("mail"))
        shutil.chown(self.path("mail"), "nobody")
        shutil.copy(certificate[0], self.path("cert.pem"))
        shutil.copy(certificate[1], self.path("key.pem"))
        for source, lines in (("/etc/passwd", "opensmtpd:x:4101:4101::/nonexistent:/bin/false\nopensmtpq:x:4102:4102::/nonexistent:/bin/false\n"),
                              ("/etc/group", "opensmtpd:x:4101:\nopensmtpq:x:4102:\n")):
            with open(source) as f:
                self.write(os.path.basename(source), f.read() + lines)
        self.write("smtpd.conf", f"""pki own cert "{self.dir}/cert.pem"
pki own key "{self.dir}/key.pem"
table all {{ "@" = "nobody" }}
listen on {self.host} port {self.ports['smtp']} tls pki own hostname opensmtpd.example
action "in" mda "/bin/sh -c 'cat >{self.dir}/mail/$$.new && mv {self.dir}/mail/$$.new {self.dir}/mail/$$'" user nobody virtual <all>
match from any for domain "{domain}" action "in"
""")
        self.setup = (f"mount --bind {self.dir}/passwd /etc/passwd && mount --bind {self.dir}/group /etc/group && "
                      "mount -t tmpfs none /var/spool && mkdir -m 711 /var/spool/smtpd && mount -t tmpfs none /var/lib && "
                      "mkdir -p /var/lib/opensmtpd/empty && chmod 755 /var/lib/opensmtpd /var/lib/opensmtpd/empty && mount -t tmpfs none /run")
        self.start(["/usr/sbin/smtpd", "-d", "-f", self.path("smtpd.conf")], ["smtp"])

    def messages(self):
        out = []
        for name in os.listdir(self.path("mail")):
            if name.isdigit():
                with open(os.path.join(self.path("mail"), name), errors="replace") as f:
                    out.append(f.read())
        return out
