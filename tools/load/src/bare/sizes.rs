//! How large a load's requests, replies and log records are.

use crate::args::{Args, Load};
use crate::frames::{Template, path, stem};
use crate::work::{STAT, own_parent};

/// A reply's length, xid, zxid and error code.
pub const REPLY_HEAD: usize = 4 + 16;
/// What a log record has around its transaction: checksum, length, TxnHeader, digest, end byte.
const RECORD_HEAD: usize = 8 + 4 + 32 + 12 + 1;

fn key(args: &Args) -> usize {
    path(&stem(&args.root, 'k', args.path_length), 0).len()
}

/// Path of a created znode; session ids have up to 16 digits.
fn created(args: &Args) -> usize {
    let run = format!("{}/r{:x}", args.root, 0x100_0000_0000_0000u64);
    path(&stem(&own_parent(&run, 0), 'n', args.path_length), 0).len()
}

/// Bytes of a reply to each kind of `--like`'s requests, with the length before it.
pub fn answers(args: &Args) -> Vec<u32> {
    let get = REPLY_HEAD + 4 + args.size as usize + STAT;
    let set = REPLY_HEAD + STAT;
    let of = match args.like {
        Load::Get => vec![get],
        Load::Mixed => vec![get, set],
        Load::Create => vec![REPLY_HEAD + 4 + created(args)],
        Load::Multi => vec![REPLY_HEAD + args.ops as usize * (9 + STAT) + 9],
        _ => vec![set],
    };
    of.into_iter().map(|n| n as u32).collect()
}

/// Bytes of a request of each kind, with the length before it.
pub fn requests(args: &Args) -> Vec<u32> {
    let data = vec![0; args.size as usize];
    let key = stem(&args.root, 'k', args.path_length);
    let get = Template::get(&key, false).len();
    let set = Template::set(&key, &data).len();
    let of = match args.like {
        Load::Get => vec![get],
        Load::Mixed => vec![get, set],
        Load::Create => vec![Template::create(&"x".repeat(created(args) - 10), &data, 0).len()],
        Load::Multi => vec![Template::multi(&key, &data, args.ops).len()],
        _ => vec![set],
    };
    of.into_iter().map(|n| n as u32).collect()
}

/// Bytes that a transaction log of ZooKeeper's format takes for one write of `--like` (a load without writes: a set).
pub fn record(args: &Args) -> usize {
    let data = 4 + args.size as usize;
    let set = 4 + key(args) + data + 4;
    let body = match args.like {
        // The open ACL, ephemeral, parentCVersion.
        Load::Create => 4 + created(args) + data + 31 + 1 + 4,
        Load::Multi => 4 + args.ops as usize * (4 + 4 + set),
        _ => set,
    };
    RECORD_HEAD + body
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn args(like: &str) -> Args {
        Args::parse_from(["zabra-load", "echo", "--like", like, "--ops", "3"])
    }

    #[test]
    fn sizes_are_those_of_the_wire() {
        assert_eq!((requests(&args("get")), answers(&args("get"))), (vec![40], vec![192]));
        assert_eq!((requests(&args("set")), answers(&args("set"))), (vec![147], vec![88]));
        assert_eq!(answers(&args("mixed")), [192, 88]);
        assert_eq!(answers(&args("multi")), [20 + 3 * 77 + 9]);
        assert_eq!(record(&args("set")), 57 + 4 + 23 + 104 + 4);
        assert!(record(&args("multi")) > 3 * 130);
    }
}
