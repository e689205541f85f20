//! The password check of a resumed session. Mirrors `ZooKeeperServer.checkPasswd`.

use crate::types::SessionId;

/// Whether `given` is the session's password. The comparison always takes the same time, so that nobody can guess the
/// password byte by byte. Never true for [`SessionId::NONE`] or if the length is not 16 bytes.
pub fn passwd_matches(session: SessionId, given: &[u8]) -> bool {
    let expected = session.passwd();
    if session == SessionId::NONE || given.len() != expected.len() {
        return false;
    }
    let difference = expected.iter().zip(given).fold(0u8, |sum, (a, b)| std::hint::black_box(sum | (a ^ b)));
    difference == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_very_password_matches() {
        let session = SessionId(0x0100_0000_0000_0001);
        let passwd = session.passwd();
        assert!(passwd_matches(session, &passwd));
        for bit in 0..128 {
            let mut wrong = passwd;
            wrong[bit / 8] ^= 1 << (bit % 8);
            assert!(!passwd_matches(session, &wrong), "bit {bit}");
        }
        assert!(!passwd_matches(session, &passwd[..15]));
        assert!(!passwd_matches(session, &[]));
        assert!(!passwd_matches(SessionId(session.0 + 1), &passwd));
        assert!(!passwd_matches(SessionId::NONE, &SessionId::NONE.passwd()));
    }
}
