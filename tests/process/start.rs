//! Starting: what is printed when it works, and the exit code and message when it does not.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

use super::server::{Confined, Home, wait_until};
use super::wire::Client;

const INVALID: i32 = 2;
const DATA_DIR: i32 = 3;
const BIND: i32 = 14;
const IN_USE: i32 = 22;

/// Checks that the server refuses to start with this exit code, and that its message contains these words.
fn refused(home: &Home, code: i32, words: &[&str]) -> String {
    let (actual, said) = home.start_refused();
    assert_eq!(actual, code, "{said}");
    for word in words {
        assert!(said.contains(word), "{word:?} is not in what the server said:\n{said}");
    }
    said
}

#[test]
fn one_line_says_that_the_server_is_ready() {
    let home = Home::new("");
    let server = home.start();
    let line = format!(
        "zabra {}: serving clients on {}, data in {}\n",
        env!("CARGO_PKG_VERSION"),
        home.addr(),
        home.data().display()
    );
    assert_eq!(server.stdout(), line);
    let mut client = Client::connect(server.addr());
    assert_eq!(client.children("/", false), Ok(vec!["zookeeper".to_string()]));
    drop(client);
    server.stop();
}

#[test]
fn the_old_positional_form_serves() {
    let home = Home::new("");
    let output = home.run(&["serve", "1", "2", "3", "4", "5"]);
    assert_eq!(output.status.code(), Some(INVALID));
    let output = home.run(&["serve", "notaport", "dir"]);
    assert_eq!(output.status.code(), Some(INVALID), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_bad_configuration_is_refused_with_every_problem_and_its_line() {
    let home = Home::new("initLimit=soon\nsyncEnabled=perhaps");
    let said = refused(&home, INVALID, &["initLimit", "soon", "syncEnabled", "perhaps"]);
    assert!(said.contains("zoo.cfg:"), "the file and line of each problem: {said}");
    for lines in ["minSessionTimeout=5000\nmaxSessionTimeout=4000", "clientPort=70000", "clientPort=-1", "tickTime=0"] {
        refused(&Home::new(lines), INVALID, &[lines.split('=').next().expect("a key")]);
    }
}

#[test]
fn a_missing_configuration_file_is_named() {
    let home = Home::new("");
    let output = home.run(&["serve", "nowhere/zoo.cfg"]);
    assert_eq!(output.status.code(), Some(INVALID));
    assert!(String::from_utf8_lossy(&output.stderr).contains("nowhere/zoo.cfg"));
}

#[test]
fn what_is_not_built_yet_is_refused_never_ignored() {
    for line in [
        "secureClientPort=2281",
        "ssl.keyStore.location=/k.jks",
        "ssl.quorum.trustStore.location=/t.jks",
        "authProvider.1=org.apache.zookeeper.server.auth.SASLAuthenticationProvider",
        "sessionRequireClientSASLAuth=true",
        "enforce.auth.schemes=sasl",
        "sslQuorum=true",
        "quorum.auth.enableSasl=true",
    ] {
        let key = line.split('=').next().expect("a key");
        let said = refused(&Home::new(line), INVALID, &[key]);
        assert!(!said.contains("panicked"), "{said}");
    }
    refused(&Home::new("").define("zookeeper.ssl.keyStore.location=/k.jks"), INVALID, &["ssl.keyStore.location"]);
    refused(&Home::new("").define("java.security.auth.login.config=/jaas"), INVALID, &["SASL"]);
}

#[test]
fn an_unknown_key_is_named_in_a_warning_and_the_server_serves() {
    let home = Home::new("maxClientConnections=5");
    let server = home.start();
    let said = server.stderr();
    let named = said.lines().filter(|l| l.contains("maxClientConnections")).count();
    assert_eq!(named, 1, "{said}");
    server.stop();
}

#[test]
fn a_port_in_use_is_refused() {
    let home = Home::new("");
    let _holder = TcpListener::bind(home.addr()).expect("the port is free");
    refused(&home, BIND, &[&home.port().to_string()]);
}

#[test]
fn a_second_server_on_the_same_directory_is_refused() {
    let home = Home::new("");
    let server = home.start();
    let second = Home::new("").data_in(home.data().to_owned());
    refused(&second, IN_USE, &[&home.data().display().to_string()]);
    // The first server was not affected.
    assert_eq!(Client::connect(server.addr()).create("/a", b""), Ok("/a".into()));
    server.stop();
    second.start().stop();
}

#[test]
fn a_data_directory_that_cannot_be_made_is_refused() {
    let home = Home::new("");
    fs::write(home.path().join("file"), "").expect("a file");
    let under_a_file = home.path().join("file/data");
    let home = home.data_in(under_a_file);
    refused(&home, DATA_DIR, &["file/data"]);
    refused(&Home::new("datadir.autocreate=false"), DATA_DIR, &["data"]);
}

#[test]
fn logs_are_kept_apart_in_their_own_directory_and_files_in_the_wrong_one_are_refused() {
    let mut home = Home::new("");
    let log_dir = home.path().join("logs");
    home.set_lines(&format!("dataLogDir={}", log_dir.display()));
    let server = home.start();
    Client::connect(server.addr()).create("/a", b"x").expect("new");
    server.kill();
    assert!(home.logs().is_empty() && !home.snapshots().is_empty());
    let server = home.start();
    assert_eq!(Client::connect(server.addr()).get("/a", false).map(|(d, _)| d), Ok(b"x".to_vec()));
    let second = Home::new(&format!("dataLogDir={}", log_dir.display()));
    refused(&second, IN_USE, &[&log_dir.display().to_string()]);
    server.stop();
    let snapshot = home.snapshots().pop().expect("a snapshot");
    let wrong = log_dir.join("version-2").join(snapshot.file_name().expect("a name"));
    fs::copy(&snapshot, &wrong).expect("copied");
    refused(&home, DATA_DIR, &["snapshot", &log_dir.display().to_string()]);
    fs::remove_file(wrong).expect("removed");
    home.start().stop();
}

#[test]
fn an_empty_directory_needs_leave_to_begin_without_autocreate() {
    let home = Home::new("db.autocreate=false");
    refused(&home, DATA_DIR, &["initialize"]);
    fs::write(home.data().join("initialize"), "").expect("the mark");
    home.start().stop();
    assert!(!home.data().join("initialize").exists(), "the leave is used up");
    home.start().stop();
}

/// Runs the server as a user other than root, since root may write everywhere in spite of a file's mode.
#[test]
fn a_read_only_data_directory_is_refused() {
    let home = Home::new("");
    home.start().stop();
    let version_2 = home.data().join("version-2");
    let mount = ReadOnly::mount(&version_2);
    let Some(_mount) = mount else {
        // If this test does not run as root, the mode is enough.
        fs::set_permissions(&version_2, fs::Permissions::from_mode(0o500)).expect("own directory");
        refused(&home, DATA_DIR, &["version-2"]);
        fs::set_permissions(&version_2, fs::Permissions::from_mode(0o700)).expect("own directory");
        home.start().stop();
        return;
    };
    refused(&home, DATA_DIR, &["version-2", "mounted read-only"]);
}

#[test]
fn a_directory_that_its_user_may_not_write_is_refused_at_start() {
    let mut home = Home::new("").confined(Confined { nobody: true, ..Confined::default() });
    let logs = home.path().join("logs");
    home.set_lines(&format!("dataLogDir={}", logs.display()));
    home.start().stop();
    for dir in [home.data(), &logs] {
        let version_2 = dir.join("version-2");
        let files = || fs::read_dir(&version_2).expect("listed").count();
        let before = files();
        fs::set_permissions(&version_2, fs::Permissions::from_mode(0o555)).expect("changed");
        let named = version_2.display().to_string();
        refused(&home, DATA_DIR, &[&named, "cannot be written", "does the user of the server own this directory?"]);
        assert_eq!(files(), before);
        fs::set_permissions(&version_2, fs::Permissions::from_mode(0o755)).expect("changed");
    }
    home.start().stop();
}

/// A directory that is bind-mounted over itself, read-only.
struct ReadOnly(std::path::PathBuf);

impl ReadOnly {
    /// `None` if mounting is not allowed.
    fn mount(dir: &std::path::Path) -> Option<ReadOnly> {
        let mount = |args: &[&str]| {
            let done = std::process::Command::new("mount").args(args).arg(dir).output();
            done.is_ok_and(|o| o.status.success())
        };
        let from = dir.to_str().expect("a plain name");
        if !mount(&["--bind", from]) {
            return None;
        }
        let mounted = ReadOnly(dir.to_owned());
        mount(&["-o", "remount,bind,ro"]).then_some(mounted)
    }
}

impl Drop for ReadOnly {
    fn drop(&mut self) {
        wait_until("the directory is unmounted", || {
            std::process::Command::new("umount").arg(&self.0).status().is_ok_and(|s| s.success())
        });
    }
}

#[test]
fn help_and_version_are_told_on_standard_output() {
    let home = Home::new("");
    let version = home.run(&["version"]);
    assert_eq!(version.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&version.stdout).contains(env!("CARGO_PKG_VERSION")));
    let help = home.run(&["serve", "--help"]);
    assert_eq!(help.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&help.stdout).contains("Exit codes"));
    assert_eq!(home.run(&["frobnicate"]).status.code(), Some(INVALID));
}
