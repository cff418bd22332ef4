"""Canonical bodies of a corpus of real mail: our hashes beside dkimpy's. Skipped where there is no corpus."""
import os
import subprocess
import tempfile
import unittest

import dkim_oracle
import mt

PROGRAM = os.path.join(mt.ROOT, "build", "bench", "common", "front", "bench_mail_auth")


@unittest.skipUnless(dkim_oracle.is_there(), "python3-dkim, python3-authres or python3-nacl is not installed")
class Corpus(unittest.TestCase):
    def compare(self, name):
        files = subprocess.run([os.path.join(mt.ROOT, "tests", "corpus-files"), name], capture_output=True, text=True).stdout.split("\n")[:-1]
        if not files:
            self.skipTest(f"there is no corpus of {name} mail")
        subprocess.run(["make", "-s", "-C", mt.ROOT, "build/bench/common/front/bench_mail_auth"], check=True)
        oracle = dkim_oracle.Oracle({})
        self.addCleanup(oracle.stop)
        with tempfile.TemporaryDirectory(prefix="mt-corpus-") as folder:
            want = {}
            for number, path in enumerate(files):
                with open(path, "rb") as f:
                    text = f.read()
                # As it comes over the wire: nothing bare, and an empty line behind the header.
                text = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")
                head, _, body = text.partition(b"\r\n\r\n")
                text = b"Subject: x\r\n\r\n" + body
                path = os.path.join(folder, f"{number}.eml")
                with open(path, "wb") as f:
                    f.write(text)
                want[path] = [oracle.body_hash(text, form) for form in ("simple", "relaxed")]
            ours = subprocess.run([PROGRAM, "bodies"], input="\n".join(want) + "\n", capture_output=True, text=True, check=True).stdout
            got = {line.split()[0]: line.split()[1:] for line in ours.splitlines()}
            self.assertEqual(len(got), len(files))
            self.assertEqual([files[int(os.path.basename(p)[:-4])] for p in want if got[p] != want[p]], [])

    def test_real_mail(self):
        self.compare("real")

    def test_tricky_mail(self):
        self.compare("tricky")


if __name__ == "__main__":
    unittest.main()
