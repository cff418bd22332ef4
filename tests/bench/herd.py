#!/usr/bin/env python3
"""Sessions that a dead back-end drops, and their coming back: N clients are logged in at one back-end, it is killed, it is started
again, all come back at once. One number a line; tests/flow/test_herd.py asserts them at 2,000.

    tests/bench/herd.py [5000]
"""
import asyncio
import os
import resource
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "flow"))
import mt  # noqa: E402


class Client:
    """One session that is held; after its end one that comes back."""

    def __init__(self, place, user, password):
        self.place, self.user, self.password = place, user, password
        self.reader = self.writer = None

    async def login(self):
        """(the answer's words, seconds from the command to it)"""
        self.reader, self.writer = await asyncio.open_connection(*self.place)
        await self.reader.readline()
        begin = time.monotonic()
        self.writer.write(f"a LOGIN {self.user} {self.password}\r\n".encode())
        while True:
            line = await self.reader.readline()
            if not line or line.startswith(b"a "):
                return line.decode(), time.monotonic() - begin

    async def until_end(self):
        while await self.reader.read(4096):
            pass
        self.writer.close()
        return time.monotonic()

    async def come_back(self, slowest):
        """Again and again, a moment after each temporary error; when it was served, and how often it was told to come later."""
        later = 0
        while True:
            answer, seconds = await self.login()
            slowest.append(seconds)
            if answer.startswith("a OK"):
                return time.monotonic(), later
            later += 1
            self.writer.close()
            await asyncio.sleep(0.3)


class Herd:
    """The cluster with two back-ends; half of the users live on each."""

    def __init__(self, count, users=40):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        self.cluster = mt.Cluster("--proxies", 1, "--backends", 2, "--users", users, "--password", "pw")
        self.place = self.cluster.at("p1", "imap")
        names = [f"user{i:04}@example.test" for i in range(1, users + 1)]
        self.mine, self.others = names[0::2], names[1::2]
        self.clients = [Client(self.place, self.mine[i % len(self.mine)], "pw") for i in range(count)]
        self.process = None

    def stop(self):
        if self.process:
            self.process.kill()
            self.process.wait()
        self.cluster.stop()

    async def fill(self):
        gate = asyncio.Semaphore(50)

        async def one(c):
            async with gate:
                answer, _ = await c.login()
                assert answer.startswith("a OK"), answer

        await asyncio.gather(*(one(c) for c in self.clients))

    async def probe_login(self, user):
        c = Client(self.place, user, "pw")
        answer, seconds = await c.login()
        c.writer.close()
        return answer, seconds

    def start_again(self):
        with open(self.cluster.at("b1", "log"), "ab") as log:
            self.process = subprocess.Popen([os.path.join(mt.bin_dir(self.cluster.variant), "mailtier-backend"), "-c",
                                             self.cluster.at("b1", "conf")], stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    async def listening(self):
        while True:
            try:
                _, writer = await asyncio.open_connection(*self.cluster.at("b1", "imaps"))
                writer.close()
                return
            except OSError:
                await asyncio.sleep(0.01)

    def longest_turn_ms(self):
        """Of all loops, since the start."""
        return max(v for k, v in self.cluster.metrics("p1").items() if "loop_turn_longest" in k) / 1000

    async def run(self):
        """Figures by name; seconds, milliseconds, counts."""
        out = {}
        await self.fill()
        out["longest_turn_filling_ms"] = self.longest_turn_ms()
        ends = [asyncio.ensure_future(c.until_end()) for c in self.clients]
        killed = time.monotonic()
        self.cluster.kill("b1")
        errors = [await self.probe_login(user) for user in self.mine]
        others = [await self.probe_login(user) for user in self.others]
        out["dropped_s"] = max(await asyncio.gather(*ends)) - killed
        out["error_s"] = max(seconds for _, seconds in errors)
        out["errors"] = {answer.split("]")[0] for answer, _ in errors}
        out["others_s"] = max(seconds for _, seconds in others)
        out["others"] = {answer[:4] for answer, _ in others}
        out["longest_turn_dropped_ms"] = self.longest_turn_ms()
        await asyncio.sleep(2)  # long enough for a probe to have seen it
        slowest = []
        backs = [asyncio.ensure_future(c.come_back(slowest)) for c in self.clients]
        await asyncio.sleep(1)
        self.start_again()
        await self.listening()
        begin = time.monotonic()
        served = await asyncio.gather(*backs)
        out["served_s"] = max(at for at, _ in served) - begin
        out["slowest_login_s"] = max(slowest)
        out["told_later"] = sum(later for _, later in served)
        out["longest_turn_ms"] = self.longest_turn_ms()
        out["resumed"] = self.cluster.metric("p1", "mailtier_net_tls_resumed_total")
        for c in self.clients:
            c.writer.close()
        return out


def main():
    herd = Herd(int(sys.argv[1]) if len(sys.argv) > 1 else 5000)
    try:
        for name, value in asyncio.run(herd.run()).items():
            print(f"herd_{name} {round(value, 3) if isinstance(value, float) else value}")
    finally:
        herd.stop()


if __name__ == "__main__":
    main()
