"""A disk that is full while the queue works: new mail gets 452, what was sent in that time is sent once, and noted when there is room again."""
import os
import smtplib
import sys
import tempfile
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "flow"))
import mt  # noqa: E402
import smtp_sink  # noqa: E402


class QueueFull(unittest.TestCase):
    def test_the_disk_is_full_while_mail_goes_out(self):
        library = os.path.join(mt.bin_dir(), "..", "tests", "crash", "nospace.so")
        if not os.path.exists(library):
            self.skipTest("make store-tools")
        folder = tempfile.mkdtemp(prefix="mt-nospace-")
        os.chmod(folder, 0o755)
        flag, conf = os.path.join(folder, "full"), os.path.join(folder, "more.conf")
        sink = smtp_sink.Sink()
        self.addCleanup(sink.stop)
        with open(conf, "w") as f:
            f.write(f"trusted-proxies = {{\"127.0.0.0/8\"}}\nqueue {{\n\tretry-first = 1s\n\tretry-most = 1s\n\ttries = 1000\n}}\n"
                    f"route all {{\n\tdomains = {{\"*\"}}\n\thosts = {{\"[127.0.0.1]:{sink.port}\"}}\n}}\n")
        cluster = mt.Cluster("--proxies", 0, "--backends", 1, "--users", 1, "--backend-conf", conf,
                             env={"LD_PRELOAD": os.path.abspath(library), "MAILTIER_NOSPACE": flag})
        self.addCleanup(cluster.stop)
        cluster.ctl("b1", "account", "set", "user0001@example.test", "--forward", "later@far.test", "--no-keep")

        def deliver():
            with smtplib.LMTP(*cluster.at("b1", "lmtp")) as lmtp:
                lmtp.sendmail("s@from.test", ["user0001@example.test"], "Subject: x\r\n\r\nx\r\n")

        deliver()
        mt.wait_for(lambda: "<later@far.test>" in "".join(sink.commands), 15, "the first try")
        with open(flag, "w"):
            pass
        try:
            with self.assertRaises(smtplib.SMTPDataError) as refused:
                deliver()
            self.assertEqual(refused.exception.smtp_code, 452)
            sink.is_kind = True
            mt.wait_for(lambda: sink.messages, 30, "the message to be sent")
            time.sleep(3)  # three times its schedule: it is not to come again
            self.assertEqual(len(sink.messages), 1)
        finally:
            os.unlink(flag)
        mt.wait_for(lambda: not cluster.ctl_json("b1", "queue", "list").get("rows"), 30, "the result to be written")
        self.assertEqual(len(sink.messages), 1)
        deliver()
        mt.wait_for(lambda: len(sink.messages) == 2, 15, "mail to go out again")
        self.assertEqual(cluster.ctl_json("b1", "store", "check")["errors"], 0)


if __name__ == "__main__":
    unittest.main()
