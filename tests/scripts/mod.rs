//! Tests that can be read as text: the commands in a file drive the shipped turns of shards and peer core and the
//! shipped log, and below each command stands what they send to clients and to each other. Scripts of elections drive the
//! election and its links, scripts of ensembles whole members. `README.md` in this folder explains the language.
//!
//! A line that begins with `> ` is a command. Comments (`#`) and empty lines are kept. All other lines are the output
//! of the commands: `UPDATE_EXPECT=1 cargo test --test zabra scripts::` writes them again.

mod client;
mod command;
mod doubles;
mod election;
mod ensemble;
mod journal;
mod member;
mod show;
mod world;

use std::fs;
use std::path::{Path, PathBuf};

use expect_test::expect_file;
use world::World;

/// What a script drives.
#[derive(Clone, Copy)]
enum Of {
    Servers,
    Elections,
    Ensembles,
}

/// One test for each file of this folder; `_` stands for the `-` in its name.
macro_rules! scripts {
    ($($of:ident: $($name:ident)*;)*) => {
        $($(
            #[test]
            fn $name() {
                run(stringify!($name), Of::$of);
            }
        )*)*

        const ALL: &[&str] = &[$($(stringify!($name)),*),*];
    };
}

scripts! {
    Elections:
    election_ask_a_follower
    election_dead_member
    election_first_start
    election_first_start_of_three
    election_hello_forms
    election_hello_legacy_bare_sid
    election_hello_v2_accepted_without_multiaddress
    election_joiner
    election_leader_killed
    election_leader_slept
    election_member_returns
    election_multi_address
    election_notification_28_bytes
    election_notification_40_bytes
    election_observers
    election_observing_answer
    election_partitioned_member
    election_restart
    election_stale_notifications_after_reconnect
    election_stranger_is_answered
    election_tie_break
    election_two_connections
    trap_15_one_notification_proves_nothing
    trap_16_strangers_pieces_and_dead_hosts;
    Ensembles:
    broadcast_close_session_through_follower
    broadcast_create_session_through_follower
    broadcast_multi_through_follower
    broadcast_ttl_and_container_sweep
    broadcast_writes_through_follower
    follower_stands_still
    interop_bytes_behind_known_fields_are_ignored
    leader_loses_its_quorum
    leader_shutdown_by_sigterm
    leader_stands_still
    local_session_closes
    local_session_upgrade
    local_session_upgrade_by_multi
    local_session_writes
    observer_forwards
    observer_joins
    observer_returns_diff
    observer_switches_its_log
    observer_without_log_returns_snap
    ping_with_touches
    read_only_client_handshake
    rolling_restart_with_another_configuration
    session_expires
    session_moved_multi
    session_moves_between_members
    session_request_at_a_change_of_leader
    session_revalidate_refused
    sync_diff_from_committed_log
    sync_diff_from_log_on_disk
    sync_diff_nothing_missing
    sync_diff_under_load
    sync_first_start_diff_empty
    sync_late_joiner_snap_without_transactions
    sync_request_through_follower
    sync_snap_because_leader_restarted
    sync_snap_because_of_other_epoch
    sync_snap_empty_directory
    sync_snap_under_load
    sync_trunc
    trap_01_newleader_acked_before_the_history_is_durable
    trap_02_currentepoch_saved_before_the_history
    trap_03_a_proposal_acked_before_newleader
    trap_04_a_commit_between_newleader_and_uptodate
    trap_05_a_hole_in_the_history_in_memory
    trap_06_memory_ahead_of_the_disk_after_a_role_change
    trap_07_half_a_snap_taken_for_a_state
    trap_08_trunc_that_does_not_cut
    trap_09_records_below_a_snap_are_handed_on
    trap_10_a_snap_is_fuzzy
    trap_11_a_zxid_is_used_twice
    trap_12_a_claim_of_a_newer_epoch
    trap_13_two_leaders_in_one_epoch
    trap_14_an_epochs_zeroth_zxid
    trap_17_a_ping_between_newleader_and_uptodate
    trap_18_a_peer_that_does_not_read_or_sends_garbage
    trap_19_a_reconfig_that_comes_into_force
    trap_20_sessions_that_end_or_move
    trunc_below_a_received_snapshot
    zxid_counter_used_up;
    Servers:
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
    w5_bounded_streams;
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
fn run(name: &str, of: Of) {
    let script = format!("{}.txt", name.replace('_', "-"));
    let path = folder().join(&script);
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut servers = World::default();
    let mut electors = election::World::default();
    let mut members = ensemble::World::default();
    let mut shown = String::new();
    for (line, source) in text.lines().enumerate() {
        let is_kept = source.is_empty() || source.starts_with('#') || source.starts_with("> ");
        if is_kept {
            shown.push_str(source);
            shown.push('\n');
        }
        if let Some(command) = source.strip_prefix("> ") {
            let _running = Running { script: &script, line: line + 1, command };
            let (command, is_quiet) = match command.strip_prefix("quietly ") {
                Some(command) => (command, true),
                None => (command, false),
            };
            let said = match of {
                Of::Servers => servers.command(command),
                Of::Elections => electors.command(command),
                Of::Ensembles => members.command(command),
            };
            for said in said.into_iter().filter(|_| !is_quiet) {
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

/// Each of the traps into which other servers fell has a script that begins with it.
#[test]
fn every_trap_has_its_script() {
    for trap in 1..=20 {
        let prefix = format!("trap_{trap:02}_");
        let found: Vec<_> = ALL.iter().filter(|name| name.starts_with(&prefix)).collect();
        let [name] = found[..] else { panic!("trap {trap}: {found:?}") };
        let path = folder().join(format!("{}.txt", name.replace('_', "-")));
        let text = fs::read_to_string(path).expect("a script");
        assert!(text.starts_with(&format!("# Trap {trap} (")), "{name} does not begin with what went wrong");
    }
}

/// Recorded exchanges that are told in a script of another name.
const TOLD_IN: [(&str, &str); 5] = [
    ("apache-leader-undecodable-write", "trap_11_a_zxid_is_used_twice"),
    ("election-five-servers-one-by-one", "election_first_start"),
    ("observer-elects-a-dead-leader", "election_observers"),
    ("observer-informed", "observer_joins"),
    ("sync-request-through-follower-with-outstanding", "sync_request_through_follower"),
];

/// What these recorded exchanges show is not supported yet: reconfig, observer masters, SASL between servers.
fn is_unsupported(walk: &str) -> bool {
    ["reconfig-", "observer-master-", "quorum-sasl-"].iter().any(|kind| walk.starts_with(kind))
}

/// Each exchange that was recorded from Apache is told in a script, which names it.
#[test]
fn every_recorded_walk_has_its_script() {
    let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ensemble/vectors");
    let names = fs::read_dir(vectors).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    let mut walks: Vec<String> = names.filter_map(|f| Some(f.strip_suffix(".txt")?.to_owned())).collect();
    // Between a server and its clients: not among the vectors.
    walks.push("read-only-client-handshake".into());
    assert!(walks.len() > 60);
    for walk in walks.iter().filter(|walk| !is_unsupported(walk)) {
        let told_in = TOLD_IN.iter().find(|(told, _)| told == walk).map(|(_, script)| (*script).to_owned());
        let script = told_in.unwrap_or_else(|| walk.replace('-', "_"));
        assert!(ALL.contains(&script.as_str()), "{walk} has no script");
        let text = fs::read_to_string(folder().join(format!("{}.txt", script.replace('_', "-")))).expect("a script");
        let comments = text.lines().filter(|line| line.starts_with('#'));
        let mut words = comments.flat_map(|line| line.split(|c: char| !c.is_ascii_alphanumeric() && c != '-'));
        assert!(words.any(|word| word == walk), "{script} does not say that {walk} is told there");
    }
}
