//! Replays bytes recorded from Apache ZooKeeper 3.9 to a fresh server. `apache-3.9/README.md` explains the files.

mod replay;
mod vectors;

use std::fs;
use std::path::PathBuf;

use crate::process::server::Home;
use crate::process::wire::Client;
use replay::replay;

/// Recordings whose last connection may or may not get replies before it is closed, depending on timing.
const ENDS_WITH_ANYTHING: [&str; 2] = ["unknown-opcode-between-requests", "close-session-then-requests"];

/// The recording that shows the root's stat on a fresh server; it is replayed first.
const FIRST: &str = "connect-without-read-only-byte";

fn fixtures() -> Vec<(String, String)> {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/apache-3.9");
    let mut found: Vec<_> = fs::read_dir(dir)
        .expect("the fixtures")
        .filter_map(|e| {
            let path = e.expect("an entry").path();
            let name = path.file_name()?.to_str()?.strip_suffix(".hex")?.to_string();
            Some((name, fs::read_to_string(&path).expect("text")))
        })
        .collect();
    found.sort_by_key(|(name, _)| (name != FIRST, name.clone()));
    found
}

/// A configuration like `tools/interop/zoo.cfg.in`, but without container checks, which would use zxids at
/// unpredictable times.
fn home(shards: usize) -> Home {
    let lines = "nio.sessionlessCnxnTimeout=1000\nminSessionTimeout=1000\n4lw.commands.whitelist=*\nextendedTypesEnabled=true\nenforceQuota=true\n\
                 DigestAuthenticationProvider.superDigest=super:/49OUaS/Rm5CIudE7EhYoMwy+PY=";
    Home::new(lines).define("znode.container.checkIntervalMs=3600000").define(&format!("zabra.shards={shards}"))
}

/// The last zxid when it no longer changes: after an exchange a closeSession may still follow.
fn settled(clock: &mut Client) -> i64 {
    let mut last = clock.ping().zxid;
    loop {
        std::thread::sleep(std::time::Duration::from_millis(5));
        let now = clock.ping().zxid;
        if now == last {
            return now;
        }
        last = now;
    }
}

fn all(home: &Home) {
    let server = home.start();
    let mut clock = Client::connect(server.addr());
    let fixtures = fixtures();
    assert!(fixtures.len() >= 150, "{} fixtures", fixtures.len());
    let mut wrong = Vec::new();
    for (name, text) in &fixtures {
        let base = settled(&mut clock);
        let lenient = ENDS_WITH_ANYTHING.contains(&name.as_str());
        if let Err(difference) = replay(server.addr(), base, text, lenient) {
            wrong.push(format!("{name}: {difference}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {} exchanges differ:\n{}", wrong.len(), fixtures.len(), wrong.join("\n"));
    server.stop();
}

#[test]
fn every_exchange_is_as_recorded_from_apache() {
    all(&home(1));
}

#[test]
fn every_exchange_is_as_recorded_with_several_shards() {
    all(&home(3));
}

#[test]
fn every_exchange_is_as_recorded_over_epoll() {
    all(&home(1).io("epoll"));
}
