#!/usr/bin/env python3
"""A slow link between this host and a network namespace: two TUN devices, and a program that passes packets on late.

    link.py NAMESPACE OUTSIDE_IP INSIDE_IP RTT_MS MEGABITS

TCP on both ends is the kernel's own, with its windows and retransmissions. The same as netem, for kernels without it.
Each direction has its own rate and a queue of one round trip's worth of bytes (1 MiB at least); what does not fit is
dropped. Prints
"up" when packets flow; ends with SIGTERM. As root.
"""
import collections
import fcntl
import os
import select
import struct
import subprocess
import sys
import time

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
# Jumbo frames: one packet per 72 microseconds at 1 Gbit/s is what this program can carry with time to spare.
MTU = 9000
# Bytes that wait for the line at least, where there is no delay.
SHORTEST_QUEUE = 1 << 20


def device(name):
    tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH", name.encode(), IFF_TUN | IFF_NO_PI))
    return tun


def ip(*arguments):
    subprocess.run(("ip",) + arguments, check=True)


def main(namespace, outside, inside, rtt_ms, megabits):
    delay = float(rtt_ms) / 2000
    rate = float(megabits) * 1e6 / 8
    longest_queue = max(rate * 2 * delay, SHORTEST_QUEUE)
    out_name, in_name = "%s-t%s" % (namespace, rtt_ms), "%s-u%s" % (namespace, rtt_ms)
    outer, inner = device(out_name), device(in_name)
    ip("link", "set", in_name, "netns", namespace)
    for prefix, name, mine, peer in (((), out_name, outside, inside), (("-n", namespace), in_name, inside, outside)):
        ip(*prefix, "addr", "add", mine, "peer", peer, "dev", name)
        ip(*prefix, "link", "set", name, "mtu", str(MTU), "up", "txqueuelen", "2000")
    print("up", flush=True)

    poll = select.epoll()
    poll.register(outer, select.EPOLLIN)
    poll.register(inner, select.EPOLLIN)
    # Per reading side: the other side, when the line is free again, packets on their way.
    sides = {outer: [inner, 0.0, collections.deque()], inner: [outer, 0.0, collections.deque()]}
    while True:
        now = time.monotonic()
        wait = 1.0
        for target, _, line in sides.values():
            while line and line[0][0] <= now:
                try:
                    os.write(target, line.popleft()[1])
                except OSError:
                    pass
            if line:
                wait = min(wait, line[0][0] - now)
        for side, _ in poll.poll(max(wait, 0.0)):
            state = sides[side]
            for _ in range(64):
                try:
                    packet = os.read(side, 65536)
                except BlockingIOError:
                    break
                now = time.monotonic()
                starts = max(now, state[1])
                if (starts - now) * rate > longest_queue:
                    continue
                state[1] = starts + len(packet) / rate
                state[2].append((state[1] + delay, packet))


main(*sys.argv[1:])
