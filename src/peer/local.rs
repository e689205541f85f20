//! Requests of this server's own clients, from their submission to their reply. A transaction does not say which connection
//! asked for it: that is found here again, by session and cxid, when the transaction is applied. Mirrors the queues of
//! `CommitProcessor`.
//!
//! Requests are proposed in the order in which a server submits them, and refused ones keep their place. So the request that a
//! transaction belongs to is the oldest one, or the transaction was not asked for here.

use std::collections::VecDeque;

use crate::session::large_requests::Admitted;
use crate::txn::TxnHeader;
use crate::types::{ConnId, Cxid, ErrorCode, Op, SessionId, ShardId};

/// A client's request whose transaction is not applied yet.
#[derive(Debug)]
pub(super) struct LocalRequest {
    pub(super) session: SessionId,
    pub(super) cxid: Cxid,
    /// Opcode: the shape of the reply.
    pub(super) op: Op,
    /// The shard that is answered.
    pub(super) shard: ShardId,
    /// Its connection.
    pub(super) conn: ConnId,
    /// It is applied only after its shard has answered an earlier read of the session (rule S3a).
    pub(super) behind_read: bool,
    /// If it is refused, the reply has this code, whatever the leader's is: only this server knows the reason.
    pub(super) refusal: Option<ErrorCode>,
    /// Held until the transaction is applied, if the request is a large one.
    pub(super) _large: Option<Admitted>,
}

impl LocalRequest {
    /// Whether the transaction with this header is what became of this request. The server's own closeSession, and the
    /// createSession that makes a local session a global one, have the cxid 0, which a client may have given to a request of
    /// its own: that one is not answered by them.
    fn became(&self, header: &TxnHeader) -> bool {
        let is_same = |op: Op| (header.op == op) == (self.op == op);
        self.session == header.session
            && self.cxid == header.cxid
            && (header.op == Op::ERROR || (is_same(Op::CLOSE_SESSION) && is_same(Op::CREATE_SESSION)))
    }
}

/// All of them, oldest first.
#[derive(Debug, Default)]
pub(super) struct LocalRequests(VecDeque<LocalRequest>);

impl LocalRequests {
    /// The next one to be proposed.
    pub(super) fn push(&mut self, request: LocalRequest) {
        self.0.push_back(request);
    }

    /// The request that this transaction, the next to be applied, answers.
    pub(super) fn of(&self, header: &TxnHeader) -> Option<&LocalRequest> {
        self.0.front().filter(|request| request.became(header))
    }

    /// Takes the request that this transaction answers.
    pub(super) fn take(&mut self, header: &TxnHeader) -> Option<LocalRequest> {
        self.0.pop_front_if(|request| request.became(header))
    }

    /// Whether the session has one.
    pub(super) fn has(&self, session: SessionId) -> bool {
        self.0.iter().any(|request| request.session == session)
    }

    /// Their clients are disconnected: nobody waits for a reply.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Asserts that the requests belong, in their order, to some of these transactions.
    pub(super) fn check<'a>(&self, mut waiting: impl Iterator<Item = &'a TxnHeader>) {
        for request in &self.0 {
            assert!(waiting.any(|header| request.became(header)), "no transaction will answer {request:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Zxid;

    fn request(session: i64, cxid: i32, op: Op) -> LocalRequest {
        let (shard, conn) = (ShardId(0), ConnId(7));
        LocalRequest {
            session: SessionId(session),
            cxid: Cxid(cxid),
            op,
            shard,
            conn,
            behind_read: false,
            refusal: None,
            _large: None,
        }
    }

    fn header(session: i64, cxid: i32, op: Op) -> TxnHeader {
        TxnHeader { session: SessionId(session), cxid: Cxid(cxid), zxid: Zxid(1), time_ms: 0, op }
    }

    #[test]
    fn only_the_oldest_request_is_answered() {
        let mut local = LocalRequests::default();
        local.push(request(1, 5, Op::CREATE));
        local.push(request(1, 6, Op::DELETE));
        assert!(local.take(&header(1, 6, Op::DELETE)).is_none());
        assert!(local.take(&header(2, 5, Op::CREATE)).is_none(), "of another member's client");
        assert!(local.take(&header(1, 5, Op::CREATE)).is_some());
        assert!(local.take(&header(1, 6, Op::ERROR)).is_some(), "refused");
        assert_eq!(local.len(), 0);
    }

    #[test]
    fn a_client_may_number_its_request_as_the_server_does_its_own() {
        let mut local = LocalRequests::default();
        local.push(request(1, 0, Op::CREATE));
        assert!(local.take(&header(1, 0, Op::CLOSE_SESSION)).is_none(), "its session expired before");
        assert!(local.take(&header(1, 0, Op::CREATE_SESSION)).is_none(), "its session became a global one before");
        assert!(local.take(&header(1, 0, Op::ERROR)).is_some());
    }

    #[test]
    #[should_panic(expected = "no transaction will answer")]
    fn a_request_without_a_transaction_is_noticed() {
        let mut local = LocalRequests::default();
        local.push(request(1, 5, Op::CREATE));
        local.check([header(1, 6, Op::CREATE)].iter());
    }
}
