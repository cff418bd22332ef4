"""dkimpy as a judge of signatures, for tests: signs, verifies, seals.

    oracle = Oracle({"sel._domainkey.example.test": "v=DKIM1; p=..."})
    signed = oracle.sign(message, "sel", "example.test", key_file)
    oracle.verify(message)        # a list: (domain, selector, is it good)

It runs in the system's own python, whose packages dkimpy and PyNaCl are (the one that runs the tests may be another): as a program
this file answers lines of JSON.
"""
import base64
import json
import os
import subprocess
import sys

PYTHON = "/usr/bin/python3"


def is_there():
    return subprocess.run([PYTHON, "-c", "import dkim, nacl, authres"], capture_output=True).returncode == 0


class Oracle:
    def __init__(self, records):
        self.process = subprocess.Popen([PYTHON, os.path.abspath(__file__)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._ask(do="records", records=records)

    def _ask(self, **what):
        for name, value in what.items():
            if isinstance(value, bytes):
                what[name] = base64.b64encode(value).decode()
        self.process.stdin.write(json.dumps(what) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        if "error" in answer:
            raise AssertionError(answer["error"])
        return answer["answer"]

    def sign(self, message, selector, domain, key, algorithm="rsa-sha256", forms="relaxed/relaxed", **more):
        """The message with a DKIM-Signature before it. key: a PEM file of openssl's. more: length=True, fields=[...]."""
        field = self._ask(do="sign", message=message, selector=selector, domain=domain, key=key, algorithm=algorithm, forms=forms, **more)
        return base64.b64decode(field) + message

    def verify(self, message):
        return [tuple(one) for one in self._ask(do="verify", message=message)]

    def seal(self, message, selector, domain, key, host):
        """The message with an ARC set before it; host: whose Authentication-Results count."""
        return base64.b64decode(self._ask(do="seal", message=message, selector=selector, domain=domain, key=key, host=host)) + message

    def verify_chain(self, message):
        """"none", "pass" or "fail"."""
        return self._ask(do="chain", message=message)

    def body_hash(self, message, form):
        """SHA-256 of the body in a canonical form, base64."""
        return self._ask(do="body", message=message, form=form)

    def stop(self):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait(20)


def serve():
    import hashlib

    import dkim

    records = {}

    def dns(name, timeout=5):
        return records.get(name.decode().rstrip("."), "").encode() or None

    def key_of(path, algorithm):
        with open(path, "rb") as f:
            pem = f.read()
        if algorithm.startswith("rsa"):
            return pem
        der = base64.b64decode(b"".join(pem.split(b"\n")[1:-2]))
        return base64.b64encode(der[-32:])

    def verify(message):
        d = dkim.DKIM(message)
        count = sum(1 for name, _ in d.headers if name.lower() == b"dkim-signature")
        answers = []
        for i in range(count):
            d = dkim.DKIM(message)
            try:
                good = d.verify(idx=i, dnsfunc=dns)
            except dkim.DKIMException:
                good = False
            answers.append((d.domain.decode() if d.domain else "", d.selector.decode() if d.selector else "", good))
        return answers

    def answer(q):
        message = base64.b64decode(q.get("message", ""))
        if q["do"] == "records":
            records.update(q["records"])
            return True
        if q["do"] == "sign":
            header, body = (form.encode() for form in q["forms"].split("/"))
            fields = [f.encode() for f in q["fields"]] if "fields" in q else None
            signed = dkim.sign(message, q["selector"].encode(), q["domain"].encode(), key_of(q["key"], q["algorithm"]),
                               signature_algorithm=q["algorithm"].encode(), canonicalize=(header, body), include_headers=fields,
                               length=q.get("length", False))
            return base64.b64encode(signed).decode()
        if q["do"] == "verify":
            return verify(message)
        if q["do"] == "seal":
            fields = dkim.arc_sign(message, q["selector"].encode(), q["domain"].encode(), key_of(q["key"], "rsa"), q["host"].encode())
            return base64.b64encode(b"".join(fields)).decode()
        if q["do"] == "chain":
            return dkim.arc_verify(message, dnsfunc=dns)[0].decode()
        if q["do"] == "body":
            _, body = dkim.rfc822_parse(message)
            policy = dkim.CanonicalizationPolicy.from_c_value(b"simple/" + q["form"].encode())
            return base64.b64encode(hashlib.sha256(policy.canonicalize_body(body)).digest()).decode()
        raise ValueError(q["do"])

    for line in sys.stdin:
        try:
            reply = {"answer": answer(json.loads(line))}
        except Exception as e:  # the test shall see it
            reply = {"error": f"{type(e).__name__}: {e}"}
        print(json.dumps(reply), flush=True)


if __name__ == "__main__":
    serve()
