"""Writes commands that fill a Redis server, for `redis-cli --pipe`: python3 redis_fill.py KEYS

About 340 bytes of RDB for each key: two thirds strings (sessions, cached JSON, some of them noise), the rest hashes, lists, sets
and sorted sets, a tenth with an expiry. `zset MEGABYTES` instead writes one sorted set of that size.
"""
import random
import sys

out = sys.stdout.buffer


def send(*arguments):
    parts = [b"*%d\r\n" % len(arguments)]
    for argument in arguments:
        parts.append(b"$%d\r\n%s\r\n" % (len(argument), argument))
    return b"".join(parts)


def mixed(keys):
    noise = random.Random(1).randbytes(1 << 20)
    words = [b"user", b"name", b"time", b"movie", b"title", b"token", b"agent", b"visit", b"state", b"offer"]
    batch = []
    for n in range(keys):
        at = (n * 7919) % ((1 << 20) - 1024)
        text = noise[at:at + 210].hex().encode()
        kind = n % 12
        key = b"%s:%d" % (words[n % 10], n)
        if kind < 4:
            value = b'{"id":%d,"%s":"%s","seen":%d,"tags":["%s","%s"]}' % (n, words[kind], text[:300], n * 31, words[n % 7], text[:8])
            batch.append(send(b"SET", key, value))
        elif kind < 7:
            batch.append(send(b"SET", key, noise[at:at + 330]))
        elif kind < 8:
            batch.append(send(b"SET", key, text[:260], b"PXAT", b"4102444800000"))
        elif kind < 10:
            fields = [item for i in range(8) for item in (b"field%d" % i, text[i * 40:i * 40 + 36])]
            batch.append(send(b"HSET", key, *fields))
        elif kind == 10:
            items = [text[i * 30:i * 30 + 24] for i in range(12)]
            batch.append(send(b"RPUSH" if n % 24 == 10 else b"SADD", key, *items))
        else:
            items = [item for i in range(10) for item in (b"%d" % (n * i % 100003), text[i * 30:i * 30 + 22])]
            batch.append(send(b"ZADD", key, *items))
        if len(batch) == 1000:
            out.write(b"".join(batch))
            batch.clear()
    out.write(b"".join(batch))


def zset(megabytes):
    # A member of 40 bytes and a score of 8 take 49 in an RDB.
    count, n = megabytes * (1 << 20) // 49, 0
    noise = random.Random(2).randbytes(1 << 20)
    while n < count:
        items = []
        for _ in range(1000):
            at = (n * 104729) % ((1 << 20) - 32)
            items += [b"%d.5" % (n * 13 % 1000003), b"%010d" % n + noise[at:at + 15].hex().encode()]
            n += 1
        out.write(send(b"ZADD", b"one-sorted-set", *items))


if sys.argv[1] == "zset":
    zset(int(sys.argv[2]))
else:
    mixed(int(sys.argv[1]))
