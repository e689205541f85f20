//! Tests that can be read as text: the commands in a file drive the shipped turns of shards and peer core and the
//! shipped log, and below each command stands what they send to clients and to each other. Scripts of elections drive the
//! election and its links. `README.md` in this folder explains the language.
//!
//! A line that begins with `> ` is a command. Comments (`#`) and empty lines are kept. All other lines are the output
//! of the commands: `UPDATE_EXPECT=1 cargo test --test zabra scripts::` writes them again.

mod client;
mod command;
mod doubles;
mod election;
mod journal;
mod member;
mod show;
mod world;

use std::fs;
use std::path::{Path, PathBuf};

use expect_test::expect_file;
use world::World;

/// One test for each file of this folder; `_` stands for the `-` in its name.
macro_rules! scripts {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            run(stringify!($name));
        })*

        const ALL: &[&str] = &[$(stringify!($name)),*];
    };
}

scripts! {
    election_dead_member
    election_first_start
    election_hello_forms
    election_joiner
    election_leader_killed
    election_leader_slept
    election_member_returns
    election_observers
    election_partitioned_member
    election_restart
    election_stale_votes
    election_stranger
    election_tie_break
    election_two_connections
    peer_after_sync
    peer_epoch_roll_over
    peer_multi
    peer_resumption_waits
    peer_session_expiry
    peer_snapshot_ticket
    peer_sweep
    s1_writes_are_submitted_at_once
    s2_one_zxid_a_turn
    s3_read_behind_write
    s4_reads_at_the_head
    s5_read_and_watch_are_one_step
    s6_answers_before_the_cursor
    s7_one_connection_a_session
    s8_stamps
    w1_zxid_order
    w2_entries_before_the_tree_is_let_go
    w3_entries
    w4_the_tree_stands_still_for_a_turn
    w5_bounded_streams
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts")
}

/// When something panics, says which line of the script was being run.
struct Running<'a> {
    script: &'a str,
    line: usize,
    command: &'a str,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("in tests/scripts/{}:{}: > {}", self.script, self.line, self.command);
        }
    }
}

/// Runs a script and compares its output with the file.
fn run(name: &str) {
    let script = format!("{}.txt", name.replace('_', "-"));
    let path = folder().join(&script);
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut servers = World::default();
    let mut electors = election::World::default();
    let is_election = name.starts_with("election_");
    let mut shown = String::new();
    for (line, source) in text.lines().enumerate() {
        let is_kept = source.is_empty() || source.starts_with('#') || source.starts_with("> ");
        if is_kept {
            shown.push_str(source);
            shown.push('\n');
        }
        if let Some(command) = source.strip_prefix("> ") {
            let _running = Running { script: &script, line: line + 1, command };
            let said = if is_election { electors.command(command) } else { servers.command(command) };
            for said in said {
                shown.push_str("  ");
                shown.push_str(&said);
                shown.push('\n');
            }
        }
    }
    expect_file![path].assert_eq(&shown);
}

#[test]
fn every_file_is_a_test() {
    let files = fs::read_dir(folder()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    let mut scripts: Vec<String> = files.filter_map(|f| Some(f.strip_suffix(".txt")?.replace('-', "_"))).collect();
    scripts.sort();
    let mut all = ALL.to_vec();
    all.sort_unstable();
    assert_eq!(scripts, all);
}
