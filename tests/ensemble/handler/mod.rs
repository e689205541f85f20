//! The leader's side of learners' connections: against recorded ones, against a model, and against garbage.

mod garbage;
mod model;
mod pair;
mod walks;

use zabra::zab::handler::{Handler, Want};
use zabra::zab::message::FromLearner;

/// Most bytes of a packet's data.
const LIMIT: usize = 4 << 20;

/// The bytes of a learner's packet.
fn packet(said: &FromLearner<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    said.put(&mut bytes);
    bytes
}

/// Gives the handler `bytes` in pieces of random lengths.
fn hear_in_pieces(handler: &mut Handler, bytes: &[u8], rng: &mut fastrand::Rng, wants: &mut Vec<Want>) {
    let mut rest = bytes;
    while !rest.is_empty() {
        let (piece, behind) = rest.split_at(rng.usize(1..=rest.len().min(40)));
        handler.heard(piece, wants);
        handler.check();
        rest = behind;
    }
}
