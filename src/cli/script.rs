//! The binary under the names `zkServer.sh` and `zkCli.sh` (links to it): their arguments and environment variables
//! become those of the binary's own commands, so that scripts which call them work unchanged.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::control::{NO_CREATE, NO_CREATE_PROPERTY};
use super::output::{complain, err};
use super::server_paths::{config_file, env};
use crate::config::ExitCode;

/// Files beside zoo.cfg that the scripts read as shell text, in this order.
const SHELL_FILES: [&str; 2] = ["zookeeper-env.sh", "java.env"];
/// Set once these files were read.
const WERE_READ: &str = "ZABRA_SCRIPT_ENVIRONMENT_READ";
/// zkServer.sh's commands.
const COMMANDS: [&str; 7] = ["start", "start-foreground", "stop", "version", "restart", "status", "print-cmd"];

/// A script that the binary stands in for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Script {
    Server,
    Client,
}

/// Translates the process's arguments if the binary was called by the name of a script, and leaves them as they are
/// otherwise.
///
/// # Errors
/// The exit code of a call that a script does not understand, or that failed; the reason was printed.
pub(super) fn translate(args: Vec<OsString>) -> Result<Vec<OsString>, ExitCode> {
    let called = args.first().map(PathBuf::from).unwrap_or_default();
    let Some(script) = script(&called) else { return Ok(args) };
    let place = place_of(&called);
    match script {
        Script::Client => {
            read_environment(&place, configuration_directory(None, &place))?;
            Ok([OsString::from("zabra"), "shell".into()].into_iter().chain(args.into_iter().skip(1)).collect())
        }
        Script::Server => server(&called, &place, &args[1..]),
    }
}

fn script(called: &Path) -> Option<Script> {
    match called.file_name()?.to_str()? {
        "zkServer.sh" => Some(Script::Server),
        "zkCli.sh" => Some(Script::Client),
        _ => None,
    }
}

/// The file that was called. A shell finds a script on PATH and passes its whole path on; a binary is only told the
/// word that was typed.
fn place_of(called: &Path) -> PathBuf {
    if called.components().count() > 1 {
        return called.to_owned();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|dir| dir.join(called)).find(|file| file.is_file()).unwrap_or(called.to_owned())
}

/// The directory of zoo.cfg: the one that was named, $ZOOCFGDIR, or one beside the script's directory.
fn configuration_directory(named: Option<PathBuf>, place: &Path) -> PathBuf {
    let beside = |name: &str| place.parent().unwrap_or(Path::new(".")).join("..").join(name);
    let usual = || {
        let conf = beside("conf");
        if conf.exists() { conf } else { beside("etc/zookeeper") }
    };
    named.or_else(|| env("ZOOCFGDIR").map(PathBuf::from)).unwrap_or_else(usual)
}

/// Lets a shell read the files that may set environment variables and then run this program again. Does nothing if it
/// did so before, or if there are no such files.
fn read_environment(place: &Path, dir: PathBuf) -> Result<(), ExitCode> {
    let files: Vec<PathBuf> = SHELL_FILES.iter().map(|name| dir.join(name)).filter(|file| file.exists()).collect();
    if files.is_empty() || std::env::var_os(WERE_READ).is_some() {
        return Ok(());
    }
    // `set -a` exports what they set: the scripts and these files share one shell, which needs no export.
    let mut text = String::from("set -a; me=$1; shift; count=$1; shift; ");
    text.push_str(
        "while [ \"$count\" -gt 0 ]; do . \"$1\" || exit 2; shift; count=$((count - 1)); done; exec \"$me\" \"$@\"",
    );
    let mut shell = Command::new("/bin/sh");
    shell.arg("-c").arg(text).arg("sh").arg(place).arg(files.len().to_string()).args(&files);
    shell.args(std::env::args_os().skip(1)).env(WERE_READ, "1").env("ZOOCFGDIR", &dir);
    let error = shell.exec();
    complain(&format!("/bin/sh cannot read {}: {error}", files[0].display()));
    Err(ExitCode::Unexpected)
}

fn server(called: &Path, place: &Path, args: &[OsString]) -> Result<Vec<OsString>, ExitCode> {
    let (named, rest) = match args {
        [option, dir, rest @ ..] if option == "--config" => (Some(PathBuf::from(dir)), rest),
        rest => (None, rest),
    };
    let command = rest.first().and_then(|word| word.to_str()).unwrap_or_default();
    if !COMMANDS.contains(&command) {
        err(&format!("Usage: {} [--config <conf-dir>] {{{}}}\n", called.display(), COMMANDS.join("|")));
        return Err(ExitCode::InvalidInvocation);
    }
    let dir = configuration_directory(named, place);
    read_environment(place, dir.clone())?;
    let file = rest.get(1);
    let mut new: Vec<OsString> = vec!["zabra".into(), command.into()];
    match command {
        "version" => return Ok(new),
        "start-foreground" => {
            let file = config_file(file.map(|name| name.to_string_lossy()).as_deref(), Some(&dir));
            new.extend(file.map(OsString::from));
            new.extend(env(NO_CREATE).is_some().then(|| NO_CREATE_PROPERTY.into()));
        }
        _ => {
            let logs = place.parent().unwrap_or(Path::new(".")).join("../logs");
            new.extend(["--config".into(), dir.into(), "--log-dir".into(), logs.into()]);
            new.extend(file.cloned());
        }
    }
    new.extend(properties().map(OsString::from));
    Ok(new)
}

/// The properties among the flags for the Java machine. Other flags of it mean nothing here.
fn properties() -> impl Iterator<Item = String> {
    let flags = ["SERVER_JVMFLAGS", "JVMFLAGS"].map(|name| env(name).unwrap_or_default());
    let words: Vec<String> = flags.iter().flat_map(|text| text.split_whitespace()).map(str::to_owned).collect();
    words.into_iter().filter(|word| word.len() > 2 && word.starts_with("-D"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_names_of_scripts_are_translated() {
        for (name, script_of_it) in [
            ("zabra", None),
            ("/usr/bin/zabra", None),
            ("zkServer.sh", Some(Script::Server)),
            ("./bin/zkCli.sh", Some(Script::Client)),
            ("zkCli.sh/zabra", None),
            ("", None),
        ] {
            assert_eq!(script(Path::new(name)), script_of_it, "{name}");
        }
        let words = ["zabra", "start", "zoo.cfg"].map(OsString::from).to_vec();
        assert_eq!(translate(words.clone()), Ok(words));
    }

    #[test]
    fn zoo_cfg_is_looked_for_beside_the_script() {
        let home = tempfile::tempdir().expect("a directory");
        let place = home.path().join("bin/zkServer.sh");
        assert_eq!(configuration_directory(Some("/c".into()), &place), Path::new("/c"));
        assert_eq!(configuration_directory(None, &place), home.path().join("bin/../etc/zookeeper"));
        for dir in ["bin", "conf"] {
            std::fs::create_dir(home.path().join(dir)).expect("made");
        }
        assert_eq!(configuration_directory(None, &place), home.path().join("bin/../conf"));
    }
}
