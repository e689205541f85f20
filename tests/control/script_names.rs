//! The binary under the names `zkServer.sh` and `zkCli.sh`, in a directory laid out as Apache's.

use std::path::PathBuf;
use std::process::Command;

use super::{Site, said, without_settings};

/// A ZooKeeper home: `bin` with the links, `conf` with zoo.cfg.
struct Home(Site);

impl Home {
    fn new() -> Home {
        let home = Home(Site::new(""));
        for dir in ["bin", "conf"] {
            std::fs::create_dir(home.path(dir)).expect("made");
        }
        std::fs::rename(home.0.config(), home.path("conf/zoo.cfg")).expect("moved");
        std::os::unix::fs::symlink(home.path("conf/zoo.cfg"), home.0.config()).expect("linked");
        for name in ["zkServer.sh", "zkCli.sh"] {
            std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_zabra"), home.path("bin").join(name)).expect("linked");
        }
        home
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.dir.path().join(name)
    }

    /// Runs a command line in the home's parent, where no relative path helps.
    fn run(&self, program: &str, args: &[&str]) -> (i32, String, String) {
        let mut command = Command::new(program);
        without_settings(&mut command);
        command.args(args).current_dir("/");
        let path = format!("{}:/usr/bin:/bin", self.path("bin").display());
        said(command.env("PATH", path).output().expect("runs"))
    }

    fn zk_server(&self, args: &[&str]) -> (i32, String, String) {
        self.run(self.path("bin/zkServer.sh").to_str().expect("text"), args)
    }
}

#[test]
fn zk_server_sh_starts_asks_and_stops() {
    let home = Home::new();
    let (code, out, err) = home.zk_server(&["start"]);
    assert_eq!((code, out.as_str()), (0, "Starting zookeeper ... STARTED\n"), "{err}");
    assert_eq!(err, format!("Using config: {}\n", home.path("bin/../conf/zoo.cfg").display()));
    let logs: Vec<_> = std::fs::read_dir(home.path("logs")).expect("made").collect();
    assert_eq!(logs.len(), 1, "its output is in logs: {logs:?}");
    // Found on PATH, as a script is.
    let (code, out, err) = home.run("zkServer.sh", &["status"]);
    assert!(code == 0 && out.ends_with("Mode: standalone\n"), "{out}{err}");
    let (code, out, err) = home
        .run("sh", &["-c", "zkServer.sh --config \"$0\" status zoo.cfg", home.path("conf").to_str().expect("text")]);
    assert!(code == 0 && out.ends_with("Mode: standalone\n"), "{out}{err}");
    let server = format!("127.0.0.1:{}", home.0.port);
    let (code, out, err) = home.run("zkCli.sh", &["-server", &server, "create", "/a", "1"]);
    assert_eq!(code, 0, "{out}{err}");
    let (code, out, err) = home.run("zkCli.sh", &["-server", &server, "get", "/a"]);
    assert!(code == 0 && out.ends_with("\n1\n"), "{out}{err}");
    let (code, out, _) = home.zk_server(&["restart"]);
    assert_eq!((code, out.as_str()), (0, "Stopping zookeeper ... STOPPED\nStarting zookeeper ... STARTED\n"));
    assert_eq!(home.zk_server(&["stop", "zoo.cfg"]).0, 0);
    let (code, out, _) = home.zk_server(&["status"]);
    assert!(code == 1 && out.contains("It is probably not running"), "{out}");
}

/// What a shell reads from `java.env` and `zookeeper-env.sh` holds for the server.
#[test]
fn zk_server_sh_reads_the_environment_files() {
    let home = Home::new();
    let other = home.0.port ^ 1;
    let text = format!("more=-DclientPort={other}\nSERVER_JVMFLAGS=\"-Xmx512m $more $SERVER_JVMFLAGS\"\n");
    std::fs::write(home.path("conf/java.env"), text).expect("written");
    std::fs::write(home.path("conf/zookeeper-env.sh"), "ZOO_LOG_DIR=$ZOOCFGDIR/../its-logs\n").expect("written");
    let (code, out, err) = home.zk_server(&["print-cmd"]);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains(&format!("'-DclientPort={other}'")) && !out.contains("-Xmx"), "{out}");
    assert!(out.contains("/its-logs/"), "{out}");
    // A file that fails is told, and nothing starts.
    std::fs::write(home.path("conf/java.env"), "exit 7\n").expect("written");
    assert_eq!(home.zk_server(&["start"]).0, 7);
    assert!(!home.0.pid_file().exists());
}

#[test]
fn zk_server_sh_explains_itself_and_what_is_missing() {
    let home = Home::new();
    for args in [&[][..], &["begin"], &["--config", "/x"]] {
        let (code, _, err) = home.zk_server(args);
        assert!(code == 2 && err.starts_with("Usage: ") && err.contains("start-foreground"), "{args:?}: {code} {err}");
    }
    let (code, out, _) = home.zk_server(&["version"]);
    assert!(code == 0 && out.starts_with("Zabra version"), "{out}");
    let (code, _, err) = home.zk_server(&["start", "none.cfg"]);
    assert!(code == 2 && err.contains("bin/../conf/none.cfg"), "{code} {err}");
    let (code, _, err) = home.zk_server(&["start-foreground", "none.cfg"]);
    assert!(code != 0 && err.contains("bin/../conf/none.cfg"), "{code} {err}");
}
