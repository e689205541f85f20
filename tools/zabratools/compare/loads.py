"""Which loads are run, with which arguments for zabra-load and etcd-load."""

from dataclasses import asdict, dataclass, field, replace

ALL = ("zookeeper", "etcd", "zabra")
# Connections of an open loop; over an ensemble a number that three members share evenly.
SWEEP_CONNECTIONS = 64
ENSEMBLE_SWEEP_CONNECTIONS = 63


@dataclass
class Load:
    name: str
    load: str
    what: str
    arguments: list = field(default_factory=list)
    connections: int = 64
    depth: int = 1
    rate: float = None
    writes: bool = False
    # The name of its throughput-against-latency plot.
    sweep: str = None
    servers: tuple = ALL
    # Arguments for one of the servers only: {server: arguments}.
    extra: dict = field(default_factory=dict)
    # The load whose frames and records the bare echo and the bare disk sync copy.
    like: str = None

    def command(self, server):
        """Arguments for the server's generator, without what all loads have in common."""
        how = ["--rate", f"{self.rate:g}"] if self.rate else ["--depth", str(self.depth)]
        if self.load == "fanout":
            how = []
        return [self.load, "--connections", str(self.connections), *how, *self.arguments, *self.extra.get(server, [])]

    def shares(self, members):
        """What each of so many members' generators does of it: connections as even as possible, an open loop's rate in their proportion.
        With fewer connections than members there are fewer shares."""
        counts = [self.connections // members + (n < self.connections % members) for n in range(members)]
        return [replace(self, connections=c, rate=self.rate * c / self.connections if self.rate else None) for c in counts if c]

    def echo(self):
        """Arguments for the bare echo with the same frames, connections and depth; an open loop's is closed, 64 x 1."""
        if self.load == "fanout":
            return ["echo", "--like", "set", "--connections", "64", "--depth", "1"]
        like = self.like or self.load
        own = [a for a in self.arguments if a != "--persistent"]
        return ["echo", "--like", like, "--connections", str(self.connections), "--depth", str(self.depth), *own]

    def disk(self):
        """Arguments for the bare disk sync of as many bytes as one write of this load logs."""
        like = self.like or self.load
        return ["disk", "--like", like if like in ("create", "multi") else "set"]

    def as_json(self):
        return asdict(self)


def closed():
    """Closed loops, in the order they are run."""
    return [
        Load("get 64x1", "get", "64 connections, each with one getData in flight"),
        Load("get 16x16", "get", "16 connections, each with 16 getData in flight", connections=16, depth=16),
        Load("set 64x1", "set", "64 connections, each with one setData in flight", writes=True),
        Load("set 16x64", "set", "16 connections, each with 64 setData in flight", connections=16, depth=64, writes=True),
        Load("create 64x8", "create", "64 connections, each with 8 creates of new znodes in flight", depth=8, writes=True),
        Load("set 1x1", "set", "one connection with one setData in flight", connections=1, writes=True),
        Load("mixed 64x4", "mixed", "64 connections x 4 in flight, 90 % getData, 10 % setData", ["--reads", "90"], depth=4,
             writes=True),
        Load("multi 16x4", "multi", "16 connections x 4 multis in flight, each of 10 setData (etcd: txn of 10 puts)",
             ["--ops", "10"], connections=16, depth=4, writes=True),
        Load("fan-out 2000", "fanout", "2,000 sessions watch one znode that is changed again and again; the next change waits "
             "until all were told. Persistent watches. Operations are events, latency is from the change's sending",
             connections=2000, writes=True, extra={"zookeeper": ["--persistent"], "zabra": ["--persistent"]}),
        Load("fan-out 2000, one-shot", "fanout", "the same with ZooKeeper's one-shot watches, each armed again by a getData "
             "(etcd has none)", connections=2000, writes=True, servers=("zookeeper", "zabra")),
        Load("get 64x1, linearizable", "get", "etcd's default reads, which see every write acknowledged before; ZooKeeper's "
             "getData corresponds to the serializable reads of get 64x1", servers=("etcd",),
             extra={"etcd": ["--linearizable"]}),
    ]


def ensembles():
    """Closed loops over ensembles, in the order they are run. Connections are those of all members together."""
    return [
        Load("get 63x1", "get", "63 connections, each with one getData in flight", connections=63),
        Load("set 63x1", "set", "63 connections, each with one setData in flight", connections=63, writes=True),
        Load("set 15x64", "set", "15 connections, each with 64 setData in flight", connections=15, depth=64, writes=True),
        Load("create 63x8", "create", "63 connections, each with 8 creates of new znodes in flight", connections=63, depth=8, writes=True),
        Load("set 1x1", "set", "one connection with one setData in flight, to a member that does not lead", connections=1, writes=True),
        Load("mixed 63x4", "mixed", "63 connections x 4 in flight, 90 % getData, 10 % setData", ["--reads", "90"], connections=63, depth=4,
             writes=True),
        Load("get 63x1, linearizable", "get", "etcd's default reads, which see every write acknowledged before; ZooKeeper's "
             "getData corresponds to the serializable reads of get 63x1", connections=63, servers=("etcd",),
             extra={"etcd": ["--linearizable"]}),
    ]


GET_RATES = (5_000, 10_000, 20_000, 40_000, 60_000, 80_000, 120_000, 160_000, 200_000)
SET_RATES = (1_000, 2_000, 5_000, 10_000, 20_000, 30_000, 45_000, 60_000, 80_000)


def sweeps(get_rates=GET_RATES, set_rates=SET_RATES, connections=SWEEP_CONNECTIONS):
    """Open loops at rising rates; a server that did not hold one is not asked for the next."""
    def one(load, rate):
        what = f"{load}, {rate:,} per second offered over {connections} connections, latency from the planned send"
        return Load(f"{load} at {rate:,}/s", load, what, connections=connections, rate=rate, writes=load == "set",
                    sweep=load)
    return [one("get", r) for r in get_rates] + [one("set", r) for r in set_rates]


def names(members=1):
    """The names that --only accepts."""
    return [load.name for load in (closed() if members == 1 else ensembles())] + ["sweep get", "sweep set"]


def chosen(only, get_rates=GET_RATES, set_rates=SET_RATES, members=1):
    """The loads that `only` names; all of them when it is empty."""
    if members == 1:
        everything = closed() + sweeps(get_rates, set_rates)
    else:
        everything = ensembles() + sweeps(get_rates, set_rates, ENSEMBLE_SWEEP_CONNECTIONS)
    if not only:
        return everything
    return [l for l in everything if l.name in only or (l.sweep and f"sweep {l.sweep}" in only)]
