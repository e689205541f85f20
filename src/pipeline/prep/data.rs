//! setData, setACL, and check inside a multi. Mirrors `PrepRequestProcessor.pRequest2Txn`.

use bytes::Bytes;

use super::state::{Sessions, State};
use super::{Outcome, Step, acl, next_version, validate};
use crate::txn::Txn;
use crate::types::acl::AclList;
use crate::types::{Op, perms};

impl<T: State, S: Sessions> Step<'_, T, S> {
    pub(super) fn set_data(&mut self, path: &str, data: Option<&[u8]>, version: i32) -> Outcome {
        self.check_session()?;
        validate(path)?;
        let node = self.record(path)?;
        self.check_acl(&node, perms::WRITE)?;
        let data_len = data.map_or(0, <[u8]>::len);
        self.check_quota(path, 0, data_len as i64 - i64::from(node.data_len))?;
        let version = next_version(node.stat.version, version)?;
        let mut changed = node.clone();
        changed.stat.version = version;
        changed.stat.mtime = self.header.time_ms;
        changed.stat.mzxid = self.header.zxid;
        changed.data_len = data_len as i32;
        self.set(path, Some(&node), changed, data);
        Ok((Op::SET_DATA, Txn::SetData { path: path.to_owned(), data: data.map(|d| self.own(d)), version }))
    }

    pub(super) fn set_acl(&mut self, path: &str, acls: AclList, version: i32) -> Outcome {
        self.check_session()?;
        validate(path)?;
        let acl = acl::fixup(&self.options.providers, &self.request.auth, acls, self.options.max_txn_bytes)?;
        let node = self.record(path)?;
        self.check_acl(&node, perms::ADMIN)?;
        let version = next_version(node.stat.aversion, version)?;
        let mut changed = node.clone();
        changed.stat.aversion = version;
        changed.acl = acl.clone();
        self.restat(path, &node, changed);
        Ok((Op::SET_ACL, Txn::SetAcl { path: path.to_owned(), acl, version }))
    }

    pub(super) fn check(&mut self, path: &str, version: i32) -> Outcome {
        self.check_session()?;
        validate(path)?;
        let node = self.record(path)?;
        self.check_acl(&node, perms::READ)?;
        let version = next_version(node.stat.version, version)?;
        Ok((Op::CHECK, Txn::Check { path: path.to_owned(), version }))
    }

    /// A copy of part of the request's bytes that lives longer than the request.
    pub(super) fn own(&self, data: &[u8]) -> Bytes {
        self.request.body.slice_ref(data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::server_model::ModelOp;
    use crate::pipeline::prep::fixture::{Fixture, check, create, create_acl, set, set_acl, world};
    use crate::types::Acl;
    use crate::types::{ErrorCode, Id, SessionId};

    #[test]
    fn versions() {
        assert_eq!(next_version(3, -1), Ok(4));
        assert_eq!(next_version(3, 3), Ok(4));
        assert_eq!(next_version(3, 2), Err(ErrorCode::BadVersion));
        assert_eq!(next_version(i32::MAX, -1), Ok(i32::MIN));
        assert_eq!(next_version(-2, -1), Ok(0), "no node has version -1");
        assert_eq!(next_version(-1, -1), Ok(0), "but /zookeeper/config");
    }

    #[test]
    fn set_data_order_of_checks() {
        let mut f = Fixture::new();
        f.taken(&create_acl("/closed", world(perms::ALL & !perms::WRITE)));
        f.taken(&create("/a"));
        for (session, path, version, code) in [
            (9, "/a/", 5, -112),
            (1, "/a/", 5, -8),
            (1, "", 5, -8),
            (1, "/none", 5, -101),
            (1, "/closed", 5, -102),
            (1, "/a", 5, -103),
            (1, "/a", 0, 0),
            (1, "/a", 0, -103),
            (1, "/a", 1, 0),
            (1, "/a", -1, 0),
            (1, "/", 0, 0),
            (1, "/zookeeper/config", -1, -102),
        ] {
            f.session = SessionId(session);
            assert_eq!(f.code(&set(path, b"x", version)), code, "{path:?} {version}");
        }
    }

    #[test]
    fn set_acl_order_of_checks() {
        let mut f = Fixture::new();
        f.taken(&create_acl("/closed", world(perms::ALL & !perms::ADMIN)));
        f.taken(&create("/a"));
        let bad = vec![Acl { perms: 1, id: Id::new("digest", "nohash") }];
        let good = world(perms::ALL & !perms::WRITE);
        for (session, path, acl, version, code) in [
            (9, "/none/", &bad, 5, -112),
            (1, "/none/", &bad, 5, -8),
            (1, "/none", &bad, 5, -114),
            (1, "/none", &good, 5, -101),
            (1, "/closed", &good, 5, -102),
            (1, "/a", &good, 5, -103),
            (1, "/a", &good, 0, 0),
            (1, "/a", &good, 0, -103),
            (1, "/a", &good, 1, 0),
        ] {
            f.session = SessionId(session);
            assert_eq!(f.code(&set_acl(path, acl.clone(), version)), code, "{path} {version}");
        }
        assert_eq!(f.code(&set("/a", b"", -1)), -102, "the outstanding list holds");
    }

    #[test]
    fn check_order_of_checks() {
        let mut f = Fixture::new();
        f.taken(&create_acl("/closed", world(perms::ALL & !perms::READ)));
        f.taken(&create("/a"));
        for (session, path, version, code) in [
            (9, "/none/", 5, -112),
            (1, "/none/", 5, -8),
            (1, "/none", 5, -101),
            (1, "/closed", 5, -102),
            (1, "/a", 5, -103),
        ] {
            f.session = SessionId(session);
            assert_eq!(f.code(&check(path, version)), -6, "alone it is no operation");
            let Txn::Multi(subs) = f.taken(&ModelOp::Multi(vec![check(path, version)])) else { panic!() };
            assert_eq!(subs[0].txn, Txn::Error { err: code }, "{path}");
        }
        let Txn::Multi(subs) = f.taken(&ModelOp::Multi(vec![check("/a", 0)])) else { panic!() };
        assert_eq!(subs[0].txn, Txn::Check { path: "/a".to_owned(), version: 1 });
    }

    #[test]
    fn null_data_stays_null() {
        let mut f = Fixture::new();
        f.taken(&create("/a"));
        let sent = f.send(&ModelOp::SetData { path: "/a".to_owned(), data: None, version: 0 });
        assert_eq!(sent.txn, Txn::SetData { path: "/a".to_owned(), data: None, version: 1 });
    }
}
