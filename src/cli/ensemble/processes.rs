//! The members as processes: started, asked for their roles, watched, stopped.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use super::super::ask::ask;
use super::super::control::{LAST_WORDS, STOP_LIMIT, how_it_ended, last_lines, mode};
use super::super::daemon;
use super::layout::{Layout, Member};
use super::table::Row;
use crate::config::host_and_port;
use crate::proto::four_letter;
use crate::runtime::cores::allowed_cpus;

/// Timeout of a question to a member. One that stands still is only asked when a table is made.
const ASK_LIMIT: Duration = Duration::from_secs(2);
/// The property that chooses a member's CPUs.
const CORES: &str = "zabra.cores";

/// How the start went.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Begun {
    /// One member leads, and all others serve as well.
    Serves,
    /// A signal came before.
    ToldToStop,
    /// A member has ended, or there was no leader in time; the text says so.
    Failed(String),
}

/// Members that this process has started.
#[derive(Debug)]
pub(super) struct Started {
    members: Vec<(Member, Child)>,
}

impl Started {
    /// Starts all members. If one cannot be started the others are stopped again.
    ///
    /// # Errors
    /// Why one cannot be started.
    pub(super) fn all(layout: &Layout, properties: &[(String, String)], detach: bool) -> Result<Started, String> {
        let cpus = allowed_cpus().map_err(|e| format!("the CPUs of this process are unknown: {e}"))?;
        let mut started = Started { members: Vec::new() };
        for (nth, member) in layout.members.iter().enumerate() {
            match spawn(member, properties, cpus[nth % cpus.len()], detach) {
                Ok(child) => started.members.push((member.clone(), child)),
                Err(what) => {
                    started.kill();
                    return Err(format!("member {} cannot be started: {what}", member.id));
                }
            }
        }
        Ok(started)
    }

    /// Ends members that have not served yet, so that nothing is lost.
    fn kill(&mut self) {
        for (_, child) in &mut self.members {
            // It may have ended by itself.
            let _ = child.kill().and_then(|()| child.wait());
        }
    }

    /// Waits until one member leads and all serve; calls `told_to_stop`, which pauses, between two looks.
    pub(super) fn await_leader(&mut self, limit: Duration, mut told_to_stop: impl FnMut() -> bool) -> Begun {
        let begin = Instant::now();
        loop {
            if told_to_stop() {
                return Begun::ToldToStop;
            }
            let ended = self.ended();
            if !ended.is_empty() {
                return Begun::Failed(ended.join("\n"));
            }
            let roles: Vec<Option<String>> = self.members.iter().map(|(m, _)| role(m)).collect();
            let leads = |role: &Option<String>| role.as_deref().is_some_and(|r| r == "leader" || r == "standalone");
            if roles.iter().all(Option::is_some) && roles.iter().filter(|r| leads(r)).count() == 1 {
                return Begun::Serves;
            }
            if begin.elapsed() > limit {
                let waited = self.members.iter().zip(&roles).filter(|(_, role)| role.is_none());
                let silent: Vec<String> =
                    waited.map(|((m, _), _)| format!("member {}: {}", m.id, m.log.display())).collect();
                let secs = limit.as_secs();
                return Begun::Failed(format!(
                    "not all members serve after {secs} s; see the logs of\n{}",
                    silent.join("\n")
                ));
            }
        }
    }

    /// What is to be said about members that have ended since the last call.
    pub(super) fn ended(&mut self) -> Vec<String> {
        let mut said = Vec::new();
        self.members.retain_mut(|(member, child)| match child.try_wait() {
            Ok(None) => true,
            Ok(Some(status)) => {
                said.push(end_of(member, child.id(), status));
                false
            }
            Err(e) => {
                said.push(format!("member {} (process {}) cannot be watched: {e}", member.id, child.id()));
                false
            }
        });
        said
    }

    pub(super) fn are_gone(&self) -> bool {
        self.members.is_empty()
    }
}

fn end_of(member: &Member, pid: u32, status: ExitStatus) -> String {
    let last = last_lines(&member.log, 0, LAST_WORDS);
    format!(
        "member {} (process {pid}) {}; the end of {}:\n{last}",
        member.id,
        how_it_ended(status),
        member.log.display()
    )
}

/// Starts a member. Each has one CPU, the next one each time, unless the properties choose: alone, every server would take
/// the same ones.
fn spawn(member: &Member, properties: &[(String, String)], cpu: usize, detach: bool) -> Result<Child, String> {
    let program = std::env::current_exe().map_err(|e| format!("the path of this program is unknown: {e}"))?;
    let mut command = Command::new(program);
    command.arg("serve").arg(&member.config);
    if !properties.iter().any(|(key, _)| key == CORES) {
        command.arg(format!("-D{CORES}={cpu}"));
    }
    command.args(properties.iter().map(|(k, v)| format!("-D{k}={v}")));
    // SAFETY: only system calls that are async-signal-safe, between fork and exec.
    unsafe {
        command.pre_exec(move || {
            let mut none = std::mem::zeroed();
            libc::sigemptyset(&mut none);
            // This process blocks the signals that it waits for; the member must get them.
            if libc::pthread_sigmask(libc::SIG_SETMASK, &none, std::ptr::null_mut()) != 0 {
                return Err(io::Error::last_os_error());
            }
            // Members in the foreground do not outlive the command, however that ends.
            if !detach && libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM) != 0 {
                return Err(io::Error::last_os_error());
            }
            Ok(())
        });
    }
    daemon::spawn(&mut command, &member.log).map_err(|e| format!("{} with its output in {}", e, member.log.display()))
}

/// The process that has the member's data directory, whoever started it.
pub(super) fn pid(member: &Member) -> Option<i32> {
    daemon::server_of(&member.data).ok().flatten().map(|process| process.pid)
}

/// `leader`, `follower` and so on; `None` while it does not serve.
fn role(member: &Member) -> Option<String> {
    let answer = ask(&member.client.host, member.client.port, four_letter::SRVR, ASK_LIMIT).ok()?;
    Some(mode(&answer)?.trim_start_matches("Mode: ").to_string())
}

/// The member as the table shows it.
pub(super) fn row(member: &Member) -> Row {
    let pid = pid(member);
    let role = pid.and_then(|_| role(member));
    let without = if pid.is_some() { "not serving" } else { "not running" };
    Row {
        id: member.id,
        role: role.unwrap_or_else(|| without.into()),
        client: host_and_port(&member.client.host, member.client.port),
        pid,
        config: member.config.display().to_string(),
    }
}

/// Stops those members that run, and waits until they have ended. Returns how many have, and what went wrong. `started` are
/// those that may not have locked their directories yet.
pub(super) fn stop(members: &[Member], started: Option<&Started>) -> (usize, Vec<String>) {
    let mut problems = Vec::new();
    let mut told = Vec::new();
    for member in members {
        match running(member, started) {
            Ok(None) => {}
            Ok(Some(process)) => match process.terminate() {
                Ok(()) => told.push((member.id, process)),
                Err(e) => {
                    problems.push(format!("member {} (process {}) cannot be stopped: {e}", member.id, process.pid))
                }
            },
            Err(e) => problems.push(format!("the process of member {} cannot be found: {e}", member.id)),
        }
    }
    let end = Instant::now() + STOP_LIMIT;
    let mut stopped = 0;
    for (id, process) in told {
        if process.wait(end.saturating_duration_since(Instant::now())) {
            stopped += 1;
        } else {
            let secs = STOP_LIMIT.as_secs();
            problems
                .push(format!("member {id} (process {}) still runs {secs} s after SIGTERM: see its log", process.pid));
        }
    }
    (stopped, problems)
}

/// The member's process: the one that has its directory, or else the one that was started for it.
fn running(member: &Member, started: Option<&Started>) -> io::Result<Option<daemon::Process>> {
    if let Some(process) = daemon::server_of(&member.data)? {
        return Ok(Some(process));
    }
    let child = started.and_then(|s| s.members.iter().find(|(m, _)| m.id == member.id));
    child.map_or(Ok(None), |(_, child)| daemon::Process::open(child.id() as i32))
}
