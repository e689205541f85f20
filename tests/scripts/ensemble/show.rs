//! Packets between members as text.

use zabra::jute::Reader;
use zabra::peer::disk::DiskDone;
use zabra::peer::turn::TreeAccess;
use zabra::peer::{Input, feed::FeedAnswer};
use zabra::proto::Request;
use zabra::txn::{Txn, TxnHeader};
use zabra::txnlog::feed::Fed;
use zabra::types::{Epoch, Op, Zxid};
use zabra::zab::message::{Forwarded, FromLeader, FromLearner};
use zabra::zab::packet::{Packet, Split, split};

use super::clients::Sessions;
use super::world::Server;
use crate::scripts::show;
pub use crate::scripts::show::zxid;

/// The end of a snapshot's stream.
pub const SIGNATURE: &[u8] = b"\0\0\0\x0aBenWasHere";

/// Most bytes of a packet's data.
pub const LIMIT: usize = 1 << 20;

/// Writes the zxids of a text, which have nine or ten digits, as everywhere in scripts.
pub fn zxids(text: &str) -> String {
    let mut parts = text.split("0x");
    let mut shown = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let digits = part.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(part.len());
        // Longer ones are sessions.
        let number = i64::from_str_radix(&part[..digits], 16).ok().filter(|_| (9..=10).contains(&digits));
        let number = number.map_or_else(|| format!("0x{}", &part[..digits]), |number| zxid(Zxid(number)));
        shown.push_str(&number);
        shown.push_str(&part[digits..]);
    }
    shown
}

/// What one side writes on a connection between a leader and a learner, cut into packets.
#[derive(Default, Debug)]
pub struct Talk {
    /// Bytes of a snapshot's stream that has not ended.
    image: Option<Vec<u8>>,
}

/// A part of what was written.
pub struct Said {
    /// Its length.
    pub len: usize,
    /// What it says, if it says something.
    pub what: Option<String>,
    pub is_ping: bool,
}

impl Talk {
    /// Cuts `bytes` into parts. Members write whole packets.
    pub fn read(&mut self, bytes: &[u8], of_leader: bool, sessions: &Sessions) -> Vec<Said> {
        let mut parts = Vec::new();
        let mut rest = bytes;
        while !rest.is_empty() {
            let said = match &mut self.image {
                Some(_) => self.stream(rest),
                None => self.packet(rest, of_leader, sessions),
            };
            rest = &rest[said.len..];
            parts.push(said);
        }
        parts
    }

    fn stream(&mut self, bytes: &[u8]) -> Said {
        let image = self.image.as_mut().expect("it has begun");
        let before = image.len();
        image.extend_from_slice(bytes);
        let end = image.windows(SIGNATURE.len()).position(|window| window == SIGNATURE);
        let Some(end) = end else { return Said { len: bytes.len(), what: None, is_ping: false } };
        let what = Some(format!("a snapshot of {end} bytes"));
        self.image = None;
        Said { len: end + SIGNATURE.len() - before, what, is_ping: false }
    }

    fn packet(&mut self, bytes: &[u8], of_leader: bool, sessions: &Sessions) -> Said {
        let Ok(Split::Whole(packet, len)) = split(bytes, LIMIT) else {
            return Said {
                len: bytes.len(),
                what: Some(format!("{} bytes that are no packet", bytes.len())),
                is_ping: false,
            };
        };
        let (what, is_ping) = if of_leader { self.of_leader(&packet, sessions) } else { of_learner(packet, sessions) };
        Said { len, what: Some(what), is_ping }
    }

    fn of_leader(&mut self, packet: &Packet<'_>, sessions: &Sessions) -> (String, bool) {
        let said = FromLeader::read(packet).expect("a leader's packet");
        let what = match said {
            FromLeader::LeaderInfo { epoch: Epoch(epoch), .. } => format!("LEADERINFO epoch {epoch}"),
            FromLeader::Diff(to) => format!("DIFF {}", zxid(to)),
            FromLeader::Trunc(to) => format!("TRUNC {}", zxid(to)),
            FromLeader::Snap(of) => {
                self.image = Some(Vec::new());
                format!("SNAP {}", zxid(of))
            }
            FromLeader::NewLeader { zxid: begin, .. } => format!("NEWLEADER {}", zxid(begin)),
            FromLeader::UpToDate => "UPTODATE".into(),
            FromLeader::Proposal { zxid: of, txn: bytes } => format!("PROPOSAL {} {}", zxid(of), txn(bytes)),
            FromLeader::Commit(of) => format!("COMMIT {}", zxid(of)),
            FromLeader::CommitAndActivate { zxid: of, designated } => {
                format!("COMMITANDACTIVATE {}, led by {}", zxid(of), designated.0)
            }
            FromLeader::Inform { zxid: of, txn: bytes } => format!("INFORM {} {}", zxid(of), txn(bytes)),
            FromLeader::InformAndActivate { zxid: of, designated, txn: bytes } => {
                format!("INFORMANDACTIVATE {}, led by {} {}", zxid(of), designated.0, txn(bytes))
            }
            FromLeader::Ping(last) => return (format!("PING {}", zxid(last)), true),
            FromLeader::Revalidate { session, valid } => {
                format!("REVALIDATE {}: {}", sessions.name(session), if valid { "valid" } else { "unknown" })
            }
            FromLeader::Sync => "SYNC".into(),
            FromLeader::Unknown(kind) => format!("type {kind}"),
        };
        (what, false)
    }
}

fn of_learner(packet: Packet<'_>, sessions: &Sessions) -> (String, bool) {
    let what = match FromLearner::read(packet).expect("a learner's packet") {
        FromLearner::Info { observer, accepted, .. } => {
            let kind = if observer { "OBSERVERINFO" } else { "FOLLOWERINFO" };
            format!("{kind} accepted epoch {}", accepted.epoch().0)
        }
        FromLearner::AckEpoch { last, current } => {
            let history = current.map_or("accepted before".into(), |Epoch(epoch)| format!("current epoch {epoch}"));
            format!("ACKEPOCH last {}, {history}", if last == Zxid::NONE { "-1".into() } else { zxid(last) })
        }
        FromLearner::Ack(of) => format!("ACK {}", zxid(of)),
        FromLearner::Ping { touched, .. } => {
            let names: Vec<_> = touched.iter().map(|(session, _)| sessions.name(session)).collect();
            return (
                format!("PING touching {}", if names.is_empty() { "nobody".into() } else { names.join(" ") }),
                true,
            );
        }
        FromLearner::Revalidate { session, .. } => format!("REVALIDATE {}", sessions.name(session)),
        FromLearner::Request(request) => {
            let known = request.identities.iter().flatten().map(|id| format!("{}:{}", id.scheme, id.id));
            let known = known.collect::<Vec<_>>().join(", ");
            let known = if known.is_empty() { known } else { format!(", known as {known}") };
            format!("REQUEST of {} {}{known}", sessions.name(request.session), forwarded(&request))
        }
        FromLearner::Unknown(kind) => format!("type {kind}"),
    };
    (what, false)
}

fn forwarded(request: &Forwarded<'_>) -> String {
    match (request.op, Request::read(request.op, request.body)) {
        (Op::CREATE_SESSION, _) => "createSession".into(),
        (op, Ok(Some(request))) => format!("{op} {}", show::arguments(&request)).trim_end().to_owned(),
        (op, _) => format!("{op} undecodable"),
    }
}

/// A transaction without its header.
fn txn(bytes: &[u8]) -> String {
    let r = &mut Reader::new(bytes);
    let Ok(header) = TxnHeader::read(r) else { return "without a header".into() };
    match Txn::read(header.op, r) {
        Ok(txn) => show::show_txn(&txn, header.op),
        Err(_) => "undecodable".into(),
    }
}

/// What a disk did.
pub fn done(input: &Input) -> Option<String> {
    Some(match input {
        Input::Synced { zxid: last, records: 0, .. } => format!("no log has to have {}", zxid(*last)),
        Input::Synced { zxid: last, .. } => format!("the log is durable up to {}", zxid(*last)),
        Input::SnapshotDone { zxid: of, .. } => format!("snapshot of {} is durable", zxid(*of)),
        Input::Disk(answer) => match &answer.done {
            DiskDone::SavedAccepted(Epoch(epoch)) => format!("acceptedEpoch {epoch} is durable"),
            DiskDone::SavedCurrent(Epoch(epoch)) => format!("currentEpoch {epoch} is durable"),
            DiskDone::UnsavedCurrent(Epoch(epoch)) => format!("currentEpoch {epoch} is kept nowhere, as its history"),
            DiskDone::Truncated(loaded) => format!("the history ends at {} now", zxid(loaded.tree.last_zxid())),
            DiskDone::Receiving => "a snapshot is received".into(),
            DiskDone::Stored(_) => return None,
            DiskDone::Installed(loaded) => {
                format!("the snapshot of {} replaces the history", zxid(loaded.tree.last_zxid()))
            }
            DiskDone::Damaged(why) => format!("the snapshot is damaged: {why}"),
            DiskDone::Uncut { why, .. } => zxids(why),
            DiskDone::Abandoned => "the unfinished snapshot is forgotten".into(),
        },
        Input::Fed(FeedAnswer { result, .. }) => match result {
            Ok(Fed::Located(nearest)) => format!("looks for a learner's end in its log: {}", zxid(*nearest)),
            Ok(Fed::Snapshot(of)) => format!("opens its snapshot of {} for a learner", zxid(*of)),
            Ok(Fed::Proposals { list, .. }) => format!("reads {} proposals of its log for a learner", list.len()),
            Ok(Fed::Survey(_) | Fed::Piece { .. }) => return None,
            Err(why) => format!("cannot read for a learner: {}", zxids(why)),
        },
        _ => return None,
    })
}

/// A server in one line.
pub fn server(server: &Server) -> String {
    let Some(member) = &server.member else { return "does not run".into() };
    let tree = member.tree.read();
    let status = member.turn.peer().status(&tree);
    let serves = if server.serves { "serves" } else { "serves nobody" };
    let role = status.role.peer_state();
    let epochs = server.epochs();
    let committed = zxid(member.turn.peer().committed());
    format!(
        "{role}, {serves}; applied {}, committed {committed}; {epochs}; sessions {}",
        zxid(tree.last_zxid()),
        status.global_sessions
    )
}
