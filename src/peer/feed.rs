//! What passes between a leader and whoever reads its disk for its learners. Mirrors the reads of `LearnerHandler.syncFollower`.

use crate::txnlog::feed::{Ask, Fed};
use crate::types::ConnId;

/// What a leader wants of the reader of its disk, for one learner.
#[derive(Debug)]
pub struct FeedWant {
    /// The learner's connection.
    pub conn: ConnId,
    /// A question, answered by one [`FeedAnswer`]. `None`: the learner is gone, and what is open for it is closed; this has no
    /// answer.
    pub ask: Option<Ask>,
}

/// The answer to a question. Answers come in the order of the questions.
#[derive(Debug)]
pub struct FeedAnswer {
    /// The learner's connection. It may be gone.
    pub conn: ConnId,
    /// What was read, or why it cannot be read.
    pub result: Result<Fed, String>,
}
