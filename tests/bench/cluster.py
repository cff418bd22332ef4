"""A cluster of ours, started by deploy/demo/run. For benchmarks only."""
import os
import signal
import subprocess

from measure import OUT, ROOT, wait_port


class Cluster:
    """pids by name (p1, b1 …), at[(name, service)] = (host, port)."""

    def __init__(self, name, *flags):
        self.dir = os.path.join(OUT, name)
        subprocess.run(["rm", "-rf", self.dir], check=True)
        self.pid, self.at = {}, {}
        self.log = open(self.dir + ".log", "w")
        command = [os.path.join(ROOT, "deploy", "demo", "run"), "--dir", self.dir, "--pids"] + [str(f) for f in flags]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self.log, text=True)
        for line in self.process.stdout:
            self.log.write(line)
            words = line.split()
            if words[:1] == ["pid"]:
                self.pid[words[1]] = int(words[2])
            elif words[:1] == ["at"]:
                where = words[3].rsplit(":", 1)
                self.at[words[1], words[2]] = (where[0], int(where[1])) if len(where) == 2 and where[1].isdigit() else words[3]
            elif words[:1] == ["ready"]:
                return
        raise RuntimeError(f"the cluster did not start, see {self.dir}.log")

    def restart(self, name):
        """With --restart: kills one and waits until it is there again."""
        os.kill(self.pid[name], signal.SIGKILL)
        for line in self.process.stdout:
            self.log.write(line)
            words = line.split()
            if words[:2] == ["pid", name]:
                self.pid[name] = int(words[2])
                break
        host, port = self.at[name, "imap"]
        wait_port(host, port)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self.log.close()
