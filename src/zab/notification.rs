//! The message of an election: the sender's state and vote. Mirrors `FastLeaderElection.buildMsg` and `WorkerReceiver`.

use thiserror::Error;

use super::vote::{Held, ServerState, Vote};
use crate::jute::{JuteError, Put, Reader};
use crate::types::{Epoch, ServerId, Zxid};

/// Most bytes of a message on an election connection (`QuorumCnxManager.PACKETMAXSIZE`). Longer messages and empty ones
/// end the connection.
pub const MAX_NOTIFICATION: usize = 512 << 10;

/// The version that this release writes: it contains the configuration's text.
pub const NOTIFICATION_VERSION: i32 = 2;

/// Bytes of a notification before 3.4, which has no peer epoch.
const WITHOUT_PEER_EPOCH: usize = 28;

/// Bytes of a notification before 3.5, which has no version; any bytes in its place are padding.
const WITHOUT_VERSION: usize = 40;

/// Why a message is not a valid notification. It is ignored; its connection stays open.
#[derive(Debug, Error, PartialEq, Eq, Clone, Copy)]
pub enum NotificationError {
    /// It is shorter than any notification.
    #[error("a notification of {0} bytes, fewer than 28")]
    Short(usize),
    /// An unknown state.
    #[error("a notification of a server in state {0}")]
    State(i32),
    /// A field is missing, or the configuration's length exceeds the message.
    #[error("a notification that cannot be read: {0}")]
    Field(#[from] JuteError),
}

/// A notification.
#[derive(Debug, PartialEq, Eq, Clone)]
pub struct Notification {
    /// The sender's vote, election and state.
    pub held: Held,
    /// The text of the newest configuration that the sender has seen; `None` from servers before 3.5.
    pub config: Option<String>,
}

impl Notification {
    /// Reads one message, without its length. As on Apache, bytes after the last field are ignored.
    ///
    /// # Errors
    /// [`NotificationError`]
    pub fn read(message: &[u8]) -> Result<Notification, NotificationError> {
        if message.len() < WITHOUT_PEER_EPOCH {
            return Err(NotificationError::Short(message.len()));
        }
        let mut r = Reader::new(message);
        let state = r.i32()?;
        let (leader, zxid, election_epoch) = (ServerId(r.i64()?), Zxid(r.i64()?), r.i64()?);
        let peer_epoch = if message.len() == WITHOUT_PEER_EPOCH { zxid.epoch() } else { Epoch(r.i64()?) };
        let old = [WITHOUT_PEER_EPOCH, WITHOUT_VERSION].contains(&message.len());
        let version = if old { 0 } else { r.i32()? };
        let config = if version >= NOTIFICATION_VERSION { Some(read_config(&mut r)?) } else { None };
        let state = ServerState::from_number(state).ok_or(NotificationError::State(state))?;
        let vote = Vote { leader, zxid, peer_epoch };
        Ok(Notification { held: Held { vote, election_epoch, state, version }, config })
    }

    /// The version of the sender's configuration, if it was sent.
    pub fn config_version(&self) -> Option<Zxid> {
        let mut lines = self.config.as_deref().unwrap_or_default().lines();
        let version = lines.find_map(|line| line.trim().strip_prefix("version="))?;
        i64::from_str_radix(version.trim(), 16).ok().map(Zxid)
    }

    /// Appends the message with its length, as it is sent; always in this release's version.
    pub fn put(out: &mut Vec<u8>, vote: &Vote, election_epoch: i64, state: ServerState, config: &str) {
        assert!(config.len() < MAX_NOTIFICATION, "a configuration of {} bytes", config.len());
        let begin = out.begin_frame();
        out.put_i32(state as i32);
        out.put_i64(vote.leader.0);
        out.put_i64(vote.zxid.0);
        out.put_i64(election_epoch);
        out.put_i64(vote.peer_epoch.0);
        out.put_i32(NOTIFICATION_VERSION);
        out.put_string(config);
        out.end_frame(begin);
        assert!(out.len() - begin <= 4 + MAX_NOTIFICATION, "a notification of {} bytes", out.len() - begin);
    }
}

fn read_config(r: &mut Reader<'_>) -> Result<String, JuteError> {
    let text = r.buffer()?.ok_or_else(|| r.unexpected("null configuration"))?;
    Ok(String::from_utf8_lossy(text).into_owned())
}

/// The first message in the bytes of an election connection and the number of bytes it takes, or `None` if it is
/// incomplete.
///
/// # Errors
/// The length field, if no message can have such a length: the connection must be closed.
pub fn split(bytes: &[u8]) -> Result<Option<(&[u8], usize)>, i32> {
    let Some(len) = bytes.first_chunk().map(|len| i32::from_be_bytes(*len)) else { return Ok(None) };
    match usize::try_from(len) {
        Ok(want) if (1..=MAX_NOTIFICATION).contains(&want) => Ok(bytes[4..].get(..want).map(|m| (m, 4 + want))),
        _ => Err(len),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VOTE: Vote = Vote { leader: ServerId(2), zxid: Zxid(0x3_0000_0004), peer_epoch: Epoch(9) };

    fn message(config: &str) -> Vec<u8> {
        let mut out = Vec::new();
        Notification::put(&mut out, &VOTE, 5, ServerState::Leading, config);
        out
    }

    #[test]
    fn what_is_written_is_read() {
        let bytes = message("version=0");
        let (body, taken) = split(&bytes).unwrap().unwrap();
        assert_eq!((body.len(), taken), (53, bytes.len()));
        let read = Notification::read(body).unwrap();
        assert_eq!(read.held, Held { vote: VOTE, election_epoch: 5, state: ServerState::Leading, version: 2 });
        assert_eq!((read.config.as_deref(), read.config_version()), (Some("version=0"), Some(Zxid(0))));
        let config = Some("server.1=a:1:2:participant\nversion=10000000a".to_owned());
        assert_eq!(Notification { config, ..read.clone() }.config_version(), Some(Zxid(0x1_0000_000a)));
        for config in [None, Some(String::new()), Some("version=x".to_owned())] {
            assert_eq!(Notification { config, ..read.clone() }.config_version(), None);
        }
    }

    #[test]
    fn older_releases_say_less() {
        let bytes = message("version=0");
        let oldest = Notification::read(&bytes[4..32]).unwrap();
        assert_eq!((oldest.held.vote.peer_epoch, oldest.held.version, oldest.config), (Epoch(3), 0, None));
        let old = Notification::read(&bytes[4..44]).unwrap();
        assert_eq!((old.held.vote.peer_epoch, old.held.version, old.config), (Epoch(9), 0, None));
        let mut first = bytes[4..48].to_vec();
        first[36..40].copy_from_slice(&1i32.to_be_bytes());
        let first = Notification::read(&first).unwrap();
        assert_eq!((first.held.vote.peer_epoch, first.held.version, first.config), (Epoch(9), 1, None));
    }

    #[test]
    fn nonsense_is_refused() {
        let bytes = message("version=0");
        let body = &bytes[4..];
        assert_eq!(Notification::read(&body[..27]), Err(NotificationError::Short(27)));
        for cut in (29..body.len()).filter(|cut| *cut != 40) {
            assert!(matches!(Notification::read(&body[..cut]), Err(NotificationError::Field(_))), "{cut}");
        }
        let with = |at: usize, value: i32| {
            let mut changed = body.to_vec();
            changed[at..at + 4].copy_from_slice(&value.to_be_bytes());
            Notification::read(&changed)
        };
        assert_eq!(with(0, 4), Err(NotificationError::State(4)));
        for len in [-1, -2, 10, i32::MAX] {
            assert!(matches!(with(40, len), Err(NotificationError::Field(_))), "{len}");
        }
    }

    #[test]
    fn a_stream_is_cut_at_its_lengths() {
        let bytes = message("");
        for cut in 0..bytes.len() {
            assert_eq!(split(&bytes[..cut]), Ok(None), "{cut}");
        }
        for len in [0, -1, 524_289, i32::MIN] {
            assert_eq!(split(&len.to_be_bytes()), Err(len));
        }
        assert_eq!(split(&524_288i32.to_be_bytes()), Ok(None));
    }
}
