//! The command line.

use std::net::SocketAddr;

use clap::Parser;

/// Sends the same seeded operation streams to Apache ZooKeeper and to Zabra and compares every reply and watch event.
///
/// Both servers must run with the same configuration; `tools/differ/run` does that. The exit code is 0 if nothing
/// differed, 3 if something did, 1 if the run could not be made.
#[derive(Clone, Parser, Debug)]
#[command(version, max_term_width = 120)]
pub struct Args {
    /// Client port of Apache ZooKeeper
    #[arg(long, value_name = "HOST:PORT")]
    pub apache: SocketAddr,
    /// Client port of Zabra
    #[arg(long, value_name = "HOST:PORT")]
    pub zabra: SocketAddr,
    /// Both are members of ensembles: leave out single writes whose body is cut short (an Apache leader commits nothing more
    /// after one) and creates whose flags are for another opcode (an Apache leader logs wrong digests for them)
    #[arg(long)]
    pub ensembles: bool,
    /// How many seeds to run
    #[arg(long, default_value_t = 10, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub seeds: u64,
    /// Approximate number of requests per seed
    #[arg(long, default_value_t = 500, value_name = "M", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub ops: u32,
    /// The first seed
    #[arg(long, default_value_t = 1, value_name = "S")]
    pub start_seed: u64,
    /// How many shorter streams to try after a difference
    #[arg(long, default_value_t = 120, value_name = "N")]
    pub shrink: u32,
    /// Stop after this many seeds with a difference
    #[arg(long, default_value_t = 20, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub stop_after: u32,
    /// Seconds to wait for an answer
    #[arg(long, default_value_t = 10, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=600))]
    pub patience: u64,
    /// Print the stream of each seed
    #[arg(long)]
    pub show: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Args::command().debug_assert();
        let both = ["zabra-differ", "--apache", "127.0.0.1:1", "--zabra", "127.0.0.1:2"];
        assert_eq!(Args::try_parse_from(both).unwrap().start_seed, 1);
        assert!(Args::try_parse_from(&both[..3]).is_err());
        assert!(Args::try_parse_from([&both[..], &["--seeds", "0"]].concat()).is_err());
    }
}
