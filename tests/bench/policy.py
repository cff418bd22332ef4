"""What it costs to look at mail that comes in: a message of 4 KiB through the proxy to its back-end, durable, with nothing configured; with SPF and
rules, as the body streams; and with DKIM, DMARC and ARC besides, for which the body is spooled. The messages are signed, half by RSA-2048, half by Ed25519;
keys and policies are in a zone of the test's own, and the proxy has them in its memory after the first messages. Processor time of proxy, checker of SPF
and back-end. And the memory of sessions that have said EHLO, under the same rules.
"""
import os
import subprocess
import tempfile

import dns_zone
import mailauth
import measure
from cluster import Cluster
from measure import cpu_seconds, load_command, pss_kib, run_load

HOST, PASSWORD = "127.0.0.77", "secret"
CLIENT = "192.0.2.7"
DOMAIN = "example.test"

RULES = """
listener smtp { proxy-protocol = optional proxy-networks = {"127.0.0.0/8"} }
smtp { spf = yes }
rule near { at = "connect" when = {"peer 198.18.0.2/31"} then = {"reject 554 5.7.25 Not you"} }
rule bad-helo { at = "helo" when = {"helo bad.example"} then = {"reject 550 5.7.1 Not with that name"} }
rule fails { at = "mail" when = {"spf fail", "not sender postmaster@*"} then = {"reject 550 5.7.23 Not from there"} }
rule softly { at = "mail" when = {"spf softfail"} then = {"add-header X-Softly: yes"} }
rule marked { at = "mail" when = {"sender marked@*"} then = {"add-header X-Rule: marked"} }
rule large { at = "mail" when = {"size >50M"} then = {"reject 552 5.3.4 Too much"} }
rule many { at = "rcpt" when = {"recipients >50"} then = {"tempreject 452 4.5.3 Fifty are enough"} }
rule gone { at = "rcpt" when = {"recipient gone@example.test"} then = {"reject 550 5.1.1 Gone"} }
rule elsewhere { at = "rcpt" when = {"domain nowhere.example"} then = {"reject 550 5.1.2 Nowhere"} }
rule often { at = "rcpt" then = {"rate-limit 100000/1m by peer 452 4.7.1 Slowly"} }
"""
VERIFY = "mail-auth { verify = {%s} }\n"


def signed(folder, count):
    """(list of the files, zone): half are signed by one key, half by the other."""
    paths = mailauth.make_messages(folder, count)
    records = mailauth.sign_all(folder, paths)
    listed = os.path.join(folder, "list")
    with open(listed, "w") as f:
        f.write("\n".join(paths) + "\n")
    zone = dns_zone.DnsServer({"test": records + '_dmarc.example TXT "v=DMARC1; p=none"\n'
                                       'example TXT "v=spf1 include:spf.example.test -all"\nspf.example TXT "v=spf1 ip4:192.0.2.0/28 ~all"\n'},
                              ttl=3600, recursive=True)
    return listed, zone


def steps():
    return [f"SPROXY TCP4 {CLIENT} 192.0.2.200 4711 25", "E220", "SEHLO load.example.test", "E250 ", "L", "SMAIL FROM:<alice@example.test>", "E250",
            "SRCPT TO:<user%u@example.test>", "E250", "SDATA", "E354", "S%m.", "E250"]


def measure_all(say, quick):
    subprocess.run(["make", "-s", "-C", measure.ROOT, "build/bench/common/front/bench_mail_auth"], check=True)
    with tempfile.TemporaryDirectory(prefix="mt-policy-") as folder:
        os.chmod(folder, 0o755)
        listed, zone = signed(folder, 200)
        try:
            plain = "listener smtp { proxy-protocol = optional proxy-networks = {\"127.0.0.0/8\"} }\n"
            for name, text in (("nothing looked at", plain), ("SPF, 10 rules, streaming", RULES),
                               ("SPF, rules, DKIM, spooled", RULES + VERIFY % "dkim"),
                               ("SPF, rules, DKIM, DMARC, ARC", RULES + VERIFY % "dkim, dmarc, arc")):
                conf = os.path.join(folder, "proxy.conf")
                with open(conf, "w") as f:
                    f.write(zone.conf + text)
                cluster = Cluster("policy", "--host", HOST, "--proxies", 1, "--backends", 1, "--users", 20, "--port-base", 38500, "--password",
                                  PASSWORD, "--conf", conf)
                try:
                    one(say, cluster, name, listed, 2000 if quick else 10000)
                finally:
                    cluster.stop()
        finally:
            zone.stop()


def one(say, cluster, name, listed, total):
    host, port = cluster.at["p1", "smtp"]
    pids = [cluster.pid["p1"], cluster.pid["b1"]]
    load = lambda n: run_load(port, steps(), host=host, conns=20, users=20, total=n, files=listed, fail="4")
    load(200)
    before = [cpu_seconds([p]) for p in pids]
    r = load(total)
    spent = [(cpu_seconds([p]) - b) / r["rounds"] * 1000 for p, b in zip(pids, before)]
    say(f"4 KiB in, {name}", "mailtier", sum(spent), "ms CPU/message", f"proxy {spent[0]:.3f}, back-end {spent[1]:.3f}; {r['per_second']:.0f}/s")


def idle(say, cluster, conns):
    """Sessions that have said EHLO at proxy and back-end."""
    script = steps()[:4] + ["H"]
    for program in ("p1", "b1"):
        host, port = cluster.at[program, "smtp"]
        base = pss_kib([cluster.pid[program]])
        holder = subprocess.Popen(load_command(port, script, host=host, cpu=1, conns=conns, users=1, sources=8),
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        holder.stdout.readline()
        say(f"idle SMTP session PSS of {conns}", "mailtier-" + program, (pss_kib([cluster.pid[program]]) - base) / conns, "KiB/session",
            "with SPF and 10 rules")
        holder.stdin.close()
        holder.wait()
