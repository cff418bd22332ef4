"""CPU, memory and load of other processes, as the kernel accounts for them. For benchmarks only."""
import json
import os
import subprocess
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
OUT = os.path.join(ROOT, "build", "bench")
TICK = os.sysconf("SC_CLK_TCK")


def build_tools():
    """Compiles the load generator and the null back-end into build/bench."""
    os.makedirs(OUT, exist_ok=True)
    for name, libs in (("load", ["-lssl", "-lcrypto"]), ("nullbe", [])):
        source = os.path.join(ROOT, "tests", "bench", name + ".c")
        target = os.path.join(OUT, name)
        if not os.path.exists(target) or os.path.getmtime(target) < os.path.getmtime(source):
            subprocess.run(["gcc", "-std=c11", "-D_GNU_SOURCE", "-O2", "-o", target, source] + libs, check=True)


def tree(pid):
    """The process and all its descendants."""
    children = {}
    for p in os.listdir("/proc"):
        if p.isdigit():
            try:
                with open(f"/proc/{p}/stat") as f:
                    children.setdefault(int(f.read().rsplit(")", 1)[1].split()[1]), []).append(int(p))
            except OSError:
                pass
    found, todo = [], [pid]
    while todo:
        p = todo.pop()
        found.append(p)
        todo += children.get(p, [])
    return found


def cpu_seconds(pids):
    """User and system time of the trees below pids, with the children that have ended."""
    total = 0.0
    for root in pids:
        for p in tree(root):
            try:
                for t in os.listdir(f"/proc/{p}/task"):
                    with open(f"/proc/{p}/task/{t}/schedstat") as f:
                        total += int(f.read().split()[0]) / 1e9
                with open(f"/proc/{p}/stat") as f:
                    fields = f.read().rsplit(")", 1)[1].split()
                total += (int(fields[13]) + int(fields[14])) / TICK
            except OSError:
                pass
    return total


def pss_kib(pids):
    """Proportional memory of the trees below pids."""
    total = 0
    for root in pids:
        for p in tree(root):
            try:
                with open(f"/proc/{p}/smaps_rollup") as f:
                    for line in f:
                        if line.startswith("Pss:"):
                            total += int(line.split()[1])
            except OSError:
                pass
    return total


def load_command(port, steps, host="127.0.0.1", cpu=None, **options):
    command = ["taskset", "-c", str(cpu)] if cpu is not None else []
    command += [os.path.join(OUT, "load"), "--host", host, "--port", str(port)]
    for key, value in options.items():
        if value is True:
            command.append("--" + key)
        elif value is not None and value is not False:
            command += ["--" + key.replace("_", "-"), str(value)]
    return command + steps


def run_load(port, steps, **options):
    """Runs the generator to its end; its JSON as a dict. Raises with its words when it fails."""
    done = subprocess.run(load_command(port, steps, **options), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, timeout=600)
    if done.returncode != 0 or not done.stdout:
        raise RuntimeError(done.stderr.strip() or "load printed nothing")
    return json.loads(done.stdout)


def wait_port(host, port, seconds=15):
    import socket
    end = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection((host, port), 1).close()
            return
        except OSError:
            if time.monotonic() > end:
                raise RuntimeError(f"nothing listens on {host}:{port}")
            time.sleep(0.05)


def median(values):
    values = sorted(values)
    return values[len(values) // 2]
