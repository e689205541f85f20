//! Committed transactions become changes of the tree and entries on the shards' streams. Mirrors
//! `FinalRequestProcessor.applyRequest` and `ZooKeeperServer.processTxn`.

use std::sync::Arc;

use super::{Outbox, Peer, Waiting, close};
use crate::limits;
use crate::pipeline::Proposal;
use crate::pipeline::messages::{Entry, Event, Outcome, ToShard};
use crate::pipeline::reply::{AfterReply, put_write_reply};
use crate::tree::{Applied, Tree};
use crate::txn::Txn;
use crate::types::{Origin, ShardId, Zxid};
use crate::watch::interest::Interest;

/// How far each shard has got: the zxid it answers reads at.
pub trait Cursors {
    /// The cursor of `shard`.
    fn cursor(&self, shard: ShardId) -> Zxid;
}

impl Peer {
    /// Applies a bounded run of committed transactions; the caller holds the tree for writing. Stops early before a write
    /// whose session still has an earlier read to be answered (rule S3a).
    ///
    /// Returns how many were applied.
    pub fn apply(&mut self, tree: &mut Tree, cursors: &impl Cursors, interest: &Interest, out: &mut Outbox) -> usize {
        let mut count = 0;
        while count < limits::APPLY_BURST {
            let Some(front) = self.waiting.front() else { break };
            if front.proposal.header.zxid > self.leader.last_committed() || !self.may_apply(front, cursors) {
                break;
            }
            let Some(waiting) = self.waiting.pop_front() else { break };
            self.apply_one(waiting, tree, interest, out);
            count += 1;
        }
        if count > 0 {
            self.prep.applied(tree.last_zxid());
            self.answer_resumed(tree.last_zxid(), out);
        }
        self.image_turn(tree, out);
        count
    }

    fn answer_resumed(&mut self, applied: Zxid, out: &mut Outbox) {
        let due = self.resumed.extract_if(.., |(zxid, ..)| *zxid <= applied);
        out.to_shards.extend(due.map(|(_, shard, answer)| (shard, answer)));
    }

    fn may_apply(&self, w: &Waiting, cursors: &impl Cursors) -> bool {
        match w.proposal.origin {
            Origin::Local { shard, .. } if w.behind_read => cursors.cursor(shard) >= self.told[shard.index()],
            Origin::Local { .. } | Origin::Server => true,
        }
    }

    fn apply_one(&mut self, w: Waiting, tree: &mut Tree, interest: &Interest, out: &mut Outbox) {
        let Waiting { proposal, .. } = w;
        let header = proposal.header;
        let mut events: Vec<Event> = Vec::new();
        let mut watching = 0u64;
        let applied = tree.apply_known(&header, &proposal.txn, proposal.prefix_crc, &mut |change| {
            let shards = interest.shards(change.path);
            if shards != 0 {
                watching |= shards;
                events.push(Event { event: change.event, path: Arc::from(change.path), acl: change.acl.clone() });
            }
        });
        self.check_digest(&proposal, tree);
        self.stats.applied(header.zxid, &proposal.txn, tree);
        let outcome = self.outcome(&proposal, &applied);
        self.publish(header.zxid, proposal.origin, outcome, events, watching, out);
        self.session_changed(&proposal, out);
    }

    fn check_digest(&mut self, proposal: &Proposal, tree: &Tree) {
        if let Some(d) = proposal.digest
            && d.digest != tree.digest()
        {
            self.stats.digest_mismatches += 1;
            debug_assert!(
                false,
                "digest of {} predicted {:#x}, is {:#x}",
                proposal.header.zxid,
                d.digest,
                tree.digest()
            );
            tracing::error!(zxid = %proposal.header.zxid, predicted = d.digest, actual = tree.digest(),
                "tree digest differs from the logged one: please report this with the log");
        }
    }

    fn outcome(&mut self, proposal: &Proposal, applied: &Applied) -> Option<Outcome> {
        if proposal.origin == Origin::Server {
            return None;
        }
        let mut reply = Vec::with_capacity(128);
        let Proposal { header, txn, .. } = proposal;
        match put_write_reply(&mut reply, proposal.op, header.cxid.0, header.zxid, txn, applied) {
            AfterReply::Keep => Some(Outcome::Reply(reply)),
            AfterReply::CloseAfterFlush => Some(Outcome::Closed(reply)),
            AfterReply::Close => Some(Outcome::Closed(Vec::new())),
            AfterReply::Handshake => match *txn {
                Txn::CreateSession { timeout_ms } => {
                    Some(Outcome::SessionCreated { session: header.session, timeout_ms })
                }
                _ => None,
            },
        }
    }

    fn publish(
        &mut self,
        zxid: Zxid,
        origin: Origin,
        mut outcome: Option<Outcome>,
        events: Vec<Event>,
        watching: u64,
        out: &mut Outbox,
    ) {
        // Most writes are watched by nobody: those share one empty list.
        let events: Arc<[Event]> = if events.is_empty() { Arc::clone(&self.no_events) } else { Arc::from(events) };
        for shard in (0..self.options.shards as u32).map(ShardId) {
            let mine = match origin {
                Origin::Local { shard: asked, conn } if asked == shard => outcome.take().map(|o| (conn, o)),
                Origin::Local { .. } | Origin::Server => None,
            };
            if mine.is_none() && watching & (1 << shard.0) == 0 {
                continue;
            }
            if mine.is_some() {
                self.told[shard.index()] = zxid;
            }
            let entry = Entry { zxid, outcome: mine, events: events.clone() };
            out.to_shards.push((shard, ToShard::Applied(entry)));
        }
    }

    /// The session tables follow; the connection of a session that ended without its asking is closed.
    fn session_changed(&mut self, proposal: &Proposal, out: &mut Outbox) {
        let session = proposal.header.session;
        match proposal.txn {
            Txn::CreateSession { timeout_ms } => {
                self.sessions.commit(session, timeout_ms);
            }
            Txn::CloseSession { .. } => {
                if let Some(owner) = self.tracker.owner(session).filter(|o| *o != proposal.origin) {
                    close(owner, out);
                }
                self.sessions.remove(session);
                self.tracker.remove(session);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::{Input, PeerOptions, SweepOptions};
    use crate::pipeline::WriteRequest;
    use crate::pipeline::messages::ToPeer;
    use crate::pipeline::prep::PrepOptions;
    use crate::session::LargeRequests;
    use crate::tree::TreeOptions;
    use crate::types::{ConnId, Cxid, Now, ServerId, SessionId, op};

    struct Everywhere;

    impl Cursors for Everywhere {
        fn cursor(&self, _: ShardId) -> Zxid {
            Zxid(i64::MAX)
        }
    }

    #[test]
    fn a_large_write_is_in_work_until_it_is_applied() {
        let (now, mut tree) = (Now::default(), Tree::new(TreeOptions::default()));
        let options = PeerOptions {
            me: ServerId(1),
            tick_ms: 2000,
            prep: PrepOptions::default(),
            sweep: SweepOptions { interval_ms: 0, max_per_minute: 1, max_never_used_ms: 0 },
            shards: 1,
        };
        let mut peer = Peer::new(options, &tree, &[], now);
        let mut out = Outbox::default();
        let gate = Arc::new(LargeRequests::new(1000, 10));
        let request = WriteRequest {
            session: SessionId(1),
            cxid: Cxid(1),
            op: op::SET_DATA,
            body: bytes::Bytes::from_static(&[0; 100]),
            auth: [].into(),
            moved: false,
            origin: Origin::Local { shard: ShardId(0), conn: ConnId(1) },
        };
        let large = gate.admit(100, true).expect("there is room");
        let write = ToPeer::Write { request, behind_read: false, large };
        peer.handle(now, Input::FromShard(write), &tree, &mut out);
        let zxid = out.append.pop().expect("a refusal is logged too").zxid;
        peer.handle(now, Input::Synced { zxid, sync_ns: 1, records: 1, slow: false }, &tree, &mut out);
        assert_eq!(gate.in_work(), 100);
        assert_eq!(peer.apply(&mut tree, &Everywhere, &Interest::new(), &mut out), 1);
        assert_eq!(gate.in_work(), 0);
    }
}
