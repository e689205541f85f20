//! A member of an ensemble as a process of its own: its start, and what it shows before it has a leader and when it leads alone.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use super::server::{Home, PATIENCE, Server, free_port, wait_until};
use super::wire::{Client, text};
use zabra::types::Op;

const NOT_SERVING: &str = "This ZooKeeper instance is not currently serving requests\n";

/// The lines of a member with these servers, the ids of which begin at 1.
fn lines(servers: usize, more: &str) -> String {
    let line = |id| format!("server.{id}=127.0.0.1:{}:{}\n", free_port(), free_port());
    let servers: String = (1..=servers).map(line).collect();
    format!("initLimit=10\nsyncLimit=5\n4lw.commands.whitelist=*\n{servers}{more}\n")
}

/// A home with the id 1.
fn home(lines: &str) -> Home {
    let home = Home::new(lines);
    fs::create_dir_all(home.data()).expect("a directory");
    fs::write(home.data().join("myid"), "1\n").expect("myid");
    home
}

/// Starts a member and waits until it prints that it has started.
fn start(home: &Home, members: usize) -> Server {
    let mut server = home.spawn();
    let ready = format!("member 1 of {members}, clients on {}", home.addr());
    wait_until("the member says that it has started", || {
        if let Some(status) = server.ended() {
            panic!("the member ended with {status}:\n{}", server.stderr());
        }
        server.stdout().contains(&ready)
    });
    server
}

fn get(port: u16, path: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the admin server accepts");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("sent");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    text
}

#[test]
fn a_member_without_a_quorum_serves_nobody_and_says_so() {
    let admin = free_port();
    let home = home(&lines(3, &format!("admin.enableServer=true\nadmin.serverPort={admin}")));
    let server = start(&home, 3);
    for word in ["srvr", "stat", "mntr", "conf", "crst", "srst", "dirs", "wchs", "dump", "cons"] {
        assert_eq!(server.word(word), NOT_SERVING, "{word}");
    }
    assert_eq!((server.word("ruok").as_str(), server.word("isro").as_str()), ("imok", "null"));
    assert!(server.word("envi").starts_with("Environment:\n"));
    let answer = get(admin, "/commands/leader");
    assert!(answer.contains("This ZooKeeper instance is not currently serving requests"), "{answer}");
    assert!(get(admin, "/commands/zabstate").contains("\"voting\" : false"));
    assert!(get(admin, "/livez").starts_with("HTTP/1.1 200"), "its cores make turns");
    assert!(get(admin, "/readyz").starts_with("HTTP/1.1 503"), "it serves nobody");
    let mut refused = TcpStream::connect(home.addr()).expect("the port is open");
    refused.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let mut handshake = vec![0; 48];
    handshake[3] = 44;
    (handshake[18], handshake[31]) = (1, 16); // a timeout, and a password of 16 bytes
    refused.write_all(&handshake).expect("sent");
    assert_eq!(refused.read_to_end(&mut Vec::new()).expect("closed"), 0, "no answer, as on Apache");
    server.stop();
    assert_eq!(fs::read(home.data().join("version-2/acceptedEpoch")).expect("an epoch"), b"0");
}

#[test]
fn an_ensemble_of_one_leads_itself_and_goes_on_after_a_restart() {
    let admin = free_port();
    let home = home(&lines(1, &format!("standaloneEnabled=false\nadmin.enableServer=true\nadmin.serverPort={admin}")));
    for epoch in 1..=3 {
        let server = start(&home, 1);
        wait_until("it leads", || server.word("srvr").contains("Mode: leader\n"));
        assert!(server.word("srvr").contains("\nProposal sizes last/min/max: "));
        assert!(server.word("mntr").contains("zk_peer_state\tleading - broadcast\n"));
        assert!(server.word("srvr").contains(&format!("\nZxid: 0x{epoch}00000000\n")), "nothing is proposed yet");
        let mut client = Client::connect(server.addr());
        assert_eq!(client.create(&format!("/{epoch}"), b""), Ok(format!("/{epoch}")));
        assert_eq!(client.children("/", false).expect("there").len(), epoch + 1);
        let (config, stat) = client.get("/zookeeper/config", false).expect("readable");
        let text = String::from_utf8(config).expect("text");
        assert!(text.starts_with("server.1=127.0.0.1:") && text.ends_with(":participant\nversion=0"), "{text}");
        assert_eq!(stat.version, -1);
        assert!(server.word("conf").ends_with(&text) && server.word("conf").contains("\nserverId=1\n"));
        assert!(get(admin, "/commands/leader").contains("\"leader_id\" : 1"));
        assert!(get(admin, "/readyz").starts_with("HTTP/1.1 200"));
        drop(client);
        server.stop();
        assert_eq!(
            fs::read_to_string(home.data().join("version-2/currentEpoch")).expect("an epoch"),
            epoch.to_string()
        );
    }
}

/// `zkServer-initialize.sh` makes the file that lets it begin a database.
#[test]
fn an_empty_directory_gets_no_vote_if_it_may_not_begin_a_database() {
    let home = home(&lines(1, "standaloneEnabled=false\ndb.autocreate=false"));
    let server = start(&home, 1);
    wait_until("it looks for a leader", || server.stderr().contains("listening for other servers"));
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(server.word("srvr"), NOT_SERVING);
    server.stop();
    assert_eq!(home.snapshots().len(), 0, "there is no database");
    fs::write(home.data().join("initialize"), "").expect("the file");
    let server = start(&home, 1);
    wait_until("it leads", || server.word("srvr").contains("Mode: leader\n"));
    server.stop();
    assert_eq!((home.snapshots().len(), home.data().join("initialize").exists()), (1, false));
}

#[test]
fn local_sessions_are_known_to_their_server_only_until_an_ephemeral_needs_more() {
    for upgrading in [false, true] {
        let more = format!("localSessionsEnabled=true\nlocalSessionsUpgradingEnabled={upgrading}");
        let home = home(&lines(1, &format!("standaloneEnabled=false\n{more}")));
        let server = start(&home, 1);
        wait_until("it leads", || server.word("srvr").contains("Mode: leader\n"));
        let sessions = |global, local| {
            let mntr = server.word("mntr");
            mntr.contains(&format!("zk_global_sessions\t{global}\n"))
                && mntr.contains(&format!("zk_local_sessions\t{local}\n"))
        };
        let mut client = Client::connect(server.addr());
        assert!(sessions(0, 1), "{}", server.word("mntr"));
        assert_eq!(client.create("/plain", b""), Ok("/plain".into()));
        let sync = client.call(Op::SYNC, &text("/plain"));
        assert_eq!((sync.err, sync.body), (0, text("/plain")));
        if upgrading {
            assert_eq!(client.create_mode("/e", b"", 1), Ok("/e".into()));
            assert!(sessions(1, 0), "{}", server.word("mntr"));
        } else {
            assert_eq!(client.create_mode("/e", b"", 1), Err(-120), "EPHEMERALONLOCALSESSION");
            assert!(sessions(0, 1), "{}", server.word("mntr"));
        }
        client.close();
        wait_until("it has no session", || sessions(0, 0));
        let mut next = Client::connect(server.addr());
        assert_eq!(next.children("/", false).expect("there").len(), 2, "/plain and /zookeeper");
        server.stop();
    }
}

#[test]
fn what_a_member_must_be_told_is_asked_for_with_exit_code_2() {
    let home = Home::new(&lines(3, ""));
    let (code, said) = home.start_refused();
    assert!(code == 2 && said.contains("myid: is missing"), "{code}: {said}");
}
