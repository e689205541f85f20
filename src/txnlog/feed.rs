//! Reads the disk for learners: the newest snapshot in pieces, then the proposals behind it from the log. Mirrors what
//! `LearnerHandler.syncFollower` reads through `FileTxnSnapLog`, except that Apache walks over its live tree for a SNAP.
//!
//! [`Feeder`] answers one question at a time and never waits for a learner, so a thread of its own can serve them all. A
//! snapshot that is being sent stays open, so the purge may remove its name meanwhile.

use std::io;

use bytes::Bytes;
use hashbrown::HashMap;
use thiserror::Error;

use super::compress::Unpacker;
use super::disk::Dir;
use super::names::{SnapshotFile, list_logs, list_snapshots};
use super::proposal_reader::LogCursor;
use super::snapshot::{FILE_HEADER, TERMINATOR};
use super::snapshot_read::{MAX_TAIL, SnapshotError, Tail, read_tail_of};
use crate::types::{ConnId, Zxid};

/// A question for the feeder.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ask {
    /// Which files there are.
    Survey,
    /// The newest transaction in the log that is not newer than `peer`; where there is none, `chain`, the position at
    /// which the log begins to be complete.
    Locate {
        /// The end of a learner's history.
        peer: Zxid,
        /// Not newer than `peer`. Records before it are not read.
        chain: Zxid,
    },
    /// Opens the snapshot of this zxid, whose pieces are asked for next.
    Snapshot(Zxid),
    /// The next piece of the opened snapshot.
    Piece,
    /// The proposals after `after`, up to `upto`.
    Proposals {
        /// The last one that the learner has.
        after: Zxid,
        /// The last one that is committed; it is durable here.
        upto: Zxid,
    },
}

/// The answer to an [`Ask`].
#[derive(Clone, PartialEq, Debug)]
pub enum Fed {
    /// To [`Ask::Survey`].
    Survey(Survey),
    /// To [`Ask::Locate`].
    Located(Zxid),
    /// To [`Ask::Snapshot`].
    Snapshot(Zxid),
    /// To [`Ask::Piece`].
    Piece {
        /// A part of the image: sessions, ACL lists, znodes and their terminator, without header and seals.
        bytes: Bytes,
        /// Whether the image ends here. Only then is it known that all of it was intact.
        last: bool,
    },
    /// To [`Ask::Proposals`].
    Proposals {
        /// In their order. Header, transaction and digest of each.
        list: Vec<(Zxid, Bytes)>,
        /// Whether these are all that were asked for.
        end: bool,
    },
}

/// The files that can be read for a learner.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Survey {
    /// The logs, oldest first: first zxid and length in bytes.
    pub logs: Vec<(Zxid, u64)>,
    /// The newest snapshot: zxid and length in bytes.
    pub snapshot: Option<(Zxid, u64)>,
}

/// Why a question has no answer. The learner needs another plan.
#[derive(Debug, Error)]
pub enum FeedError {
    /// The disk's error, or a log that is damaged or lacks transactions.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The snapshot is damaged, or it ends too early.
    #[error("{file}: {error}")]
    Snapshot {
        /// Its name.
        file: String,
        /// What is wrong.
        error: SnapshotError,
    },
    /// There is no such snapshot, any more or at all.
    #[error("there is no snapshot of {0}")]
    NoSnapshot(Zxid),
    /// No snapshot was opened, or its last piece was read.
    #[error("a piece of a snapshot was asked for, and none is open")]
    NotOpen,
    /// The log ends too early.
    #[error("the log ends at {end}, before {upto}")]
    EndsEarly {
        /// The last transaction in it.
        end: Zxid,
        /// The last one that was asked for.
        upto: Zxid,
    },
}

/// Reads for all learners of a server.
pub struct Feeder<D: Dir> {
    snapshots: D,
    log: D,
    learners: HashMap<ConnId, Open<D>>,
    /// Bytes in a piece or in a list of proposals, unless a single proposal has more.
    chunk: usize,
}

/// What is open for one learner.
struct Open<D: Dir> {
    image: Option<Image<D::Reader>>,
    proposals: Option<Proposals<D>>,
}

impl<D: Dir> Feeder<D> {
    /// Reads the snapshots of one directory and the logs of another (they may be the same) in pieces of about `chunk` bytes.
    pub fn new(snapshots: D, log: D, chunk: usize) -> Feeder<D> {
        assert!(chunk > 0, "pieces without a byte");
        Feeder { snapshots, log, learners: HashMap::new(), chunk }
    }

    /// Answers a learner's question.
    pub fn answer(&mut self, conn: ConnId, ask: Ask) -> Result<Fed, FeedError> {
        let Feeder { snapshots, log, learners, chunk } = self;
        let open = learners.entry(conn).or_insert(Open { image: None, proposals: None });
        match ask {
            Ask::Survey => survey(snapshots, log).map(Fed::Survey),
            Ask::Locate { peer, chain } => locate(log, peer, chain).map(Fed::Located),
            Ask::Snapshot(zxid) => {
                let file = list_snapshots(snapshots)?.into_iter().find(|file| file.zxid == zxid);
                let file = file.ok_or(FeedError::NoSnapshot(zxid))?;
                open.image = Some(Image::open(snapshots, file)?);
                Ok(Fed::Snapshot(zxid))
            }
            Ask::Piece => {
                let image = open.image.as_mut().ok_or(FeedError::NotOpen)?;
                let piece = image.next(*chunk);
                if !matches!(piece, Ok((_, false))) {
                    open.image = None;
                }
                piece.map(|(bytes, last)| Fed::Piece { bytes, last })
            }
            Ask::Proposals { after, upto } => {
                assert!(after <= upto, "what follows {after} up to {upto}");
                let reader = match open.proposals.take().filter(|p| p.after == after && after < p.complete_upto) {
                    Some(reader) => reader,
                    None => Proposals::open(log, after, upto)?,
                };
                let reader = open.proposals.insert(reader);
                let list = reader.next(log, *chunk)?;
                Ok(Fed::Proposals { end: reader.after == upto, list })
            }
        }
    }

    /// The learner is gone: closes what is open for it.
    pub fn forget(&mut self, conn: ConnId) {
        self.learners.remove(&conn);
    }
}

fn survey<D: Dir>(snapshots: &D, log: &D) -> Result<Survey, FeedError> {
    let logs = list_logs(log)?.into_iter().map(|file| (file.first, file.len)).collect();
    let newest = list_snapshots(snapshots)?.into_iter().max_by_key(|file| file.zxid);
    Ok(Survey { logs, snapshot: newest.map(|file| (file.zxid, file.len)) })
}

fn locate<D: Dir>(log: &D, peer: Zxid, chain: Zxid) -> Result<Zxid, FeedError> {
    assert!(chain <= peer, "{peer} is sought in a log that is complete from {chain} on");
    let mut cursor = LogCursor::open(log, Zxid(chain.0.saturating_add(1)))?;
    let (mut nearest, mut scratch) = (chain, Vec::new());
    while nearest < peer {
        scratch.clear();
        match cursor.next_into(log, &mut scratch)? {
            Some(zxid) if zxid <= peer => nearest = zxid,
            _ => break,
        }
    }
    Ok(nearest)
}

/// Proposals from the log. What was appended after it was opened may be missing in what has been read ahead, so it is
/// used up to the zxid that was durable then, and opened again for more.
struct Proposals<D: Dir> {
    cursor: LogCursor<D>,
    after: Zxid,
    complete_upto: Zxid,
}

impl<D: Dir> Proposals<D> {
    fn open(log: &D, after: Zxid, upto: Zxid) -> Result<Proposals<D>, FeedError> {
        Ok(Proposals { cursor: LogCursor::open_after(log, after)?, after, complete_upto: upto })
    }

    fn next(&mut self, log: &D, chunk: usize) -> Result<Vec<(Zxid, Bytes)>, FeedError> {
        let (mut list, mut bytes) = (Vec::new(), 0);
        while self.after < self.complete_upto && bytes < chunk {
            let mut proposal = Vec::new();
            let Some(zxid) = self.cursor.next_into(log, &mut proposal)? else {
                return Err(FeedError::EndsEarly { end: self.after, upto: self.complete_upto });
            };
            assert!(zxid > self.after, "{zxid} comes after {}", self.after);
            if zxid > self.complete_upto {
                return Err(FeedError::EndsEarly { end: self.after, upto: self.complete_upto });
            }
            self.after = zxid;
            bytes += proposal.len();
            list.push((zxid, Bytes::from(proposal)));
        }
        Ok(list)
    }
}

/// The image of a snapshot file. The last bytes that were read are kept back, because the seals are among them.
struct Image<R: super::disk::Reader> {
    file: SnapshotFile,
    source: Unpacker<R>,
    /// Of everything that was passed on, and of the file's header.
    adler: simd_adler32::Adler32,
    kept: Vec<u8>,
    /// Bytes before `kept`, unpacked.
    at: u64,
}

impl<R: super::disk::Reader> Image<R> {
    fn open<D: Dir<Reader = R>>(dir: &D, file: SnapshotFile) -> Result<Image<R>, FeedError> {
        let source = Unpacker::new(dir.open(&file.name)?, file.compression);
        let mut image = Image { file, source, adler: simd_adler32::Adler32::new(), kept: Vec::new(), at: 0 };
        image.read_until(FILE_HEADER.len())?;
        if image.kept.len() < FILE_HEADER.len() || image.kept[..4] != FILE_HEADER[..4] {
            return Err(image.bad("not a snapshot: the file header is damaged"));
        }
        image.take(FILE_HEADER.len());
        Ok(image)
    }

    /// The next `most` bytes, or all that are left, and whether the image ends with them.
    fn next(&mut self, most: usize) -> Result<(Bytes, bool), FeedError> {
        let is_more = self.read_until(most + MAX_TAIL)?;
        if is_more {
            return Ok((self.take(most), false));
        }
        let Some((end, tail)) = self.find_tail() else {
            return Err(self.bad("the file is damaged, or it ends before its seal"));
        };
        if let Some(last) = tail.last_zxid.filter(|last| *last < self.file.zxid) {
            return Err(self.bad(&format!("it ends at {last} and was renamed")));
        }
        Ok((self.take(end), true))
    }

    /// Reads until `n` bytes are kept; false if the file ends before.
    fn read_until(&mut self, n: usize) -> Result<bool, FeedError> {
        let missing = n.saturating_sub(self.kept.len());
        io::copy(&mut io::Read::take(&mut self.source, missing as u64), &mut self.kept)?;
        Ok(self.kept.len() >= n)
    }

    fn take(&mut self, n: usize) -> Bytes {
        self.adler.write(&self.kept[..n]);
        let bytes = Bytes::copy_from_slice(&self.kept[..n]);
        self.kept.drain(..n);
        self.at += n as u64;
        bytes
    }

    /// Where the image ends in the bytes that are left. A znode's data may look like the end of an image, but the seal's
    /// checksum fits at the right place only.
    fn find_tail(&self) -> Option<(usize, Tail)> {
        let first = self.kept.len().saturating_sub(MAX_TAIL);
        let mut adler = self.adler.clone();
        adler.write(&self.kept[..first]);
        for (place, byte) in self.kept.iter().enumerate().skip(first) {
            adler.write(std::slice::from_ref(byte));
            let end = place + 1;
            if self.kept[..end].ends_with(&TERMINATOR)
                && let Ok(tail) = read_tail_of(&self.kept[end..], adler.clone())
            {
                return Some((end, tail));
            }
        }
        None
    }

    fn bad(&self, what: &str) -> FeedError {
        let error = SnapshotError::Bytes { at: self.at, what: what.to_owned() };
        FeedError::Snapshot { file: self.file.name.clone(), error }
    }
}
