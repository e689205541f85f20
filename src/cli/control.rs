//! `zabra start|stop|restart|status`, with the output and exit codes of zkServer.sh.

use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use super::ask::{ask, connect};
use super::output::{self, complain, line, out};
use super::server_paths::{Client, Site, env};
use super::{ControlArgs, daemon};
use crate::config::{ExitCode, host_and_port};
use crate::proto::four_letter;

/// `start` waits this long for the server to load its data; then it returns and leaves the server running.
const START_LIMIT: Duration = Duration::from_secs(120);
/// `stop` waits this long: the server syncs the log and closes its connections first.
pub(super) const STOP_LIMIT: Duration = Duration::from_secs(60);
/// Timeout of one four-letter word.
const ASK_LIMIT: Duration = Duration::from_secs(2);
/// Number of lines of the server's output that are shown when it has ended unexpectedly.
pub(super) const LAST_WORDS: usize = 12;

/// Set to something, this environment variable of zkServer.sh forbids to create the data directories.
pub(super) const NO_CREATE: &str = "ZOO_DATADIR_AUTOCREATE_DISABLE";
/// The same for the server.
pub(super) const NO_CREATE_PROPERTY: &str = "-Dzookeeper.datadir.autocreate=false";

/// The exit codes for success and failure, as in zkServer.sh.
const OK: ExitCode = ExitCode::Finished;
const FAILED: ExitCode = ExitCode::Unexpected;

fn site(args: &ControlArgs) -> Result<Site, ExitCode> {
    match Site::find(args) {
        Ok(site) => {
            output::err(&format!("Using config: {}\n", site.config_name()));
            Ok(site)
        }
        Err(what) => {
            complain(&what);
            Err(ExitCode::InvalidInvocation)
        }
    }
}

/// Starts a server in the background and waits until it serves or has died.
pub(super) fn start(args: &ControlArgs) -> ExitCode {
    match site(args) {
        Ok(site) => start_at(&site, &args.properties.pairs()),
        Err(code) => code,
    }
}

fn start_at(site: &Site, properties: &[(String, String)]) -> ExitCode {
    let no_create = env(NO_CREATE).is_some();
    if no_create && let Some(missing) = missing_directory(site) {
        line(&missing);
        return FAILED;
    }
    out("Starting zookeeper ... ");
    if let Some(pid) = running(site) {
        line(&format!("already running as process {pid}."));
        return FAILED;
    }
    let fail = |what: String| {
        line("FAILED TO START");
        complain(&what);
        FAILED
    };
    if let Some(client) = site.client.as_ref().filter(|c| c.port != 0)
        && connect(&client.host, client.port, ASK_LIMIT).is_ok()
    {
        return fail(format!(
            "{} is in use by another process: stop it or change clientPort",
            host_and_port(&client.host, client.port)
        ));
    }
    if let Err(what) = make_directories(site) {
        return fail(what);
    }
    // The output of earlier starts comes before.
    let output_from = std::fs::metadata(&site.out_file).map_or(0, |file| file.len());
    let mut child = match spawn_server(site, properties, no_create) {
        Ok(child) => child,
        Err(what) => return fail(what),
    };
    if let Err(e) = std::fs::write(&site.pid_file, child.id().to_string()) {
        line("FAILED TO WRITE PID");
        complain(&format!("{}: {e}: the server is stopped again: make the file writable", site.pid_file.display()));
        if let Err(e) = child.kill().and_then(|()| child.wait()) {
            complain(&format!("process {} cannot be stopped: {e}", child.id()));
        }
        return FAILED;
    }
    await_serving(site, &mut child, output_from)
}

/// The process id of the server that has locked the data directory, or of the Apache server that the pid file names.
fn running(site: &Site) -> Option<i32> {
    let ours = daemon::server_of(&site.data_dir).ok().flatten().map(|server| server.pid);
    ours.or_else(|| daemon::read_pid(&site.pid_file).filter(|pid| daemon::is_apache(*pid)))
}

/// zkServer.sh's message when a directory is missing and must not be created.
fn missing_directory(site: &Site) -> Option<String> {
    let kinds = [("data", &site.data_dir), ("txnlog", &site.data_log_dir)];
    let (kind, dir) = kinds.into_iter().find(|(_, dir)| !dir.join("version-2").is_dir())?;
    Some(format!("ZooKeeper {kind} directory is missing at {} fix the path or run initialize", dir.display()))
}

/// Creates the directories for the pid file and for the server's output.
fn make_directories(site: &Site) -> Result<(), String> {
    for dir in [site.pid_file.parent(), site.out_file.parent()].into_iter().flatten() {
        std::fs::create_dir_all(dir).map_err(|e| format!("{} cannot be created: {e}", dir.display()))?;
    }
    Ok(())
}

fn spawn_server(site: &Site, properties: &[(String, String)], no_create: bool) -> Result<Child, String> {
    let mut command = server_command(site, properties, no_create)?;
    daemon::spawn(&mut command, &site.out_file).map_err(|e| {
        let program = command.get_program().display();
        format!("{program} cannot be started with its output in {}: {e}", site.out_file.display())
    })
}

fn server_command(site: &Site, properties: &[(String, String)], no_create: bool) -> Result<Command, String> {
    let program = std::env::current_exe().map_err(|e| format!("the path of this program is unknown: {e}"))?;
    let mut command = Command::new(program);
    command.arg("serve").args(&site.file);
    command.args(properties.iter().map(|(k, v)| format!("-D{k}={v}")));
    command.args(no_create.then_some(NO_CREATE_PROPERTY));
    Ok(command)
}

/// Prints the command that `start` runs, as a line for a shell.
pub(super) fn print_cmd(args: &ControlArgs) -> ExitCode {
    let site = match site(args) {
        Ok(site) => site,
        Err(code) => return code,
    };
    match server_command(&site, &args.properties.pairs(), env(NO_CREATE).is_some()) {
        Ok(command) => {
            let words = std::iter::once(command.get_program()).chain(command.get_args());
            let words: Vec<String> = words.map(|word| quoted(&word.to_string_lossy())).collect();
            let file = quoted(&site.out_file.display().to_string());
            line(&format!("{} >> {file} 2>&1 < /dev/null", words.join(" ")));
            OK
        }
        Err(what) => {
            complain(&what);
            FAILED
        }
    }
}

/// A word as a shell has to read it.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}

fn await_serving(site: &Site, child: &mut Child, output_from: u64) -> ExitCode {
    let start = Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return died(site, status, output_from),
            Ok(None) => {}
            Err(e) => {
                line("FAILED TO START");
                complain(&format!("process {} cannot be watched: {e}", child.id()));
                return FAILED;
            }
        }
        let serves = match site.client.as_ref().filter(|c| c.port != 0) {
            Some(client) => answers(client),
            // The client port is not known, so the server cannot be asked: wait as long as zkServer.sh does.
            None => start.elapsed() > Duration::from_secs(1),
        };
        if serves {
            line("STARTED");
            return OK;
        }
        if start.elapsed() > START_LIMIT {
            line("STARTED");
            complain(&format!("process {} does not serve yet; see {}", child.id(), site.out_file.display()));
            return OK;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Whether the server answers, if only that `srvr` is not allowed. A member of an ensemble answers before it has a leader: who
/// starts the members one after the other must not wait for a quorum at the first.
fn answers(client: &Client) -> bool {
    ask(&client.host, client.port, four_letter::SRVR, ASK_LIMIT).is_ok_and(|answer| !answer.is_empty())
}

fn died(site: &Site, status: ExitStatus, output_from: u64) -> ExitCode {
    line("FAILED TO START");
    let how = how_it_ended(status);
    let last = last_lines(&site.out_file, output_from, LAST_WORDS);
    complain(&format!("the server {how}; the end of {}:\n{last}", site.out_file.display()));
    remove_pid_file(&site.pid_file);
    FAILED
}

/// What became of a server, as the rest of a sentence.
pub(super) fn how_it_ended(status: ExitStatus) -> String {
    match status.code() {
        Some(code) => {
            let meaning = ExitCode::from_code(code).map_or("an unknown reason", ExitCode::meaning);
            format!("ended with exit code {code} ({meaning})")
        }
        None => format!("was ended by a signal ({status})"),
    }
}

/// The last lines of a file that begin behind its first `from` bytes.
pub(super) fn last_lines(file: &Path, from: u64, count: usize) -> String {
    let bytes = std::fs::read(file).unwrap_or_else(|e| format!("(cannot be read: {e})").into_bytes());
    let begin = usize::try_from(from).ok().filter(|begin| *begin <= bytes.len()).unwrap_or(0);
    let text = String::from_utf8_lossy(&bytes[begin..]);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

fn remove_pid_file(file: &Path) {
    if let Err(e) = std::fs::remove_file(file) {
        complain(&format!("{} cannot be removed: {e}", file.display()));
    }
}

/// Stops the server that has locked the data directory and waits until it has ended.
pub(super) fn stop(args: &ControlArgs) -> ExitCode {
    match site(args) {
        Ok(site) => stop_at(&site),
        Err(code) => code,
    }
}

fn stop_at(site: &Site) -> ExitCode {
    out("Stopping zookeeper ... ");
    let server = match daemon::server_of(&site.data_dir) {
        Ok(Some(server)) => server,
        Ok(None) => return nothing_to_stop(site),
        Err(e) => {
            line("FAILED TO STOP");
            complain(&format!("the server of {} cannot be found: {e}", site.data_dir.display()));
            return FAILED;
        }
    };
    let pid = server.pid;
    if let Err(e) = server.terminate() {
        line("FAILED TO STOP");
        complain(&format!("process {pid}: {e}: stop it as the user who started it"));
        return FAILED;
    }
    if !server.wait(STOP_LIMIT) {
        line("FAILED TO STOP");
        complain(&format!(
            "process {pid} was sent SIGTERM and still runs after {} s: see its log",
            STOP_LIMIT.as_secs()
        ));
        return FAILED;
    }
    if site.pid_file.exists() {
        remove_pid_file(&site.pid_file);
    }
    line("STOPPED");
    OK
}

/// No process has locked the data directory. The process that the pid file names is left alone, because its id may
/// since have been given to another program.
fn nothing_to_stop(site: &Site) -> ExitCode {
    let file = site.pid_file.display();
    if !site.pid_file.is_file() {
        line(&format!("no zookeeper to stop (could not find file {file})"));
        return OK;
    }
    match daemon::read_pid(&site.pid_file).filter(|pid| daemon::lives(*pid)) {
        Some(pid) if daemon::is_apache(pid) => {
            line("FAILED TO STOP");
            complain(&format!("process {pid} of {file} is an Apache ZooKeeper server: stop it with zkServer.sh"));
            return FAILED;
        }
        Some(pid) => {
            line(&format!("no zookeeper to stop (process {pid} of {file} does not have {})", site.data_dir.display()));
        }
        None => line(&format!("no zookeeper to stop (the process of {file} has ended)")),
    }
    remove_pid_file(&site.pid_file);
    OK
}

/// Stops the server and starts it again.
pub(super) fn restart(args: &ControlArgs) -> ExitCode {
    let site = match site(args) {
        Ok(site) => site,
        Err(code) => return code,
    };
    match stop_at(&site) {
        OK => start_at(&site, &args.properties.pairs()),
        failed => failed,
    }
}

/// Asks the server for its mode.
pub(super) fn status(args: &ControlArgs) -> ExitCode {
    let site = match site(args) {
        Ok(site) => site,
        Err(code) => return code,
    };
    let Some(client) = &site.client else {
        line("Unable to find either secure or unsecure client port in any configs. Terminating.");
        return FAILED;
    };
    line(&format!("Client port found: {}. Client address: {}. Client SSL: {}.", client.port, client.host, client.tls));
    let answer = if client.tls { None } else { ask(&client.host, client.port, four_letter::SRVR, ASK_LIMIT).ok() };
    match answer.as_deref().and_then(mode) {
        Some(mode) => {
            line(mode);
            OK
        }
        None => {
            if client.tls {
                line("Note: this version of Zabra cannot ask a port that speaks TLS.");
            }
            line("Error contacting service. It is probably not running.");
            // zkServer.sh's message alone would mislead: a member of an ensemble answers so while it has no leader.
            if let Some(said) = answer.as_deref().and_then(|answer| answer.lines().next()) {
                complain(&format!("it runs, and its answer is: {said}"));
            }
            FAILED
        }
    }
}

/// The line `Mode: …` of an answer to `srvr`.
pub(super) fn mode(answer: &str) -> Option<&str> {
    answer.lines().find(|line| line.contains("Mode"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mode_is_one_line_of_srvr() {
        assert_eq!(mode("Zookeeper version: 3.9\nMode: standalone\nNode count: 5\n"), Some("Mode: standalone"));
        assert_eq!(mode("srvr is not executed because it is not in the whitelist."), None);
    }

    #[test]
    fn last_words() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("out");
        std::fs::write(&file, "1\n2\n3\n").expect("written");
        assert_eq!(last_lines(&file, 0, 2), "2\n3");
        assert_eq!(last_lines(&file, 0, 9), "1\n2\n3");
        assert_eq!(last_lines(&file, 4, 9), "3");
        assert_eq!(last_lines(&file, 99, 1), "3", "it was emptied meanwhile");
        assert!(last_lines(&dir.path().join("none"), 0, 9).contains("cannot be read"));
    }
}
