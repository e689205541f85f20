//! Sizes of a load's requests, replies and log records.

use crate::args::{Args, Load};
use crate::frames::{STAT, Template, own_parent, path, stem};

/// Length, xid, zxid and error code of a reply, in bytes.
pub const REPLY_HEAD: usize = 4 + 16;
/// Bytes of a log record besides the transaction: checksum, length, TxnHeader, digest, end byte.
const RECORD_HEAD: usize = 8 + 4 + 32 + 12 + 1;

fn key(args: &Args) -> usize {
    path(&stem(&args.root, 'k', args.path_length), 0).len()
}

/// Length of a created znode's path; session ids have up to 16 digits.
fn created(args: &Args) -> usize {
    let run = format!("{}/r{:x}", args.root, 0x100_0000_0000_0000u64);
    path(&stem(&own_parent(&run, 0), 'n', args.path_length), 0).len()
}

/// Size of a reply to each kind of request of `--like`, including its length.
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

/// Size of a request of each kind, including its length.
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

/// Size of a log record in ZooKeeper's format for one write of `--like` (for a load without writes: a set).
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
