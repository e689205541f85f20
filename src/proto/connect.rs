//! The handshake. Mirrors `ConnectRequest`, `ConnectResponse` and `compat.ProtocolManager`.

use crate::jute::{JuteError, Put, Reader};
use crate::types::{SessionId, Zxid};

/// The first packet of a connection.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub struct ConnectRequest {
    pub protocol_version: i32,
    pub last_zxid_seen: Zxid,
    /// The timeout that the client asks for, in milliseconds; the server may change it.
    pub timeout_ms: i32,
    /// The session to resume; 0 asks for a new one.
    pub session: SessionId,
    pub passwd: Vec<u8>,
    /// `None` if the client is an old one that does not send the field; the response then omits it too.
    pub read_only: Option<bool>,
}

/// The server's response; a timeout of 0 tells the client that its session does not exist any more.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub struct ConnectResponse {
    pub timeout_ms: i32,
    pub session: SessionId,
    pub passwd: [u8; 16],
    pub read_only: Option<bool>,
}

impl ConnectRequest {
    /// Reads the packet, without its frame length. As in Java, bytes after the record are ignored.
    pub fn read(bytes: &[u8]) -> Result<ConnectRequest, JuteError> {
        let mut r = Reader::new(bytes);
        Ok(ConnectRequest {
            protocol_version: r.i32()?,
            last_zxid_seen: Zxid(r.i64()?),
            timeout_ms: r.i32()?,
            session: SessionId(r.i64()?),
            passwd: r.buffer()?.unwrap_or_default().to_vec(),
            read_only: if r.is_empty() { None } else { Some(r.bool()?) },
        })
    }

    /// Appends the packet as a frame.
    pub fn put(&self, out: &mut Vec<u8>) {
        let f = out.begin_frame();
        out.put_i32(self.protocol_version);
        out.put_i64(self.last_zxid_seen.0);
        out.put_i32(self.timeout_ms);
        out.put_i64(self.session.0);
        out.put_buffer(Some(&self.passwd));
        if let Some(ro) = self.read_only {
            out.put_bool(ro);
        }
        out.end_frame(f);
    }
}

impl ConnectResponse {
    /// The response to a resume that is refused.
    pub fn expired(read_only: Option<bool>) -> ConnectResponse {
        ConnectResponse { timeout_ms: 0, session: SessionId::NONE, passwd: [0; 16], read_only }
    }

    /// Appends the packet as a frame.
    pub fn put(&self, out: &mut Vec<u8>) {
        let f = out.begin_frame();
        out.put_i32(0);
        out.put_i32(self.timeout_ms);
        out.put_i64(self.session.0);
        out.put_buffer(Some(&self.passwd));
        if let Some(ro) = self.read_only {
            out.put_bool(ro);
        }
        out.end_frame(f);
    }

    /// Reads the packet, without its frame length.
    pub fn read(bytes: &[u8]) -> Result<ConnectResponse, JuteError> {
        let mut r = Reader::new(bytes);
        r.i32()?;
        let timeout_ms = r.i32()?;
        let session = SessionId(r.i64()?);
        let passwd = r.buffer()?.unwrap_or_default();
        let passwd = passwd.try_into().map_err(|_| r.unexpected("password length"))?;
        let read_only = if r.is_empty() { None } else { Some(r.bool()?) };
        Ok(ConnectResponse { timeout_ms, session, passwd, read_only })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(s: &str) -> Vec<u8> {
        let s: String = s.split_whitespace().collect();
        (0..s.len()).step_by(2).map(|i| u8::from_str_radix(&s[i..i + 2], 16).unwrap()).collect()
    }

    #[test]
    fn request_vector() {
        let bytes = hex("0000002d 00000000 0000000000000000 00007530 0000000000000000 00000010
                         00000000000000000000000000000000 00");
        let request = ConnectRequest::read(&bytes[4..]).unwrap();
        assert_eq!((request.timeout_ms, request.session, request.read_only), (30000, SessionId(0), Some(false)));
        let mut out = Vec::new();
        request.put(&mut out);
        assert_eq!(out, bytes);
        let old = ConnectRequest::read(&bytes[4..bytes.len() - 1]).unwrap();
        assert_eq!(old.read_only, None);
        assert!(ConnectRequest::read(&bytes[4..20]).is_err());
    }

    #[test]
    fn response_vectors() {
        let session = SessionId(0x0100_0000_0000_0001);
        let response = ConnectResponse { timeout_ms: 30000, session, passwd: session.passwd(), read_only: Some(false) };
        let mut out = Vec::new();
        response.put(&mut out);
        let expected = "00000025 00000000 00007530 0100000000000001 00000010 054cc74a37327db215e702e20c73f005 00";
        assert_eq!(out, hex(expected));
        assert_eq!(ConnectResponse::read(&out[4..]), Ok(response));
        let mut out = Vec::new();
        ConnectResponse::expired(None).put(&mut out);
        assert_eq!(out, hex("00000024 00000000 00000000 0000000000000000 00000010 00000000000000000000000000000000"));
    }
}
