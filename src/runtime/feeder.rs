//! The thread that reads the disk for a leader's learners; it runs a [`Feeder`]. What cannot be read is an answer, too: the
//! learner then gets another plan, and nobody else notices.

use std::io;

use crossbeam::channel::{self, Receiver, Sender};

use super::cores;
use super::threads;
use crate::peer::feed::{FeedAnswer, FeedWant};
use crate::txnlog::disk::Dir;
use crate::txnlog::feed::Feeder;

/// Starts the thread. It passes its answers, in the order of the questions, to `tell`, and ends when all senders are gone.
///
/// # Errors
/// The thread cannot be created.
pub fn start<D>(
    mut feeder: Feeder<D>,
    wants: Receiver<FeedWant>,
    tell: impl Fn(FeedAnswer) + Send + 'static,
) -> io::Result<()>
where
    D: Dir + 'static,
    D::Reader: Send,
{
    let run = move || {
        cores::let_others_go_first();
        for FeedWant { conn, ask } in wants {
            match ask {
                Some(ask) => tell(FeedAnswer { conn, result: feeder.answer(conn, ask).map_err(|e| e.to_string()) }),
                None => feeder.forget(conn),
            }
        }
    };
    threads::start("feeder", run).map(drop)
}

/// The channel for what is wanted. The peer limits how much waits, the channel does not: a learner has one question at a time.
pub fn channel() -> (Sender<FeedWant>, Receiver<FeedWant>) {
    channel::unbounded()
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;
    use crate::jute::Put;
    use crate::runtime::disk::{FsDir, SyncMethod};
    use crate::tree::{Tree, TreeOptions};
    use crate::txn::TxnHeader;
    use crate::txnlog::feed::{Ask, Fed};
    use crate::txnlog::snapshot::SnapshotOptions;
    use crate::txnlog::snapshotter::first_snapshot;
    use crate::txnlog::writer::{LogOptions, LogWriter};
    use crate::types::{ConnId, Cxid, Op, SessionId, Zxid};

    const PATIENCE: Duration = Duration::from_secs(60);

    /// A setData.
    fn payload(zxid: i64) -> Vec<u8> {
        let mut bytes = Vec::new();
        TxnHeader { session: SessionId(7), cxid: Cxid(1), zxid: Zxid(zxid), time_ms: 5, op: Op::SET_DATA }
            .put(&mut bytes);
        bytes.put_string("/a");
        bytes.put_buffer(Some(b"data"));
        bytes.put_i32(1);
        bytes
    }

    #[test]
    fn it_answers_in_order_and_says_what_cannot_be_read() {
        let tmp = tempfile::tempdir().unwrap();
        let open = || FsDir::open(tmp.path(), false, SyncMethod::default()).unwrap();
        first_snapshot(&mut open(), &Tree::new(TreeOptions::default()), SnapshotOptions::default()).unwrap();
        let mut log = LogWriter::new(open(), Zxid::ZERO, LogOptions { prealloc_bytes: 4096, ..LogOptions::default() });
        (1..=3).for_each(|zxid| log.append(Zxid(zxid), &payload(zxid)).unwrap());
        log.sync().unwrap();
        let (asks, wants) = channel();
        let (tell, told) = mpsc::channel();
        start(Feeder::new(open(), open(), 1 << 20), wants, move |answer| tell.send(answer).unwrap()).unwrap();
        let (one, two) = (ConnId(1), ConnId(2));
        let upto = |upto| Some(Ask::Proposals { after: Zxid(1), upto: Zxid(upto) });
        for (conn, ask) in [
            (one, Some(Ask::Snapshot(Zxid::ZERO))),
            (two, upto(3)),
            (two, upto(9)),
            (two, Some(Ask::Snapshot(Zxid(2)))),
            (one, None),
            (one, Some(Ask::Piece)),
            (two, Some(Ask::Survey)),
        ] {
            asks.send(FeedWant { conn, ask }).unwrap();
        }
        drop(asks);
        let mut said = Vec::new();
        // The channel ends with the thread, which ends with its last question.
        while let Ok(FeedAnswer { conn, result }) = told.recv_timeout(PATIENCE) {
            said.push(match result {
                Ok(Fed::Proposals { list, end }) => {
                    format!("{conn}: {:?} {end}", list.iter().map(|(z, _)| z.0).collect::<Vec<_>>())
                }
                Ok(Fed::Survey(survey)) => {
                    format!("{conn}: {} log, {:?}", survey.logs.len(), survey.snapshot.map(|(z, _)| z.0))
                }
                Ok(other) => format!("{conn}: {other:?}"),
                Err(why) => format!("{conn}: no, {why}"),
            });
        }
        let lines = [
            format!("{one}: {:?}", Fed::Snapshot(Zxid::ZERO)),
            format!("{two}: [2, 3] true"),
            format!("{two}: no, the log ends at 0x3, before 0x9"),
            format!("{two}: no, there is no snapshot of 0x2"),
            format!("{one}: no, a piece of a snapshot was asked for, and none is open"),
            format!("{two}: 1 log, Some(0)"),
        ];
        assert_eq!(said, lines);
    }
}
