//! Open descriptors of members whose connections break.

use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};

use zabra::types::ServerId;
use zabra::zab::hello::{Addresses, ElectionAddress, Hello};

use super::super::server::wait_until;
use super::{Ensemble, QUICK};

/// How often the other follower goes away.
const ROUNDS: usize = 6;

/// Strangers of each kind in a round.
const STRANGERS: usize = 40;

/// Connections to both ports of a leader that end in every way, while a follower is killed and returns: each loses its
/// descriptor.
#[test]
fn a_connection_that_broke_keeps_no_descriptor() {
    let mut three = Ensemble::started(3, QUICK);
    let (leader, follower) = (three.leader(), three.follower());
    let ports = ports(&three, leader);
    break_connections(&mut three, follower, ports);
    three.all_serve();
    let before = descriptors(&three, leader);
    for _ in 0..ROUNDS {
        break_connections(&mut three, follower, ports);
    }
    three.all_serve();
    // A segment of the log, a snapshot or a dial may be open that was not before; a leak is one for each round at least.
    let mut open = 0;
    wait_until("the descriptors are closed", || {
        open = descriptors(&three, leader);
        open < before + ROUNDS
    });
    assert_eq!(three.find_leader(), Some(leader), "the leader changed, and what was counted is not what was broken");
}

fn break_connections(three: &mut Ensemble, follower: usize, ports: [u16; 2]) {
    three.kill(follower);
    for port in ports {
        for n in 0..STRANGERS {
            stranger(port, n);
        }
    }
    three.start(follower);
    three.serves(follower);
}

/// Says nothing, says who it is, or says garbage; then it goes with what it was sent unread, which resets the connection.
fn stranger(port: u16, n: usize) {
    let mut stream = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).expect("the port is open");
    let mut hello = Vec::new();
    let address = ElectionAddress { host: "127.0.0.1".into(), port: 1 };
    Hello { server: ServerId(9), addresses: Addresses::One(address) }.put(&mut hello);
    let said: &[u8] = [&b""[..], &hello, b"\x7f garbage, and more of it than a hello has"][n % 3];
    // The server may have closed it already.
    let _ = stream.write_all(said);
}

/// The ports of a member for its learners and for elections.
fn ports(three: &Ensemble, id: usize) -> [u16; 2] {
    let name = format!("server.{id}=127.0.0.1:");
    let line = three.lines.lines().find_map(|line| line.strip_prefix(&name)).expect("its line");
    let (quorum, election) = line.split_once(':').expect("two ports");
    [quorum.parse().expect("a port"), election.parse().expect("a port")]
}

fn descriptors(three: &Ensemble, id: usize) -> usize {
    fs::read_dir(format!("/proc/{}/fd", three.server(id).pid())).expect("it runs").count()
}
