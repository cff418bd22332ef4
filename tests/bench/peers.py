"""The peers of the benchmarks: nginx mail, HAProxy, Dovecot as store, Postfix before it. Taken from build/peers
(tests/bench/peers unpacks them) or from the system; a peer that is neither there nor here is left out, and said so."""
import os
import shutil
import signal
import subprocess
import time

from measure import OUT, ROOT, wait_port

UNPACKED = os.path.join(ROOT, "build", "peers")


def program(name):
    for place in (UNPACKED + "/usr/sbin/" + name, UNPACKED + "/usr/lib/postfix/sbin/" + name):
        if os.path.exists(place):
            return place
    return shutil.which(name)


class Peer:
    """A started peer: .pids for accounting, .ports by service."""

    def __init__(self, name, command, ports, host, cpu=None, setup="true"):
        """setup: shell, in the namespace of an unpacked one, before it starts."""
        self.name, self.ports, self.host = name, ports, host
        self.log = open(os.path.join(OUT, name.replace("/", "-") + ".log"), "w")
        prefix = ["taskset", "-c", str(cpu)] if cpu is not None else []
        if command[0].startswith(UNPACKED):
            # In a mount namespace of its own the unpacked tree lies over /usr, where its compiled-in paths lead.
            overlay = f"mount -t overlay peers -o lowerdir={UNPACKED}/usr:/usr /usr && {setup} && exec \"$@\""
            command = [command[0][len(UNPACKED):]] + command[1:]
            prefix = ["unshare", "-m", "sh", "-c", overlay, "sh"] + prefix
        self.command = prefix + command
        self.start()

    def start(self):
        self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        self.pids = [self.process.pid]
        for port in self.ports.values():
            wait_port(self.host, port)

    def restart(self):
        self.stop()
        self.start()

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def folder(name):
    path = os.path.join(OUT, name)
    shutil.rmtree(path, ignore_errors=True)
    os.makedirs(path)
    return path


def nginx(host, base, backend, tls, cpu):
    exe = program("nginx")
    module = "/usr/lib/nginx/modules/ngx_mail_module.so"
    if not exe or not (os.path.exists(module) or os.path.exists(UNPACKED + module)):
        return None
    d = folder("nginx")
    ports = {"imap": base, "imaps": base + 1, "pop3": base + 2, "pop3s": base + 3}
    with open(d + "/conf", "w") as f:
        f.write(f"""load_module {module};
worker_processes 1; worker_rlimit_nofile 20000; daemon off; pid {d}/pid; error_log {d}/log warn;
events {{ worker_connections 19000; }}
mail {{
  proxy_pass_error_message on; proxy_timeout 2h; imap_auth plain login; pop3_auth plain;
  ssl_certificate {tls}.pem; ssl_certificate_key {tls}.key; ssl_protocols TLSv1.2 TLSv1.3;
  server {{ listen {host}:{base} backlog=4096; protocol imap; auth_http {host}:{base + 4}/imap; }}
  server {{ listen {host}:{base + 1} ssl backlog=4096; protocol imap; auth_http {host}:{base + 4}/imap; }}
  server {{ listen {host}:{base + 2} backlog=4096; protocol pop3; auth_http {host}:{base + 4}/pop3; }}
  server {{ listen {host}:{base + 3} ssl backlog=4096; protocol pop3; auth_http {host}:{base + 4}/pop3; }}
}}
http {{
  access_log off; client_body_temp_path {d}/b; proxy_temp_path {d}/p; fastcgi_temp_path {d}/f;
  uwsgi_temp_path {d}/u; scgi_temp_path {d}/s;
  server {{
    listen {host}:{base + 4} backlog=4096;
    location /imap {{ add_header Auth-Status OK; add_header Auth-Server {backend[0]}; add_header Auth-Port {backend[1]}; return 204; }}
    location /pop3 {{ add_header Auth-Status OK; add_header Auth-Server {backend[0]}; add_header Auth-Port {backend[1] + 1}; return 204; }}
  }}
}}
""")
    os.chmod(d, 0o755)
    return Peer("nginx", [exe, "-p", d, "-c", d + "/conf"], ports, host, cpu)


def haproxy(host, base, backend, tls, cpu):
    exe = program("haproxy")
    if not exe:
        return None
    d = folder("haproxy")
    ports = {"imap": base, "imaps": base + 1, "pop3": base + 2, "pop3s": base + 3}
    with open(tls + ".pem") as a, open(tls + ".key") as b, open(d + "/both.pem", "w") as f:
        f.write(a.read() + b.read())
    with open(d + "/conf", "w") as f:
        f.write("""global
  nbthread 1
  maxconn 6500
defaults
  mode tcp
  option splice-auto
  timeout client 2h
  timeout server 2h
  timeout connect 10s
""")
        for name, port, extra, to in (("imap", base, "", 0), ("imaps", base + 1, f" ssl crt {d}/both.pem", 0),
                                      ("pop3", base + 2, "", 1), ("pop3s", base + 3, f" ssl crt {d}/both.pem", 1)):
            f.write(f"listen {name}\n  bind {host}:{port}{extra} backlog 4096\n  server s {backend[0]}:{backend[1] + to}\n")
    return Peer("haproxy", [exe, "-db", "-f", d + "/conf"], ports, host, cpu)


def dovecot(host, base, fmt="sdbox"):
    """Dovecot as a store: IMAP, POP3 and LMTP, every password right."""
    exe = program("dovecot")
    if not exe:
        return None
    d = folder("dovecot-" + fmt)
    os.makedirs(d + "/mail")
    os.chown(d + "/mail", 4000, 4000)
    ports = {"imap": base, "pop3": base + 1, "lmtp": base + 2}
    with open(d + "/conf", "w") as f:
        f.write(f"""base_dir = {d}/run
state_dir = {d}/run
default_internal_user = daemon
default_internal_group = daemon
default_login_user = nobody
log_path = {d}/log
protocols = imap pop3 lmtp
listen = {host}
ssl = no
disable_plaintext_auth = no
auth_mechanisms = plain
auth_username_format = %Ln
first_valid_uid = 1
mail_location = {fmt}:~/{fmt}
mail_max_userip_connections = 0
passdb {{
  driver = static
  args = nopassword=y
}}
userdb {{
  driver = static
  args = uid=4000 gid=4000 home={d}/mail/%n allow_all_users=yes
}}
service imap-login {{
  service_count = 0
  process_min_avail = 2
  client_limit = 2000
  chroot =
  inet_listener imap {{
    port = {base}
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
service pop3-login {{
  service_count = 0
  client_limit = 2000
  chroot =
  inet_listener pop3 {{
    port = {base + 1}
  }}
  inet_listener pop3s {{
    port = 0
  }}
}}
service imap {{
  process_limit = 6000
  service_count = 100
  process_min_avail = 2
}}
service lmtp {{
  process_min_avail = 4
  inet_listener lmtp {{
    port = {base + 2}
  }}
}}
service anvil {{
  client_limit = 19000
  chroot =
}}
service auth {{
  client_limit = 19500
}}
service stats {{
  client_limit = 19000
}}
default_client_limit = 4000
default_process_limit = 100
default_vsz_limit = 2G
""")
    path = d
    while path != "/":  # its processes run as others than root
        os.chmod(path, os.stat(path).st_mode | 0o055)
        path = os.path.dirname(path)
    peer = Peer("dovecot-" + fmt, [exe, "-F", "-c", d + "/conf"], ports, host)
    time.sleep(1)
    peer.mail = d + "/mail"
    return peer


def postfix(host, base, lmtp):
    """Postfix that hands all mail for example.test to an LMTP server."""
    exe = program("master")
    if not exe:
        return None
    d = folder("postfix")
    for sub in ("etc", "queue", "data"):
        os.makedirs(f"{d}/{sub}")
    with open(d + "/etc/main.cf", "w") as f:
        f.write(f"""compatibility_level = 3.6
queue_directory = {d}/queue
data_directory = {d}/data
daemon_directory = /usr/lib/postfix/sbin
command_directory = /usr/sbin
meta_directory = {d}/etc
shlib_directory = /usr/lib/postfix
mail_owner = games
setgid_group = operator
default_privs = nobody
maillog_file =
inet_interfaces = all
inet_protocols = ipv4
myhostname = bench.example.test
mydestination =
virtual_mailbox_domains = example.test
defer_transports = smtp
virtual_transport = lmtp:inet:{lmtp[0]}:{lmtp[1]}
smtpd_recipient_restrictions = permit_mynetworks, reject
smtpd_relay_restrictions = permit_mynetworks, reject
mynetworks = 127.0.0.0/8
in_flow_delay = 0
smtpd_client_connection_count_limit = 0
alias_maps =
local_recipient_maps =
""")
    with open(d + "/etc/master.cf", "w") as f:
        f.write(f"""{host}:{base} inet n - n - - smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
lmtp unix - - n - - lmtp
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
""")
    shutil.chown(d + "/data", "games")
    shutil.copy(UNPACKED + "/etc/postfix/dynamicmaps.cf", d + "/etc") if os.path.exists(UNPACKED + "/etc/postfix/dynamicmaps.cf") else None
    for q in ("active", "bounce", "corrupt", "defer", "deferred", "flush", "hold", "incoming", "private", "saved", "trace"):
        os.makedirs(f"{d}/queue/{q}", mode=0o700)
        shutil.chown(f"{d}/queue/{q}", "games")
    for q, mode in (("maildrop", 0o1730), ("public", 0o2710)):
        os.makedirs(f"{d}/queue/{q}")
        shutil.chown(f"{d}/queue/{q}", "games", "operator")
        os.chmod(f"{d}/queue/{q}", mode)
    os.makedirs(d + "/queue/pid")
    return Peer("postfix", [exe, "-c", d + "/etc", "-d"], {"smtp": base}, host)


def opensmtpd(host, base, relay, connections):
    """OpenSMTPD that relays all it takes to one server in clear by so many connections without pauses between them; its queue is on the disk of
    build/bench."""
    exe = program("smtpd")
    if not exe or not exe.startswith(UNPACKED):
        return None
    d = folder("opensmtpd")
    os.makedirs(d + "/spool")
    for source, lines in (("/etc/passwd", "opensmtpd:x:4101:4101::/nonexistent:/bin/false\nopensmtpq:x:4102:4102::/nonexistent:/bin/false\n"),
                          ("/etc/group", "opensmtpd:x:4101:\nopensmtpq:x:4102:\n")):
        with open(source) as f, open(os.path.join(d, os.path.basename(source)), "w") as out:
            out.write(f.read() + lines)
    limits = "".join(f"mta limit {key} {value}\n" for key, value in (
        *((f"max-conn-per-{what}", connections) for what in ("host", "route", "source", "connector", "relay", "domain")),
        *((f"conn-delay-{what}", 0) for what in ("host", "source", "connector", "relay", "domain")),
        ("session-mail-max", 1000000), ("session-transaction-delay", 0)))
    with open(d + "/smtpd.conf", "w") as f:
        f.write(f"""smtp limit max-mails 1000000
{limits}listen on {host} port {base} hostname bench.example.test
action "out" relay host smtp://{relay[0]}:{relay[1]}
match from any for any action "out"
""")
    os.chmod(d + "/smtpd.conf", 0o600)
    os.chmod(d + "/spool", 0o711)
    shutil.copy(UNPACKED + "/usr/sbin/smtpctl", d)
    os.chown(d + "/smtpctl", 0, 4102)
    os.chmod(d + "/smtpctl", 0o2755)
    path = d
    while path != "/":  # its processes run as others than root
        os.chmod(path, os.stat(path).st_mode | 0o011)
        path = os.path.dirname(path)
    setup = (f"mount --bind {d}/passwd /etc/passwd && mount --bind {d}/group /etc/group && mount -t tmpfs none /var/spool && "
             f"mkdir -m 711 /var/spool/smtpd && mount --bind {d}/spool /var/spool/smtpd && mount -t tmpfs none /var/lib && "
             "mkdir -p /var/lib/opensmtpd/empty && chmod 755 /var/lib/opensmtpd /var/lib/opensmtpd/empty && mount -t tmpfs none /run")
    return Peer("opensmtpd", [exe, "-d", "-f", d + "/smtpd.conf"], {"smtp": base}, host, setup=setup)


def opensmtpd_ctl(peer, *words):
    """smtpctl, in its namespace; what it prints."""
    return subprocess.run(["nsenter", "-m", "-t", str(peer.pids[0]), os.path.join(OUT, "opensmtpd", "smtpctl"), *words], check=True, capture_output=True, text=True).stdout
