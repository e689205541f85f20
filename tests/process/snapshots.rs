//! Snapshots taken while serving: each is whole and restores the same tree, and old ones are purged.

use std::collections::BTreeMap;
use std::fs;
use std::thread;

use zabra::types::{Op, Stat};

use super::server::{Home, Server, wait_until};
use super::stop_and_kill::Load;
use super::wire::{Client, create_body, multi_body, set_body, text};

/// Every znode outside `/zookeeper` with data and stat, as a client sees it.
fn tree(server: &Server) -> BTreeMap<String, (Vec<u8>, Stat)> {
    let mut client = Client::connect(server.addr());
    let mut found = BTreeMap::new();
    let mut todo = vec!["/".to_string()];
    while let Some(path) = todo.pop() {
        found.insert(path.clone(), client.get(&path, false).expect("listed"));
        for name in client.children(&path, false).expect("listed") {
            if path == "/" && name == "zookeeper" {
                continue;
            }
            todo.push(if path == "/" { format!("/{name}") } else { format!("{path}/{name}") });
        }
    }
    found
}

/// Creates, changes and deletes znodes, also sequential and ephemeral ones and in multis, while snapshots are taken.
fn churn(server: &Server, writers: usize, times: usize) {
    let threads: Vec<_> = (0..writers)
        .map(|w| {
            let addr = server.addr();
            thread::spawn(move || {
                let mut random = fastrand::Rng::with_seed(w as u64);
                let mut client = Client::connect(addr);
                let top = format!("/t{w}");
                client.create(&top, b"").expect("new");
                for i in 0..times {
                    let path = format!("{top}/{}", random.u8(..20));
                    let seen = match random.u8(..8) {
                        0 | 1 => client.create(&path, &[i as u8; 30]).err(),
                        2 => client.delete(&path, -1).err(),
                        3 => client.set(&path, &[i as u8; 50], -1).err(),
                        4 => client.create_mode(&format!("{path}-"), b"sequence", 2).err(),
                        5 => client.create(&format!("{path}/deep"), b"").err(),
                        6 => {
                            let mut other = Client::connect(addr);
                            let made = other.create_mode(&format!("{top}/e-"), b"", 3).err();
                            other.close();
                            made
                        }
                        _ => {
                            let ops = [
                                (Op::CREATE, create_body(&format!("{path}-"), b"multi", 2)),
                                (Op::SET_DATA, set_body(&top, &[i as u8], -1)),
                                (Op::CHECK, [text(&path), 3i32.to_be_bytes().to_vec()].concat()),
                            ];
                            assert_eq!(client.call(Op::MULTI, &multi_body(&ops[..2 + i % 2])).err, 0);
                            None
                        }
                    };
                    // Expected errors: the znode is missing, exists already, or has children. No others are.
                    assert!(seen.is_none_or(|e| [-101, -110, -111].contains(&e)), "{seen:?}");
                }
                client.close();
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("the load was served");
    }
}

fn verified(home: &Home, words: &[&str]) {
    let output = home.run(words);
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{words:?}:\n{said}");
}

#[test]
fn each_snapshot_of_a_busy_server_starts_the_same_tree() {
    let home = Home::new("snapCount=100\nautopurge.purgeInterval=0\nzabra.shards=2");
    let server = home.start();
    churn(&server, 3, 400);
    let expected = tree(&server);
    wait_until("several snapshots", || home.snapshots().len() >= 6);
    server.kill();
    let snapshots = home.snapshots();
    for file in &snapshots {
        verified(&home, &["snapshot", "verify", file.to_str().expect("a plain name")]);
    }
    for log in home.logs() {
        verified(&home, &["log", "verify", log.to_str().expect("a plain name")]);
    }
    // Each of the oldest snapshots, one in the middle and the newest, each with all logs after it.
    let copy = home.path().join("copy");
    for keep in [0, 1, snapshots.len() / 2, snapshots.len() - 1] {
        if copy.exists() {
            fs::remove_dir_all(&copy).expect("removed");
        }
        fs::create_dir_all(copy.join("version-2")).expect("made");
        for file in home.logs().iter().chain([&snapshots[keep]]) {
            let to = copy.join("version-2").join(file.file_name().expect("a name"));
            fs::copy(file, to).expect("copied");
        }
        let other = Home::new("autopurge.purgeInterval=0").data_in(copy.clone());
        let server = other.start();
        let said = server.stderr();
        assert!(!said.contains("digest"), "replay from {}:\n{said}", snapshots[keep].display());
        let actual = tree(&server);
        for (path, node) in &expected {
            assert_eq!(actual.get(path), Some(node), "{path}, from {}", snapshots[keep].display());
        }
        assert_eq!(actual.len(), expected.len(), "from {}", snapshots[keep].display());
        server.kill();
    }
}

#[test]
fn writes_go_on_while_a_large_snapshot_is_taken() {
    let home = Home::new("snapCount=3000\nautopurge.purgeInterval=0");
    let server = home.start();
    let mut client = Client::connect(server.addr());
    for i in 0..2500 {
        client.send(Op::CREATE, &create_body(&format!("/n{i}"), &[5; 3000], 0));
    }
    for _ in 0..2500 {
        assert_eq!(client.reply().err, 0);
    }
    let before = home.snapshots().len();
    let load = Load::on(&server, 2);
    wait_until("two more snapshots", || home.snapshots().len() >= before + 2);
    load.stop();
    let expected = tree(&server);
    server.kill();
    let server = home.start();
    assert_eq!(tree(&server), expected);
    server.stop();
}

#[test]
fn packed_snapshots_start_a_server_too() {
    for (method, ending) in [("gz", ".gz"), ("snappy", ".snappy")] {
        let home = Home::new(&format!("snapCount=50\nsnapshot.compression.method={method}"));
        let server = home.start();
        churn(&server, 2, 100);
        let expected = tree(&server);
        let packed = || {
            let names = fs::read_dir(home.data().join("version-2")).expect("the directory");
            names.filter(|n| n.as_ref().is_ok_and(|n| n.file_name().to_string_lossy().ends_with(ending))).count()
        };
        wait_until("packed snapshots", || packed() >= 2);
        server.kill();
        let server = home.start();
        assert_eq!(tree(&server), expected, "{method}");
        server.stop();
    }
}

#[test]
fn old_snapshots_and_their_logs_are_purged() {
    let home = Home::new("snapCount=50\nautopurge.snapRetainCount=3\nautopurge.purgeInterval=100ms");
    let server = home.start();
    let mut client = Client::connect(server.addr());
    client.create("/a", b"").expect("new");
    let first = home.logs().first().cloned().expect("a log");
    wait_until("the first log is purged", || {
        for _ in 0..50 {
            client.set("/a", b"x", -1).expect("served");
        }
        !first.exists()
    });
    let version = client.set("/a", b"last", -1).expect("served").version;
    drop(client);
    wait_until("three snapshots are left", || home.snapshots().len() == 3);
    server.kill();
    // The server starts from what is left, also from its oldest snapshot.
    for snapshot in home.snapshots().into_iter().skip(1) {
        fs::remove_file(snapshot).expect("removed");
    }
    let server = home.start();
    let (data, stat) = Client::connect(server.addr()).get("/a", false).expect("there");
    assert_eq!((data, stat.version), (b"last".to_vec(), version));
    server.stop();
}

#[test]
fn unfinished_snapshots_are_not_taken_for_snapshots() {
    let home = Home::new("");
    let server = home.start();
    Client::connect(server.addr()).create("/a", b"x").expect("new");
    server.kill();
    let version_2 = home.data().join("version-2");
    let whole = fs::read(home.snapshots().pop().expect("a snapshot")).expect("readable");
    // As left by a kill in the middle of writing one, with and without a proper end.
    fs::write(version_2.join("snapshot.2"), &whole[..whole.len() / 2]).expect("written");
    fs::write(version_2.join("snapshot.1"), b"").expect("written");
    let server = home.start();
    assert_eq!(Client::connect(server.addr()).get("/a", false).map(|(d, _)| d), Ok(b"x".to_vec()));
    server.stop();
    // If no log has the transactions in its name, a damaged snapshot may be all that is left of them.
    fs::write(version_2.join("snapshot.7fffffff"), &whole[..whole.len() / 2]).expect("written");
    let (code, said) = home.start_refused();
    assert_eq!(code, 21, "{said}");
    assert!(said.contains("snapshot.7fffffff"), "{said}");
}
