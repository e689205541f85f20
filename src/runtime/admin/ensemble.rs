//! What the answers say of the ensemble: as JSON, and as the lines of `conf`. Mirrors the commands `LeaderCommand`,
//! `VotingViewCommand`, `ZabStateCommand` and `SyncedObserverConsCommand`, and `QuorumZooKeeperServer.dumpConf`.

use serde_json::{Map, Value, json};

use super::java;
use super::report::Report;
use crate::config::host_and_port;
use crate::peer::role_status::Mode;
use crate::quorum::{ClientAddress, Member, Role};
use crate::types::ServerId;

/// The client address that ZooKeeper shows when none is configured: every address of the host.
const ANY: &str = "0.0.0.0";

/// The lines that `conf` has on a member after those of every server. The configuration has no line break at its end.
pub(super) fn conf(r: &Report) -> Option<String> {
    let own = r.peer.role.members.as_ref()?.get(r.peer.role.me)?;
    let (init, sync) = (r.config.ensemble.init_limit, r.config.ensemble.sync_limit);
    let ports = |pick: fn(&crate::quorum::PeerAddress) -> u16| {
        own.addresses.iter().map(|a| pick(a).to_string()).collect::<Vec<_>>().join("|")
    };
    let (election, quorum) = (ports(|a| a.election_port), ports(|a| a.quorum_port));
    let kind = match own.role {
        Role::Participant => 0,
        Role::Observer => 1,
    };
    let membership = r.members().map_or(String::new(), |members| format!("membership: \n{}", members.text()));
    Some(format!(
        "initLimit={init}\nsyncLimit={sync}\nelectionAlg=3\nelectionPort={election}\nquorumPort={quorum}\npeerType={kind}\n\
         {membership}"
    ))
}

/// `leader`.
pub(super) fn leader(r: &Report) -> Value {
    let role = &r.peer.role;
    let Some(members) = r.members() else { return json!({"error": "server is not initialized"}) };
    let of_leader = role.leader.and_then(|leader| members.get(leader)).and_then(|member| member.addresses.first());
    json!({
        "is_leader": role.mode == Mode::Leader,
        "leader_id": role.leader.map_or(-1, |leader| leader.0),
        "leader_ip": of_leader.map_or("", |address| address.host.as_str()),
    })
}

/// Addresses of a member for other servers, with one of its two ports.
fn addresses(member: &Member, election: bool) -> Vec<String> {
    let port = |a: &crate::quorum::PeerAddress| if election { a.election_port } else { a.quorum_port };
    member.addresses.iter().map(|a| host_and_port(&a.host, port(a))).collect()
}

/// Where the clients of a server connect. Of another server only its line tells.
fn client_address(r: &Report, server: ServerId, member: &Member) -> String {
    match &member.client {
        Some(ClientAddress { host, port }) => host_and_port(host, *port),
        None if server == r.peer.role.me => {
            let host = r.config.client.host.map_or(ANY.to_owned(), |host| host.to_string());
            host_and_port(&host, r.config.client.port)
        }
        None => String::new(),
    }
}

/// `voting_view`.
pub(super) fn voting_view(r: &Report) -> Value {
    let mut view = Map::new();
    let members = r.members().into_iter().flat_map(|members| members.iter());
    for (server, member) in members.filter(|(_, member)| member.role == Role::Participant) {
        let shown = json!({
            "server_addresses": addresses(member, false),
            "election_addresses": addresses(member, true),
            "client_address": client_address(r, server, member),
            "learner_type": "participant",
        });
        view.insert(server.0.to_string(), shown);
    }
    json!({"current_config": view})
}

/// The addresses of one of a member's ports as ZooKeeper shows them. Which can be reached is not tried: the first is shown.
fn all_addresses(member: &Member, election: bool) -> Value {
    let all = addresses(member, election);
    let ports: Vec<u16> =
        member.addresses.iter().map(|a| if election { a.election_port } else { a.quorum_port }).collect();
    let first = all.first().cloned().unwrap_or_default();
    json!({
        "empty": all.is_empty(),
        "all_addresses": all,
        "wildcard_addresses": ports.iter().map(|port| host_and_port(ANY, *port)).collect::<Vec<_>>(),
        "all_ports": ports,
        "all_host_strings": member.addresses.iter().map(|a| a.host.as_str()).collect::<Vec<_>>(),
        "reachable_address": first,
        "all_reachable_addresses": all,
        "all_reachable_addresses_or_all": all,
        "reachable_or_one": first,
        "one": first,
    })
}

/// `zabstate`.
pub(super) fn zab_state(r: &Report) -> Value {
    let role = &r.peer.role;
    let own = r.members().and_then(|members| members.get(role.me)).filter(|_| role.is_running);
    let Some(own) = own else { return json!({"voting": false, "zabstate": ""}) };
    let last = r.peer.last_zxid;
    json!({
        "myid": role.me.0,
        "is_leader": role.mode == Mode::Leader,
        "quorum_address": all_addresses(own, false),
        "election_address": all_addresses(own, true),
        "client_address": client_address(r, role.me, own),
        "voting": role.votes(),
        "last_zxid": last.to_string(),
        "zab_epoch": last.epoch().0,
        "zab_counter": last.counter(),
        "zabstate": role.zab.word(),
    })
}

/// `observers`: those that follow this server.
pub(super) fn observers(r: &Report) -> Value {
    let observers = r.peer.role.leading.iter().flat_map(|leading| &leading.observers);
    let all: Vec<Value> = observers
        .map(|o| {
            json!({
                "remote_socket_address": format!("/{}", java::socket_address(&o.from)),
                "sid": o.server.0,
                "established": o.since_wall_ms,
                "queued_packets": o.queued_packets,
                "queued_packets_size": o.queued_bytes,
                "packets_received": o.traffic.received,
                "packets_sent": o.traffic.sent,
                "requests": o.traffic.requests,
                "last_zxid": o.traffic.last_zxid.0,
            })
        })
        .collect();
    json!({"synced_observers": all.len(), "observers": all})
}

/// `proposal_stats` of a leader.
pub(super) fn proposal_stats(r: &Report) -> Option<Value> {
    let sizes = r.peer.role.leading.as_ref()?.proposal_sizes;
    let (last, min, max) = shown_sizes(sizes);
    Some(json!({"last_buffer_size": last, "min_buffer_size": min, "max_buffer_size": max}))
}

/// Last, minimum and maximum; -1 before the first proposal.
pub(super) fn shown_sizes(sizes: Option<(u64, u64, u64)>) -> (i64, i64, i64) {
    sizes.map_or((-1, -1, -1), |(last, min, max)| (last as i64, min as i64, max as i64))
}
