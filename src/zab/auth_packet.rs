//! SASL tokens between servers. On an election connection they follow the hello; on a quorum connection they come
//! before FOLLOWERINFO. Mirrors `QuorumAuthPacket` and `QuorumAuth`.

use thiserror::Error;

use crate::jute::{JuteError, Put, Reader};

/// The first eight bytes. A server that does not require authentication uses them to recognise a token.
const MAGIC: i64 = 0x5f24_3501_3501_edcc;

/// Most bytes of a token. Apache's limit is `jute.maxbuffer`; usual tokens have a few hundred bytes, those of Kerberos
/// a few thousand.
pub const MAX_TOKEN: usize = 64 << 10;

/// The state of the authentication.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub enum AuthStatus {
    /// Another token is expected.
    InProgress = 0,
    /// The learner is authenticated.
    Success = 1,
    /// The authentication failed.
    Error = -1,
}

/// Why bytes are not a token: the connection must be closed.
#[derive(Debug, Error, PartialEq, Eq, Clone, Copy)]
pub enum AuthPacketError {
    /// The first number is not the magic.
    #[error("no SASL token: the magic number is {0:#x}")]
    Magic(i64),
    /// An unknown status.
    #[error("a SASL token with status {0}")]
    Status(i32),
    /// A length that no token can have.
    #[error("a SASL token of {0} bytes, more than {MAX_TOKEN} are not taken")]
    Length(i32),
}

/// One token.
#[derive(Debug, PartialEq, Eq, Clone)]
pub struct AuthPacket<'a> {
    /// The state.
    pub status: AuthStatus,
    /// The token; `None` is a null buffer.
    pub token: Option<&'a [u8]>,
}

impl<'a> AuthPacket<'a> {
    /// Whether a stream begins with a token. `None`: there are too few bytes to know.
    pub fn begins(bytes: &[u8]) -> Option<bool> {
        bytes.first_chunk().map(|magic| i64::from_be_bytes(*magic) == MAGIC)
    }

    /// Reads a token from the first bytes and returns it with its length, or `None` if it is incomplete.
    ///
    /// # Errors
    /// [`AuthPacketError`]
    pub fn read(bytes: &'a [u8]) -> Result<Option<(AuthPacket<'a>, usize)>, AuthPacketError> {
        let mut r = Reader::new(bytes);
        match Self::fields(&mut r)? {
            Ok(packet) => Ok(Some((packet, r.position()))),
            Err(_) => Ok(None),
        }
    }

    /// The inner error means that more bytes are needed.
    fn fields(r: &mut Reader<'a>) -> Result<Result<AuthPacket<'a>, JuteError>, AuthPacketError> {
        let (magic, status, len) = match (r.i64(), r.i32(), r.clone().i32()) {
            (Ok(magic), _, _) if magic != MAGIC => return Err(AuthPacketError::Magic(magic)),
            (Ok(magic), Ok(status), Ok(len)) => (magic, status, len),
            (Err(e), ..) | (_, Err(e), _) | (.., Err(e)) => return Ok(Err(e)),
        };
        debug_assert_eq!(magic, MAGIC, "checked above");
        let all = [AuthStatus::InProgress, AuthStatus::Success, AuthStatus::Error];
        let known = all.into_iter().find(|known| *known as i32 == status).ok_or(AuthPacketError::Status(status))?;
        if len < -1 || len > MAX_TOKEN as i32 {
            return Err(AuthPacketError::Length(len));
        }
        Ok(r.buffer().map(|token| AuthPacket { status: known, token }))
    }

    /// Appends the token as it is sent.
    pub fn put(&self, out: &mut Vec<u8>) {
        let len = self.token.map_or(0, <[u8]>::len);
        assert!(len <= MAX_TOKEN, "a SASL token of {len} bytes, more than {MAX_TOKEN} are not taken");
        out.put_i64(MAGIC);
        out.put_i32(self.status as i32);
        out.put_buffer(self.token);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_comes_back_and_waits_for_its_end() {
        for (status, token) in [
            (AuthStatus::InProgress, Some(&b"realm"[..])),
            (AuthStatus::Success, Some(&b""[..])),
            (AuthStatus::Error, None),
        ] {
            let mut bytes = Vec::new();
            AuthPacket { status, token }.put(&mut bytes);
            for cut in 0..bytes.len() {
                assert_eq!(AuthPacket::read(&bytes[..cut]), Ok(None), "{cut}");
            }
            let len = bytes.len();
            bytes.push(1);
            assert_eq!(AuthPacket::read(&bytes), Ok(Some((AuthPacket { status, token }, len))));
            assert_eq!(AuthPacket::begins(&bytes), Some(true));
        }
    }

    #[test]
    fn nonsense_is_refused() {
        let read = |magic: i64, status: i32, len: i32| {
            let mut bytes = Vec::new();
            bytes.put_i64(magic);
            bytes.put_i32(status);
            bytes.put_i32(len);
            AuthPacket::read(&bytes).map(|p| p.is_some())
        };
        assert_eq!(read(0, 0, 0), Err(AuthPacketError::Magic(0)));
        assert_eq!(read(MAGIC, 2, 0), Err(AuthPacketError::Status(2)));
        assert_eq!(read(MAGIC, 0, 65537), Err(AuthPacketError::Length(65537)));
        assert_eq!(read(MAGIC, 0, -2), Err(AuthPacketError::Length(-2)));
        assert_eq!(read(MAGIC, 0, 65536), Ok(false));
        assert_eq!((AuthPacket::begins(&[0; 8]), AuthPacket::begins(&[0; 7])), (Some(false), None));
    }
}
