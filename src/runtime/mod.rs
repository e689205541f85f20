//! Everything that touches the operating system: sockets on io_uring or epoll, the mapped log and its thread, mailboxes
//! between cores, clocks, signals. No ZooKeeper semantics are decided here.

pub mod admin;
pub mod boot;
pub mod clock;
pub mod conn_limits;
mod core;
mod core_threads;
pub mod cores;
mod data_dirs;
pub mod dialer;
pub mod disk;
pub mod fatal;
pub mod feeder;
pub mod housekeeping;
pub mod log_thread;
pub mod logging;
pub mod mailbox;
mod member;
mod memory;
pub mod net;
mod peer_core;
mod peer_net;
pub mod resolve;
mod settings;
mod shard_core;
pub mod shared;
mod signal_mask;
pub mod signals;
pub mod snapshot_thread;
mod start_error;
mod thread_dump;
pub mod threads;
mod tree_cell;

/// Runs an ignored test of the calling module in a process of its own, because it changes the whole process (limits,
/// mounts, signals) or ends it. Returns the test's output; fails unless the process ends with `code` (0 by default).
#[cfg(test)]
macro_rules! in_own_process {
    ($name:expr) => {
        crate::runtime::own_process(module_path!(), $name, 0)
    };
    ($name:expr, $code:expr) => {
        crate::runtime::own_process(module_path!(), $name, $code)
    };
}
#[cfg(test)]
pub(crate) use in_own_process;

#[cfg(test)]
fn own_process(module: &str, name: &str, code: i32) -> String {
    let exe = std::env::current_exe().unwrap();
    let full = format!("{}::{name}", module.split_once("::").unwrap().1);
    let out = std::process::Command::new(exe).args(["--exact", &full, "--ignored", "--nocapture"]).output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(said.contains("running 1 test"), "no test {full}: {said}");
    assert_eq!(out.status.code(), Some(code), "{said}");
    said
}
