//! Administrators who wait for a snapshot: the peer answers with a ticket, and this finds who asked.

use std::collections::BTreeMap;

use super::{Input, SnapshotAnswer, SnapshotRefused, SnapshotTicket};
use crate::types::Zxid;

/// All who wait for a snapshot. An `A` says who asked, or where the answer goes.
pub struct SnapshotRequests<A> {
    tickets: u64,
    waiting: BTreeMap<SnapshotTicket, A>,
}

impl<A> Default for SnapshotRequests<A> {
    fn default() -> SnapshotRequests<A> {
        SnapshotRequests { tickets: 0, waiting: BTreeMap::new() }
    }
}

impl<A> SnapshotRequests<A> {
    /// The input for the peer that stands for this request.
    pub fn ask(&mut self, asker: A) -> Input {
        self.tickets += 1;
        let ticket = SnapshotTicket(self.tickets);
        self.waiting.insert(ticket, asker);
        Input::SnapshotAsked(ticket)
    }

    /// Who asked for this, and the result: the last transaction in the snapshot, which is durable.
    ///
    /// # Panics
    /// If nobody holds the ticket: a bug of ours.
    pub fn answer(&mut self, answer: SnapshotAnswer) -> (A, Result<Zxid, SnapshotRefused>) {
        let SnapshotAnswer { ticket, result } = answer;
        (self.waiting.remove(&ticket).expect("the peer answers each ticket once"), result)
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_gets_its_own_answer() {
        let mut requests = SnapshotRequests::default();
        let [first, second, third] = ["first", "second", "third"].map(|who| match requests.ask(who) {
            Input::SnapshotAsked(ticket) => ticket,
            other => panic!("{other:?}"),
        });
        assert_eq!(requests.len(), 3);
        let answers = [(third, Err(SnapshotRefused::TooMany)), (second, Ok(Zxid(4))), (first, Ok(Zxid(5)))];
        let told = answers.map(|(ticket, result)| requests.answer(SnapshotAnswer { ticket, result }));
        let wanted = [("third", Err(SnapshotRefused::TooMany)), ("second", Ok(Zxid(4))), ("first", Ok(Zxid(5)))];
        assert_eq!(told, wanted);
        assert!(requests.is_empty());
    }

    #[test]
    #[should_panic(expected = "the peer answers each ticket once")]
    fn a_ticket_is_not_answered_twice() {
        let mut requests = SnapshotRequests::default();
        requests.ask(());
        let answer = SnapshotAnswer { ticket: SnapshotTicket(1), result: Ok(Zxid(4)) };
        assert!(requests.answer(answer).1.is_ok());
        let _ = requests.answer(answer);
    }
}
