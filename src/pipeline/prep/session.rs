//! Sessions in writes: whether one may write, and which ephemerals are deleted when it closes. Mirrors
//! `SessionTracker.checkSession` and closeSession in `PrepRequestProcessor`.

use super::outstanding::SessionChange;
use super::state::{Sessions, State};
use super::{Step, parent_of};
use crate::txn::{Txn, TxnDigest, TxnHeader};
use crate::types::{ErrorCode, Op};

impl<T: State, S: Sessions> Step<'_, T, S> {
    /// Checks that the session exists, is not closing and still belongs to the client that sent the request.
    pub(super) fn check_session(&self) -> Result<(), ErrorCode> {
        let session = self.request.session;
        let usable = match self.out.session(session) {
            Some(change) => change == SessionChange::Created,
            None => self.sessions.is_known(session) && !self.sessions.is_closing(session),
        };
        match (usable, self.request.moved) {
            (false, _) => Err(ErrorCode::SessionExpired),
            (true, true) => Err(ErrorCode::SessionMoved),
            (true, false) => Ok(()),
        }
    }

    /// Like [`Step::check_session`], and also checks that the session may own ephemerals.
    pub(super) fn check_global_session(&self) -> Result<(), ErrorCode> {
        self.check_session()?;
        let session = self.request.session;
        if self.out.session(session).is_some() || self.sessions.is_global(session) {
            return Ok(());
        }
        let is_local = self.sessions.is_local(session);
        // Another server knows that it is a local session of its own, and tells its client so.
        Err(if is_local { ErrorCode::EphemeralOnLocalSession } else { ErrorCode::SessionExpired })
    }

    /// Deletes the session's ephemerals, including those that outstanding creates make. Never refused: an expired
    /// session has no connection to check, and a client may close a session that has already expired.
    pub(super) fn close_session(&mut self) -> (Op, Txn) {
        let mut paths = self.out.ephemerals_of(self.state, self.request.session);
        for path in &paths {
            self.remove_ephemeral(path);
        }
        if !self.options.close_session_txn {
            return (Op::CLOSE_SESSION, Txn::CloseSession { paths: None });
        }
        let mut room = self.options.max_txn_bytes.saturating_sub(TxnHeader::LEN + 4 + TxnDigest::LEN);
        let fits = paths.iter().take_while(|path| {
            let needed = 4 + path.len();
            let fits = needed <= room;
            room = room.saturating_sub(needed);
            fits
        });
        let fitting = fits.count();
        paths.truncate(fitting);
        (Op::CLOSE_SESSION, Txn::CloseSession { paths: Some(paths) })
    }

    fn remove_ephemeral(&mut self, path: &str) {
        let Ok(node) = self.record(path) else { return };
        match parent_of(path).and_then(|parent_path| Ok((parent_path, self.record(parent_path)?))) {
            Ok((parent_path, parent)) => self.remove(path, &node, parent_path, &parent),
            Err(_) => self.unset(path, &node),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::oracle::server_model::ModelOp;
    use crate::pipeline::prep::PrepOptions;
    use crate::pipeline::prep::fixture::{Fixture, create, create_flag, delete};
    use crate::txn::{Txn, TxnHeader};
    use crate::types::{Op, SessionId};

    fn ephemeral(path: &str) -> ModelOp {
        create_flag(Op::CREATE, path, 1, -1)
    }

    fn closed(paths: &[&str]) -> Txn {
        Txn::CloseSession { paths: Some(paths.iter().map(|p| p.to_string()).collect()) }
    }

    #[test]
    fn who_may_write() {
        let mut f = Fixture::new();
        f.session = SessionId(9);
        assert_eq!(f.code(&create("/a")), -112, "unknown");
        f.session = SessionId(1);
        f.table.closing.insert(SessionId(1));
        assert_eq!(f.code(&create("/a")), -112, "closing");
        f.table.closing.clear();
        f.moved = true;
        assert_eq!(f.code(&create("/a")), -118, "moved");
        f.table.known.clear();
        assert_eq!(f.code(&create("/a")), -112, "gone before it moved");
    }

    #[test]
    fn a_session_may_write_as_soon_as_its_creation_is_proposed_and_never_after_its_close() {
        let mut f = Fixture::new();
        f.session = SessionId(7);
        assert_eq!(f.taken(&ModelOp::CreateSession), Txn::CreateSession { timeout_ms: 30_000 });
        f.taken(&ephemeral("/e"));
        assert_eq!(f.taken(&ModelOp::CloseSession), closed(&["/e"]));
        assert_eq!(f.code(&create("/a")), -112);
        assert_eq!(f.code(&ephemeral("/e")), -112);
        // Both an expiry and the client's own request may close the same session.
        assert_eq!(f.taken(&ModelOp::CloseSession), closed(&[]));
        f.moved = true;
        assert_eq!(f.taken(&ModelOp::CloseSession), closed(&[]), "whoever asks");
    }

    #[test]
    fn a_close_takes_what_the_session_will_own() {
        let mut f = Fixture::new();
        f.applied(&create("/d"));
        for path in ["/d/kept", "/d/gone", "/d/reborn", "/d/lost"] {
            f.applied(&ephemeral(path));
        }
        f.taken(&delete("/d/gone", -1));
        f.taken(&delete("/d/reborn", -1));
        f.taken(&ephemeral("/d/reborn"));
        f.taken(&delete("/d/lost", -1));
        f.taken(&ephemeral("/d/new"));
        f.taken(&ephemeral("/d/brief"));
        f.taken(&delete("/d/brief", -1));
        f.session = SessionId(2);
        f.taken(&ephemeral("/d/lost"));
        f.session = SessionId(1);
        assert_eq!(f.taken(&ModelOp::CloseSession), closed(&["/d/kept", "/d/new", "/d/reborn"]));
        f.session = SessionId(2);
        assert_eq!(f.code(&ephemeral("/d/kept")), 0, "its place is free");
        assert_eq!(f.code(&delete("/d", -1)), -111);
        for path in ["/d/lost", "/d/kept"] {
            f.taken(&delete(path, -1));
        }
        assert_eq!(f.code(&delete("/d", -1)), 0, "children of the closed session do not count");
    }

    #[test]
    fn a_close_too_long_for_a_transaction_still_closes() {
        let max_txn_bytes = 400;
        let mut f = Fixture::with(PrepOptions { max_txn_bytes, ..PrepOptions::default() });
        for i in 0..50 {
            f.applied(&ephemeral(&format!("/ephemeral-{i:02}")));
        }
        let sent = f.send(&ModelOp::CloseSession);
        let Txn::CloseSession { paths: Some(paths) } = &sent.txn else { panic!() };
        // Each path takes 4 + 13 bytes.
        assert_eq!(paths.len(), (max_txn_bytes - TxnHeader::LEN - 12 - 4) / 17);
        assert!(sent.record.len() <= max_txn_bytes && sent.record.len() + 17 > max_txn_bytes);
        f.session = SessionId(2);
        assert_eq!(f.code(&ephemeral("/ephemeral-49")), 0);
        f.apply(&sent);
        assert_eq!(f.tree.ephemerals_count(), 0);
    }

    #[test]
    fn the_list_can_be_left_out() {
        let mut f = Fixture::with(PrepOptions { close_session_txn: false, ..PrepOptions::default() });
        f.applied(&ephemeral("/e"));
        let sent = f.send(&ModelOp::CloseSession);
        assert_eq!((&sent.txn, sent.digest), (&Txn::CloseSession { paths: None }, None));
        assert_eq!(sent.record.len(), TxnHeader::LEN);
        f.apply(&sent);
        let next = f.send(&create("/x"));
        assert_eq!(next.error(), Some(-112));
        assert_eq!(next.digest.map(|d| d.digest), Some(f.tree.digest()));
    }
}
