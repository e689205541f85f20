//! The first bytes of a connection: handshakes of old and new clients, four-letter words, and anything else.
//!
//! The shard's reaction is compared with a short specification, and must be the same however the bytes are split.
//! Handshake records must survive being decoded and encoded again.

use zabra::limits::MAX_CONNECT_FRAME;
use zabra::proto::four_letter::{TELNET_CLOSE, WORDS};
use zabra::proto::{ConnectRequest, ConnectResponse};
use zabra::session::passwd::passwd_matches;
use zabra::shard::CloseHow;
use zabra::types::SessionId;

use crate::frame::{FIRST, Seen, compare};
use crate::input::Input;
use crate::world::{Asked, OWNER, TIMEOUT_MS, frames, last_zxid};

/// Input: where to split, then the bytes.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let cuts = input.piece();
    let bytes = input.rest();
    records(bytes);
    let seen = compare(bytes, cuts);
    let Some(head) = bytes.first_chunk::<4>() else {
        assert_eq!((seen.sent.len(), seen.asked.len(), seen.closed), (0, 0, None));
        return;
    };
    if *head == TELNET_CLOSE {
        assert_eq!((seen.sent.len(), seen.closed), (0, Some(CloseHow::Flush)));
    } else if let Some(word) = WORDS.into_iter().find(|w| w.as_bytes() == head) {
        four_letters(word, bytes, &seen);
    } else {
        handshake(i32::from_be_bytes(*head), &bytes[4..], &seen);
    }
}

/// Decodes, encodes and decodes again.
fn records(bytes: &[u8]) {
    if let Ok(request) = ConnectRequest::read(bytes) {
        let mut out = Vec::new();
        request.put(&mut out);
        assert_eq!(ConnectRequest::read(&out[4..]), Ok(request));
    }
    if let Ok(response) = ConnectResponse::read(bytes) {
        let mut out = Vec::new();
        response.put(&mut out);
        assert_eq!(ConnectResponse::read(&out[4..]), Ok(response));
    }
}

fn four_letters(word: &'static str, bytes: &[u8], seen: &Seen) {
    assert!(seen.asked.is_empty());
    let argument = bytes.get(4..12).and_then(|b| b.first_chunk::<8>()).map(|b| i64::from_be_bytes(*b));
    match (word, argument) {
        ("dump", _) => assert!(seen.sent.starts_with(b"dump is not executed") && seen.words.is_empty()),
        ("stmk", None) => assert!(seen.words.is_empty() && seen.sent.is_empty()),
        ("stmk", Some(mask)) => assert_eq!(seen.words, [(FIRST, word, mask)]),
        _ => assert_eq!(seen.words, [(FIRST, word, 0)]),
    }
}

/// `len` is the value of the first four bytes, `rest` what follows them.
fn handshake(len: i32, rest: &[u8], seen: &Seen) {
    assert!(seen.words.is_empty());
    let Some(len) = usize::try_from(len).ok().filter(|len| *len <= MAX_CONNECT_FRAME) else {
        assert_eq!((seen.sent.len(), seen.asked.len(), seen.closed), (0, 0, Some(CloseHow::Flush)));
        return;
    };
    let Some(frame) = rest.get(..len) else {
        assert_eq!((seen.sent.len(), seen.asked.len(), seen.closed), (0, 0, None));
        return;
    };
    let Some(request) = ConnectRequest::read(frame).ok() else {
        assert_eq!((seen.asked.len(), seen.closed), (0, Some(CloseHow::Flush)));
        return;
    };
    if request.last_zxid_seen > last_zxid() {
        assert_eq!((seen.asked.len(), seen.closed), (0, Some(CloseHow::Flush)));
        return;
    }
    let timeout = request.timeout_ms.clamp(TIMEOUT_MS.0, TIMEOUT_MS.1);
    let fits = passwd_matches(request.session, &request.passwd);
    let is_new = request.session == SessionId::NONE;
    let wanted = if is_new {
        Asked::NewSession { conn: FIRST, timeout_ms: timeout }
    } else {
        Asked::Resume { conn: FIRST, session: request.session, timeout_ms: timeout, passwd_matches: fits }
    };
    assert_eq!(seen.asked.first(), Some(&wanted));
    let answer = frames(&seen.sent)[0];
    // The response has the same fields as the request: clients up to 3.3 do not send readOnly.
    assert_eq!(answer.len(), if request.read_only.is_some() { 37 } else { 36 });
    let answer = ConnectResponse::read(answer).expect("an answer");
    if is_new || fits && request.session == OWNER {
        assert_eq!((answer.timeout_ms, answer.passwd), (timeout, answer.session.passwd()));
        assert!(is_new || answer.session == request.session);
    } else {
        assert_eq!((answer.timeout_ms, answer.session, seen.closed), (0, SessionId::NONE, Some(CloseHow::Flush)));
    }
}
