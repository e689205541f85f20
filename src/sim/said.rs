//! What members say to each other that must be true: read from the bytes that they write.

use crate::types::{Epoch, ServerId, Zxid};
use crate::zab::message::{FromLeader, FromLearner};
use crate::zab::notification::{self, Notification};
use crate::zab::packet::{Packet, Split, split};
use crate::zab::vote::{ServerState, Vote};

/// What ends a snapshot, behind its length.
const END_OF_IMAGE: &[u8] = b"BenWasHere";

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
    /// LEADERINFO: it leads in this epoch.
    Leads(Epoch),
    /// UPTODATE: it is established.
    UpToDate,
    /// COMMIT or INFORM.
    Committed(Zxid),
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
    let mut all = Vec::new();
    packets(bytes, limit, |packet| {
        match FromLearner::read(packet).map_err(|e| e.to_string())? {
            FromLearner::Info { accepted, .. } => all.push(Said::Accepted { accepted: accepted.epoch() }),
            FromLearner::AckEpoch { last, .. } => all.push(Said::EpochAck { last }),
            FromLearner::Ack(zxid) => all.push(Said::Ack(zxid)),
            _ => {}
        }
        Ok(())
    })?;
    Ok(all)
}

/// What a leader says to a learner. `in_image`: a snapshot is being sent, which ends with a write of its own.
pub(super) fn to_learner(bytes: &[u8], limit: usize, in_image: &mut bool) -> Result<Vec<Said>, String> {
    let mut all = Vec::new();
    if *in_image {
        *in_image = bytes.get(4..) != Some(END_OF_IMAGE);
        return Ok(all);
    }
    packets(bytes, limit, |packet| {
        match FromLeader::read(&packet).map_err(|e| e.to_string())? {
            FromLeader::LeaderInfo { epoch, .. } => all.push(Said::Leads(epoch)),
            FromLeader::UpToDate => all.push(Said::UpToDate),
            FromLeader::Commit(zxid) | FromLeader::Inform { zxid, .. } => all.push(Said::Committed(zxid)),
            FromLeader::Snap(_) => *in_image = true,
            _ => {}
        }
        Ok(())
    })?;
    Ok(all)
}

/// Reads whole packets.
fn packets(bytes: &[u8], limit: usize, mut read: impl FnMut(Packet<'_>) -> Result<(), String>) -> Result<(), String> {
    let mut rest = bytes;
    while !rest.is_empty() {
        let Split::Whole(packet, taken) = split(rest, limit).map_err(|e| e.to_string())? else {
            return Err(format!("half a packet: {rest:?}"));
        };
        read(packet)?;
        rest = &rest[taken..];
    }
    Ok(())
}
