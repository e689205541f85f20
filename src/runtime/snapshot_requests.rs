//! Administrators who wait for a snapshot: the peer answers with a ticket, and this finds who asked.

use std::collections::HashMap;

use tokio::sync::oneshot;

use crate::peer::{Input, SnapshotAnswer, SnapshotRefused, SnapshotTicket};
use crate::types::Zxid;

/// Receives the last transaction in the snapshot, once the snapshot is durable.
pub type SnapshotReply = oneshot::Sender<Result<Zxid, SnapshotRefused>>;

/// All who wait for a snapshot.
#[derive(Default)]
pub(super) struct SnapshotRequests {
    tickets: u64,
    waiting: HashMap<SnapshotTicket, SnapshotReply>,
}

impl SnapshotRequests {
    /// The input for the peer that stands for this request.
    pub(super) fn ask(&mut self, reply: SnapshotReply) -> Input {
        self.tickets += 1;
        let ticket = SnapshotTicket(self.tickets);
        self.waiting.insert(ticket, reply);
        Input::SnapshotAsked(ticket)
    }

    /// Passes on the peer's answer.
    pub(super) fn answer(&mut self, SnapshotAnswer { ticket, result }: SnapshotAnswer) {
        let reply = self.waiting.remove(&ticket).expect("the peer answers each ticket once");
        // The administrator may have stopped waiting.
        let _ = reply.send(result);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_gets_its_own_answer() {
        let mut requests = SnapshotRequests::default();
        let mut ask = || {
            let (reply, answer) = oneshot::channel();
            let Input::SnapshotAsked(ticket) = requests.ask(reply) else { panic!() };
            (ticket, answer)
        };
        let ((first, mut one), (second, two), (third, mut three)) = (ask(), ask(), ask());
        drop(two);
        requests.answer(SnapshotAnswer { ticket: third, result: Err(SnapshotRefused::TooMany) });
        requests.answer(SnapshotAnswer { ticket: second, result: Ok(Zxid(4)) });
        assert!(one.try_recv().is_err(), "not answered yet");
        requests.answer(SnapshotAnswer { ticket: first, result: Ok(Zxid(5)) });
        assert_eq!((one.try_recv(), three.try_recv()), (Ok(Ok(Zxid(5))), Ok(Err(SnapshotRefused::TooMany))));
        assert!(requests.waiting.is_empty());
    }
}
