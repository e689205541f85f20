//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Parser, ValueEnum};

/// The kind of load.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Load {
    /// getData of a random znode
    Get,
    /// setData of a random znode
    Set,
    /// create of a new znode, each connection under a parent of its own
    Create,
    /// delete of znodes made beforehand (--nodes); ends early when none are left
    Delete,
    /// getData and setData, with --reads per cent of getData
    Mixed,
    /// a multi of --ops setData
    Multi,
    /// every connection watches one znode, which another session changes: measures the time until each gets the event
    Fanout,
    /// all connections are cut at once and resume their sessions, each setting --watches watches again
    Storm,
    /// --attack: hostile clients, until --seconds have passed; run a second zabra-load beside it to measure the effect
    Hostile,
    /// without ZooKeeper: a bare io_uring server, started for this run, answers frames as large as --like's; the upper
    /// bound of the sockets
    Echo,
    /// without ZooKeeper: a record as large as --like's is appended to a file in --dir and synced, then the next; the
    /// upper bound of the disk
    Disk,
    /// the server of echo
    #[value(hide = true)]
    EchoServer,
}

/// What the clients of `hostile` do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Attack {
    /// --connections sessions that only ping
    Idle,
    /// --connections connections that never finish the handshake (half of them send a byte of it a second); opened again when closed
    Silent,
    /// --connections sessions that announce a frame of 1 MB and send a byte of it a second
    Half,
    /// --connections sessions that send 1 MB except for the last byte, and stop
    Swollen,
    /// --connections sessions that request a 1 MB znode --depth times and never read (every second one: a byte a
    /// second)
    Slow,
    /// the same with getChildren of 10,000 children, and a setData between every 8
    SlowMixed,
    /// --rate new sessions per second, closed at once
    Churn,
    /// --rate connections per second, closed before the handshake
    Connects,
    /// multis of --ops setData of one znode, near 1 MB in all; --rate per second, or --depth on each connection
    Multi,
    /// getChildren of 10,000 children; --rate per second, or --depth on each connection
    Children,
    /// getData of a 1 MB znode; --rate per second, or --depth on each connection
    Large,
    /// setWatches of 8,000 paths; --rate per second, or --depth on each connection
    SetWatches,
    /// --watches watches, each on a path of its own, on every connection
    Watches,
}

/// Load generator for ZooKeeper's client protocol. One thread; every reply is checked, and the first wrong one ends the
/// run.
///
/// Closed loop (default): --connections × --depth requests are always in flight. Open loop: --rate requests per second
/// are sent no matter what the server does, and latency counts from the time at which a request should have been sent.
#[derive(Clone, Parser, Debug)]
#[command(version, max_term_width = 120)]
pub struct Args {
    /// Kind of load
    #[arg(value_enum)]
    pub load: Load,
    /// hostile: what its clients do
    #[arg(long, value_enum, value_name = "KIND", required_if_eq("load", "hostile"))]
    pub attack: Option<Attack>,
    /// Server's client port
    #[arg(long, default_value = "127.0.0.1:2181", value_name = "HOST:PORT")]
    pub server: SocketAddr,
    /// Sessions
    #[arg(long, short, default_value_t = 64, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=60_000))]
    pub connections: u32,
    /// Closed loop: requests in flight on each connection
    #[arg(long, short, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub depth: u32,
    /// Open loop: requests per second over all connections
    #[arg(long, short, value_name = "PER_SECOND", value_parser = rate)]
    pub rate: Option<f64>,
    /// echo, disk: the load whose sizes of frames and log records are used
    #[arg(long, default_value = "set", value_name = "LOAD", value_parser = like)]
    pub like: Load,
    /// disk: directory of the file (which is removed again)
    #[arg(long, default_value = ".", value_name = "FOLDER")]
    pub dir: PathBuf,
    /// echo: port of its server on 127.0.0.1; 0 means any
    #[arg(long, default_value_t = 0, value_name = "PORT")]
    pub echo_port: u16,
    /// Bytes of a znode's data
    #[arg(long, default_value_t = 100, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub size: u32,
    /// Znodes that get, set, mixed and multi choose from
    #[arg(long, default_value_t = 1_000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    pub keys: u32,
    /// delete: number of znodes to create beforehand
    #[arg(long, default_value_t = 200_000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    pub nodes: u32,
    /// mixed: percentage of reads
    #[arg(long, default_value_t = 90, value_name = "PER_CENT", value_parser = clap::value_parser!(u8).range(0..=100))]
    pub reads: u8,
    /// multi: number of operations in one multi
    #[arg(long, default_value_t = 10, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=5_000))]
    pub ops: u32,
    /// create: flags as on the wire: 0 persistent, 1 ephemeral, 2 and 3 the same with a sequence number (with 2 and 3
    /// the parents, and the persistent znodes, are not deleted)
    #[arg(long, default_value_t = 0, value_name = "FLAGS", value_parser = clap::value_parser!(i32).range(0..=3))]
    pub mode: i32,
    /// fanout: one persistent watch instead of a new one-shot watch for each round
    #[arg(long)]
    pub persistent: bool,
    /// storm, hostile watches: number of watches that each session sets (again)
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub watches: u32,
    /// Length of the paths in bytes
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u16).range(40..=1_000))]
    pub path_length: Option<u16>,
    /// Znode under which everything is created
    #[arg(long, default_value = "/zabra-load", value_name = "PATH", value_parser = root)]
    pub root: String,
    /// Do not delete the created znodes
    #[arg(long)]
    pub keep: bool,
    /// Seconds of warm-up, which are not counted
    #[arg(long, default_value_t = 2.0, value_name = "SECONDS", value_parser = seconds)]
    pub warm_up: f64,
    /// Seconds that are measured
    #[arg(long, short, default_value_t = 10.0, value_name = "SECONDS", value_parser = seconds)]
    pub seconds: f64,
    /// Seconds without any reply after which the run has failed
    #[arg(long, default_value_t = 20.0, value_name = "SECONDS", value_parser = seconds)]
    pub stall: f64,
    /// Session timeout to request, in milliseconds
    #[arg(long, default_value_t = 30_000, value_name = "MS", value_parser = clap::value_parser!(i32).range(1_000..))]
    pub session_timeout_ms: i32,
    /// Process whose CPU time and memory are reported
    #[arg(long, value_name = "PID")]
    pub server_pid: Option<u32>,
    /// Run on this CPU only
    #[arg(long, value_name = "CPU")]
    pub pin: Option<usize>,
    /// Seed of the random choices
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub seed: u64,
    /// Write the whole run's percentile curve here (HdrHistogram's .hgrm, milliseconds)
    #[arg(long, value_name = "FILE")]
    pub hgrm: Option<PathBuf>,
    /// Write one histogram per second and kind here (HdrHistogram's V2 log)
    #[arg(long, value_name = "FILE")]
    pub hlog: Option<PathBuf>,
    /// Print the result as JSON on standard output (the progress goes to standard error anyway)
    #[arg(long)]
    pub json: bool,
    /// No progress lines
    #[arg(long, short)]
    pub quiet: bool,
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(r) if (0.1..=100_000_000.0).contains(&r) => Ok(r),
        _ => Err("a number of requests per second from 0.1 to 100,000,000".to_owned()),
    }
}

fn like(text: &str) -> Result<Load, String> {
    match Load::from_str(text, false) {
        Ok(load @ (Load::Get | Load::Set | Load::Create | Load::Mixed | Load::Multi)) => Ok(load),
        _ => Err("get, set, create, mixed or multi".to_owned()),
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(s) if (0.0..=1_000_000.0).contains(&s) => Ok(s),
        _ => Err("a number of seconds".to_owned()),
    }
}

fn root(text: &str) -> Result<String, String> {
    let names: Vec<&str> = text.strip_prefix('/').unwrap_or_default().split('/').collect();
    if names.iter().any(|n| n.is_empty() || *n == "." || *n == "..") || names[0] == "zookeeper" {
        return Err("a path such as /zabra-load, not in /zookeeper".to_owned());
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Args::command().debug_assert();
        let args = Args::try_parse_from(["zabra-load", "get", "-c", "16", "-d", "16"]).unwrap();
        assert_eq!((args.load, args.connections, args.depth, args.rate), (Load::Get, 16, 16, None));
        for bad in [
            &["zabra-load", "get", "--rate", "NaN"][..],
            &["zabra-load", "hostile"],
            &["zabra-load", "get", "--root", "/a//b"],
            &["zabra-load", "get", "--root", "/zookeeper/x"],
            &["zabra-load", "get", "--reads", "101"],
            &["zabra-load", "echo", "--like", "storm"],
        ] {
            assert!(Args::try_parse_from(bad).is_err(), "{bad:?}");
        }
    }
}
