//! What members say to each other that must be true: read from the bytes that they write.

use crate::types::{Epoch, ServerId, Zxid};
use crate::zab::message::FromLearner;
use crate::zab::notification::{self, Notification};
use crate::zab::packet::{Split, split};
use crate::zab::vote::{ServerState, Vote};

/// Something that a member says of itself.
#[derive(Clone, Copy, Debug)]
pub(super) enum Said {
    /// A looking server votes for itself, with the end of its history and the epoch that it is in.
    Vote { zxid: Zxid, epoch: Epoch },
    /// FOLLOWERINFO: it has accepted this epoch.
    Accepted { accepted: Epoch },
    /// ACKEPOCH, with the end of its history.
    EpochAck { last: Zxid },
    /// ACK, of NEWLEADER if the counter is zero.
    Ack(Zxid),
}

/// What a server says in notifications.
pub(super) fn vote(me: ServerId, bytes: &[u8]) -> Result<Vec<Said>, String> {
    let (mut rest, mut all) = (bytes, Vec::new());
    while let Some((message, taken)) = notification::split(rest).map_err(|e| format!("a message of {e} bytes"))? {
        let said = Notification::read(message).map_err(|e| e.to_string())?;
        let vote = said.held.vote;
        // Before its first election it says nothing of its history.
        if vote.leader == me && said.held.state == ServerState::Looking && vote.zxid != Vote::NOBODY.zxid {
            all.push(Said::Vote { zxid: vote.zxid, epoch: vote.peer_epoch });
        }
        rest = &rest[taken..];
    }
    if rest.is_empty() { Ok(all) } else { Err(format!("half a notification: {rest:?}")) }
}

/// What a learner says to its leader.
pub(super) fn to_leader(bytes: &[u8], limit: usize) -> Result<Vec<Said>, String> {
    let (mut rest, mut all) = (bytes, Vec::new());
    while !rest.is_empty() {
        let Split::Whole(packet, taken) = split(rest, limit).map_err(|e| e.to_string())? else {
            return Err(format!("half a packet: {rest:?}"));
        };
        match FromLearner::read(packet).map_err(|e| e.to_string())? {
            FromLearner::Info { accepted, .. } => all.push(Said::Accepted { accepted: accepted.epoch() }),
            FromLearner::AckEpoch { last, .. } => all.push(Said::EpochAck { last }),
            FromLearner::Ack(zxid) => all.push(Said::Ack(zxid)),
            _ => {}
        }
        rest = &rest[taken..];
    }
    Ok(all)
}
