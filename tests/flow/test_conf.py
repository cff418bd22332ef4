"""Configuration as an operator meets it: --check, --print-defaults, faults with file and line, reload by SIGHUP, the control socket, the
status listener."""
import json
import os
import re
import signal
import subprocess
import tempfile
import unittest
import urllib.error
import urllib.request

import mt


def run(program, *words, stdin=""):
    done = subprocess.run([os.path.join(mt.bin_dir(), program)] + list(words), input=stdin, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout, done.stderr


class CommandLine(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)

    def put(self, name, text, mode=0o644):
        path = os.path.join(self.folder.name, name)
        with open(path, "w") as f:
            f.write(text)
        os.chmod(path, mode)
        return path

    def test_defaults_are_a_valid_configuration_with_every_key(self):
        for program in ("mailtier-proxy", "mailtier-backend"):
            code, text, _ = run(program, "--print-defaults")
            self.assertEqual(code, 0)
            path = self.put("defaults.conf", text)
            code, out, err = run(program, "-c", path, "--check")
            self.assertEqual((code, err), (0, ""), program)
            self.assertTrue(out.startswith("good: "))
            _, pages, _ = run(program, "--print-docs")
            for key in re.findall(r"^\| `([a-z0-9-]+)` \|", pages, re.M):
                self.assertRegex(text, rf"(?m)^\s*#?{key} = ")

    def test_faults_have_file_line_key_and_reason(self):
        map_file = self.put("m", "alice@example.com 10.0.0.1\n")
        good = f'map m {{ file = "{map_file}" }}\n'
        for text, want in (
                ("loops = many\n", ":1: loops: "),
                ("\nno-such-key = 1\n", ":2: no-such-key: unknown key"),
                ("loops = 1\nloops = 2\n", ":2: loops: stands twice in this file"),
                (good + good, ':2: a section with the title "m" stands there already'),
                ("relay-idle = 5 bananas\n", ":1: "),
                ('listener a {\n listen = {"127.0.0.1:143"}\n}\n', "service: must be set"),
                (good + 'listener a {\n service = imap\n listen = {"127.0.0.1:1"}\n tls = implicit\n}\nservice imap { maps = {m} }\n',
                 "there is no section tls default"),
                ('backend b {\n host = 10.0.0.1\n trust = proxy-auth\n}\n', "credential"),
                ('loops = "1\n', ":1: this string has no end"),
                ("/* loops = 1\n", ":1: this comment has no end")):
            path = self.put("x.conf", text)
            code, _, err = run("mailtier-proxy", "-c", path, "--check")
            self.assertEqual(code, 1, text)
            self.assertTrue(err.startswith(path), err)
            self.assertIn(want, err)

    def test_a_senseless_value_of_any_key_is_told_at_its_line(self):
        """Of every key of both programs that has a type which can be wrong, as the documentation has them."""
        senseless = (("number", "many"), ("time", "10zz"), ("size", "10Q"), ("yes or no", "maybe"), ("one of", "nonsense"),
                     ("list of addresses", '{"!! no address !!"}'), ("list of networks", '{"!! no network !!"}'),
                     ("file with", '"/nonexistent/secret"'))
        for program in ("mailtier-proxy", "mailtier-backend"):
            lines, wants = [], []
            for line in run(program, "--print-docs")[1].splitlines() + ["### `end NAME { }`"]:
                title = re.match(r"### `(\S+)( \S+)? \{ \}`", line)
                key = re.match(r"\| `([a-z0-9-]+)` \| ([^|]+) \|", line)
                value = key and next((v for kind, v in senseless if key[2].startswith(kind)), None)
                if title:
                    lines += ["}"] * any(text.endswith(" {") for text in lines) + [f"{title[1]}{ {None: '', ' TITLE': ' smtp'}.get(title[2], ' x')} {{"]
                elif value:
                    lines.append(f"{key[1]} = {value}")
                    wants.append((len(lines), key[1]))
            path = self.put("x.conf", "\n".join(lines[:-1]) + "\n")
            code, _, err = run(program, "-c", path, "--check")
            self.assertEqual(code, 1)
            self.assertGreater(len(wants), 100)
            for at, key in wants:
                self.assertRegex(err, rf"(?m)^{re.escape(path)}:{at}: {key}: .", program)

    def test_what_a_value_means_is_checked_too(self):
        both, proxy, backend = ("mailtier-proxy", "mailtier-backend"), ("mailtier-proxy",), ("mailtier-backend",)
        rule = 'rule r { at = mail  services = {submission}  when = {"not sender-is-own"}  then = {"reject"} }'
        for programs, text, want in (
                (both, 'resolvers = {"192.0.2.53", "ns.example.com"}', 'resolvers: "ns.example.com" is not the address of a name server'),
                (both, "resolvers = {\"192.0.2.53:5353\", \"2001:db8::53\"}", None),
                (both, 'log-levels = {"smtp=loud"}', 'log-levels: "smtp=loud" is not AREA=LEVEL'),
                (both, 'log-file = "/nonexistent/x.log"', "log-file: /nonexistent: No such file or directory"),
                (both, 'log-socket = "socket"', 'log-socket: "socket" is no path of a socket'),
                (both, 'gssapi-realms = {"EXAMPLE.COM"}', "gssapi-realms: "),
                (both, 'host-name = "mx example"', 'host-name: "mx example" is no name of a host'),
                (both, 'gssapi-host = "mx/example"', 'gssapi-host: "mx/example" is no name of a host'),
                (both, 'control { group = nosuchgroup }', "group: there is no group nosuchgroup"),
                (proxy, f'map m {{ file = "/x"  domains = {{"a b"}} }}', 'domains: "a b" is no domain'),
                (backend, f'users u {{ domains = {{"a b"}}  create-accounts = yes }}', 'domains: "a b" is no domain'),
                (both, 'default-domain = "example com"', 'default-domain: "example com" is no domain'),
                (both, 'dnssec-anchor = ""', None),
                (proxy, "smtp { domains = {\"b\u00fccher.example\"} }", "domains: \"b\u00fccher.example\" is no domain in its normal form; write xn--bcher-kva.example"),
                (proxy, "service smtp { maps = {x} }", "maps: there is no section map x"),
                (proxy, rule, 'when: "not sender-is-own": whose an address is only his back-end knows'),
                (backend, rule, None),
                (both, 'rule r { at = rcpt  then = {"reject", "accept"} }', 'then: "reject" ends the phase: "accept" behind it would never be done'),
                (both, 'mail-auth { verify = {dkim} }  rule r { at = data  when = {"dkim fail", "dmarc fail"}  then = {"quarantine"} }',
                 'when: "dmarc fail": verify of section mail-auth does not list dmarc, so this would never be known'),
                (both, 'rule r { at = data  when = {"dkim fail", "dmarc fail", "arc fail"}  then = {"quarantine"} }', None),
                (backend, "send-limit x { accounts = {news} }", 'accounts: "news" is no address'),
                (backend, "submission { cluster-domains = {\"a b\"} }", 'cluster-domains: "a b" is no domain')):
            for program in programs:
                path = self.put("x.conf", ("store = s\n" if program == "mailtier-backend" else "\n") + text + "\n")
                code, _, err = run(program, "-c", path, "--check")
                self.assertEqual((code, err) if not want else code, (0, "") if not want else 1, err)
                self.assertIn(f"{path}:2: {want}" if want else "", err)

    def test_files_that_are_not_what_they_should_be(self):
        for name in ("a", "b"):
            subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={name}",
                            "-keyout", self.put(name + ".key", ""), "-out", self.put(name + ".pem", "")], check=True, capture_output=True)
        junk, keys = self.put("junk", "junk\n"), self.put("keys", "x" * 79)
        for path in (keys, os.path.join(self.folder.name, "a.key"), os.path.join(self.folder.name, "b.key")):
            os.chmod(path, 0o600)
        good = "tls default { certificate = a.pem  key = a.key }\n"
        listener = 'listener i { service = imap  listen = "127.0.0.1:1" MORE }\n'
        for text, want in (
                (good, None),
                (good.replace("a.key", "b.key"), ":1: certificate: b.key: it is not the key of the certificate\n"),
                (good.replace("a.pem", "junk"), ":1: certificate: junk: nothing in PEM format stands there\n"),
                (good.replace("}", "client-ca = junk }"), ":1: certificate: junk: nothing in PEM format stands there\n"),
                (good + "ticket-keys = keys\n", ":2: ticket-keys: keys: no ticket keys: 1 to 16 times 80 octets are asked for\n"),
                (good + "backend b { host = b.example  trust = replay  ca = junk }\n", ":2: ca: junk: no certificate or crl found\n"),
                (good + 'connector c { uris = "ldaps://h.example"  base = "dc=x"  bind = anonymous  ca = junk }\n',
                 ":2: ca: junk: no certificate or crl found\n"),
                (good.replace("\n", listener.replace(" i ", " j ").replace("MORE", "proxy-networks = {10.0.0.0/8}")),
                 ":1: proxy-networks: proxy-protocol is not set: no PROXY header would be taken\n")):
            text = text + listener.replace("MORE", "") + "map m { file = m }\nservice imap { maps = {m} }\n"
            for file in ("a.pem", "a.key", "b.key", "junk", "keys"):
                text = text.replace(f"= {file}", f"= {self.folder.name}/{file}")
            path = self.put("files.conf", text)
            code, _, err = run("mailtier-proxy", "-c", path, "--check")
            self.assertEqual((code, err.replace(self.folder.name + "/", "")), (1, "files.conf" + want) if want else (0, ""), text)

    def test_what_a_back_end_names(self):
        secret = self.put("secret", "{FOO}bar\n", 0o600)
        for text, want in ((f'trusted-proxies = {{10.0.0.0/8}}\nproxy p {{ credential = "{secret}" }}\n', ":2: credential: no scheme that is known"),
                           (f'spool = "{self.folder.name}/none"\n', f":1: spool: {self.folder.name}/none: No such file or directory\n"),
                           (f'spool = "{secret}"\n', f":1: spool: {secret} is no folder\n")):
            path = self.put("backend.conf", text)
            code, _, err = run("mailtier-backend", "-c", path, "--check")
            self.assertEqual(code, 1, text)
            self.assertTrue(err.startswith(path + want), err)

    def test_later_files_replace_and_merge(self):
        first = self.put("a.conf", "loops = 1\ndefault-domain = a.example\n")
        second = self.put("b.conf", "loops = 2\n")
        code, out, err = run("mailtier-proxy", "-c", first, "--conf", second, "--check")
        self.assertEqual((code, err), (0, ""))
        self.assertIn(f"loops = 2\t# {second}:1", out)
        self.assertIn(f'default-domain = "a.example"\t# {first}:2', out)

    def test_usage_is_64(self):
        self.assertEqual(run("mailtier-proxy", "--no-such-option")[0], 64)
        self.assertEqual(run("mailtierctl")[0], 64)
        self.assertEqual(run("mailtierctl", "-s", os.path.join(self.folder.name, "none.sock"), "help")[0], 75)

    def test_passwords_for_maps_are_made_offline(self):
        code, out, _ = run("mailtier-proxy", "--hash-password", "SHA512-CRYPT", stdin="one\ntwo\n")
        self.assertEqual(code, 0)
        self.assertRegex(out, r"^\{SHA512-CRYPT\}\$6\$[^\n]+\n\{SHA512-CRYPT\}\$6\$[^\n]+\n$")
        code, _, err = run("mailtier-proxy", "--hash-password", "NONE", stdin="one\n")
        self.assertEqual((code, err), (64, '--hash-password: no texts are made for scheme "NONE"; without one: ARGON2ID\n'))


class Running(unittest.TestCase):
    """A proxy by itself; what it is asked needs no back-end."""

    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.map = os.path.join(self.folder.name, "m")
        with open(self.map, "w") as f:
            f.write("alice@example.com 127.0.0.1\n")
        self.extra = os.path.join(self.folder.name, "extra.conf")
        self.write_extra("")
        self.cluster = mt.Cluster("--backends", 0, "--map", self.map, "--conf", self.extra)
        self.addCleanup(self.cluster.stop)

    def write_extra(self, text):
        with open(self.extra, "w") as f:
            f.write('backend-default { hosts = {"127.0.0.0/8"}  trust = replay  tls = none }\n' + text)

    def reload_and_wait(self, words):
        seen = self.cluster.log("p1").count(words)
        self.cluster.kill("p1", signal.SIGHUP)
        mt.wait_for(lambda: self.cluster.log("p1").count(words) > seen, 10, words)

    def test_a_reload_takes_what_it_may_and_refuses_a_bad_file_whole(self):
        self.write_extra("log-level = debug\n")
        self.cluster.kill("p1", signal.SIGHUP)
        mt.wait_for(lambda: "debug" in self.cluster.ctl("p1", "log", "level"), 10, "the reload")
        self.write_extra("log-level = warn\nloops = nonsense\n")
        self.reload_and_wait("loops: \"nonsense\" is no number")
        self.assertIn("debug", self.cluster.ctl("p1", "log", "level"))
        self.write_extra("log-level = debug\nhash-workers = 7\n")
        self.reload_and_wait("hash-workers: changed in the file; in force by a hand-over or restart")
        self.assertTrue(self.cluster.is_alive("p1"))

    def test_a_refused_reload_leaves_the_maps_as_they_were(self):
        bad = os.path.join(self.folder.name, "bad.pem")
        with open(bad, "w") as f:
            f.write("no certificate\n")
        self.write_extra(f'map users {{ max-shrink = 55 }}\ntls default {{ certificate = "{bad}" }}\n')
        self.reload_and_wait("configuration refused, the old one stays")
        # The map in force still follows its file.
        with open(self.map, "a") as f:
            f.write("bob@example.com 127.0.0.1\n")
        mt.wait_for(lambda: self.cluster.ctl("p1", "map", "explain", "bob@example.com", code=None)[0] == 0, 15, "the new user")

    def test_the_control_socket_is_the_owners_and_answers_in_both_forms(self):
        self.assertEqual(os.stat(self.cluster.at("p1", "ctl")).st_mode & 0o777, 0o600)
        self.assertIn("mailtier-proxy", self.cluster.ctl("p1", "status"))
        self.assertEqual(self.cluster.ctl_json("p1", "status")["pid"], self.cluster.pid("p1"))
        verbs = [row["verb"] for row in self.cluster.ctl_json("p1", "help")["rows"]]
        self.assertIn("help [WORD]...", verbs)
        self.assertEqual([row["verb"].split()[:2] for row in self.cluster.ctl_json("p1", "help", "log")["rows"]], [["log", "level"]])
        self.assertEqual(self.cluster.ctl("p1", "help", "lo", code=None)[0], 64)
        self.assertIn('knows no "log"; ask for help log', self.cluster.ctl("p1", "log", code=None)[1])
        self.assertEqual(self.cluster.ctl("p1", "no", "such", "verb", code=None)[0], 64)
        self.assertEqual(self.cluster.ctl("p1", "log", "level", "loud", code=None)[0], 64)
        self.assertIsInstance(json.loads(self.cluster.ctl("p1", "--json", "metrics"))["rows"], list)

    def test_the_status_listener(self):
        host, port = self.cluster.at("p1", "status")
        with urllib.request.urlopen(f"http://{host}:{port}/metrics", timeout=10) as f:
            self.assertTrue(f.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0"))
            self.assertTrue(f.read().endswith(b"# EOF\n"))
        for page, want in (("health", 200), ("ready", 200), ("other", 404)):
            try:
                with urllib.request.urlopen(f"http://{host}:{port}/{page}", timeout=10) as f:
                    self.assertEqual(f.status, want)
            except urllib.error.HTTPError as e:
                self.assertEqual(e.code, want)


if __name__ == "__main__":
    unittest.main()
