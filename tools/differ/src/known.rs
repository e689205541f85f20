//! Intended differences from Apache ZooKeeper 3.9 (README.md, "Where it differs"), and how this tool handles each.
//! Everything that is not in this table counts as a difference.

/// How a known difference is handled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Treatment {
    /// It is asked for; the answer is translated before the comparison.
    Translated,
    /// It is not asked for.
    NotAsked,
}

/// One row: the difference, the reason for it, and how it is handled.
pub struct Known {
    pub what: &'static str,
    pub reason: &'static str,
    pub treatment: Treatment,
}

/// The table.
pub const KNOWN: [Known; 10] = [
    Known {
        what: "an undecodable single write takes a zxid of its own",
        reason: "Apache answers it with the last zxid again, which then stands for two things",
        treatment: Treatment::Translated,
    },
    Known {
        what: "characters beyond U+FFFF are echoed as they came, in UTF-8",
        reason: "Apache writes each as two surrogates of three bytes, which no strict reader takes; no znode can have them",
        treatment: Treatment::Translated,
    },
    Known {
        what: "a write is judged by the ACL that a setACL pipelined before it has set",
        reason: "in Apache it depends on whether the setACL was applied by then: its change record keeps the old ACL",
        treatment: Treatment::NotAsked,
    },
    Known {
        what: "createContainer with an ephemeral flag makes a container, for what is pipelined after it as well",
        reason: "in Apache it is taken for an ephemeral, which has no children, until it is applied",
        treatment: Treatment::NotAsked,
    },
    Known {
        what: "createContainer with a sequential flag is refused",
        reason: "an Apache leader predicts the digest of a persistent znode for it, so no member of an ensemble can have it made right",
        treatment: Treatment::NotAsked,
    },
    Known {
        what: "createTTL with a negative TTL and a mode without TTL is refused",
        reason: "Apache accepts it, fails while applying it and stops for good",
        treatment: Treatment::NotAsked,
    },
    Known {
        what: "deleteContainer is not taken from clients",
        reason: "Apache deletes without asking the ACL",
        treatment: Treatment::NotAsked,
    },
    Known {
        what: "a quota's text that is no list of numbers limits nothing",
        reason: "Apache fails every write below such a quota with enforceQuota, and stops for good when an ephemeral there goes",
        treatment: Treatment::NotAsked,
    },
    Known {
        what: "a version never becomes -1",
        reason: "as in ZooKeeper 3.10; out of reach for a stream of this length",
        treatment: Treatment::NotAsked,
    },
    Known {
        what: "the handshake packet is at most 4 KiB",
        reason: "memory of those who have not introduced themselves is bounded",
        treatment: Treatment::NotAsked,
    },
];
