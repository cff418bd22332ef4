#!/usr/bin/env python3
"""How fast many accounts come from a file: tests/bench/import.py [COUNT] [--ldif] [--clear]. COUNT (100,000) accounts with a hash each and an alias each
tenth, by `account import`, once anew and once more when all are there; then the list, and the store's check."""
import json
import os
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "flow"))
import mt  # noqa: E402


def csv_row(i, password):
    return f"u{i:06}@d{i % 100}.test,{password},{f'a{i:06}@d{i % 100}.test' if i % 10 == 0 else ''}\n"


def ldif_entry(i, password):
    alias = f"mailAlternateAddress: a{i:06}@d{i % 100}.test\n" if i % 10 == 0 else ""
    return f"dn: uid=u{i:06},dc=test\nmail: u{i:06}@d{i % 100}.test\n{alias}userPassword: {password}\ncn: User {i}\n\n"


def timed(cluster, *words):
    begin = time.monotonic()
    done = subprocess.run([os.path.join(mt.bin_dir(), "mailtierctl"), "-s", cluster.at("b1", "ctl"), "--json", *words],
                          stdout=subprocess.PIPE, text=True, check=True)
    return time.monotonic() - begin, json.loads(done.stdout)


def main():
    words = [w for w in sys.argv[1:] if not w.startswith("--")]
    count = int(words[0]) if words else 100000
    is_ldif = "--ldif" in sys.argv
    password = "clear text" if "--clear" in sys.argv else \
        "{SSHA512}" + "MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDEyMzQ1Njc4OTA="
    cluster = mt.Cluster("--proxies", 0, "--backends", 1, "--users", 1)
    try:
        path = os.path.join(tempfile.mkdtemp(dir=cluster.dir), "accounts.ldif" if is_ldif else "accounts.csv")
        with open(path, "w") as f:
            if not is_ldif:
                f.write("address,password,aliases\n")
            for i in range(count):
                f.write((ldif_entry if is_ldif else csv_row)(i, password))
        print(f"{count} accounts, {os.path.getsize(path) / 1e6:.1f} MB")
        for what in (["--dry-run"], [], []):
            seconds, got = timed(cluster, "account", "import", path, *what)
            print(f"import {' '.join(what)}: {seconds:.1f} s, {count / seconds:.0f} accounts/s {got}", flush=True)
        seconds, got = timed(cluster, "account", "list")
        print(f"list: {seconds:.2f} s, {got['accounts']} accounts")
        seconds, got = timed(cluster, "account", "list", "d7.test", "--limit", "100")
        print(f"a page of 100: {seconds * 1000:.0f} ms")
        metrics = cluster.metrics("b1")
        print("longest turn of a loop:", max(v for k, v in metrics.items() if k.startswith("mailtier_net_loop_turn_longest")), "us")
        with open(f"/proc/{cluster.pid('b1')}/status") as f:
            print("memory:", [line.split(":")[1].strip() for line in f if line.startswith(("VmRSS", "VmHWM", "RssAnon"))], "(resident, most, anonymous)")
        seconds, got = timed(cluster, "store", "check")
        print(f"check: {seconds:.1f} s, {got['errors']} errors")
    finally:
        cluster.stop()


if __name__ == "__main__":
    main()
