//! delete and deleteContainer. Mirrors `PrepRequestProcessor.pRequest2Txn`.

use super::state::{Record, Sessions, State};
use super::{Outcome, Step, next_version, parent_of};
use crate::txn::Txn;
use crate::types::path::{CONFIG, QUOTA, ROOT, ZOOKEEPER};
use crate::types::stat::owner;
use crate::types::{ErrorCode, Op, SessionId, perms};

/// The parent's path; an error if the path must not be deleted.
fn parent_of_deletable(path: &str) -> Result<&str, ErrorCode> {
    if [ROOT, ZOOKEEPER, QUOTA, CONFIG].contains(&path) {
        return Err(ErrorCode::BadArguments);
    }
    parent_of(path)
}

impl<T: State, S: Sessions> Step<'_, T, S> {
    pub(super) fn delete(&mut self, path: &str, version: i32) -> Outcome {
        self.check_session()?;
        let parent_path = parent_of_deletable(path)?;
        let parent = self.record(parent_path)?;
        self.check_acl(&parent, perms::DELETE)?;
        let node = self.record(path)?;
        next_version(node.stat.version, version)?;
        if node.num_children > 0 {
            return Err(ErrorCode::NotEmpty);
        }
        self.remove(path, &node, parent_path, &parent);
        Ok((Op::DELETE, Txn::Delete { path: path.to_owned() }))
    }

    /// deleteContainer, requested by the container manager. The tree may have changed since it chose the node, so the
    /// node must still qualify.
    pub(super) fn delete_container(&mut self, path: &str) -> Outcome {
        if self.request.session != SessionId::NONE {
            return Err(ErrorCode::Unimplemented);
        }
        let parent_path = parent_of_deletable(path)?;
        let node = self.record(path)?;
        if node.num_children > 0 {
            return Err(ErrorCode::NotEmpty);
        }
        match self.kind(&node) {
            owner::Kind::Container => {}
            owner::Kind::Ttl(ttl_ms) if self.header.time_ms.saturating_sub(node.stat.mtime) > ttl_ms => {}
            owner::Kind::Ttl(_) | owner::Kind::Persistent | owner::Kind::Ephemeral => {
                return Err(ErrorCode::BadVersion);
            }
        }
        let parent = self.record(parent_path)?;
        self.remove(path, &node, parent_path, &parent);
        Ok((Op::DELETE_CONTAINER, Txn::Delete { path: path.to_owned() }))
    }

    /// Removes a childless node as applying the delete will: the parent's counter stays, and its pzxid never decreases.
    pub(super) fn remove(&mut self, path: &str, node: &Record, parent_path: &str, parent: &Record) {
        let mut left = parent.clone();
        left.num_children -= 1;
        left.stat.pzxid = left.stat.pzxid.max(self.header.zxid);
        self.restat(parent_path, parent, left);
        self.unset(path, node);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::server_model::ModelOp;
    use crate::pipeline::prep::fixture::{Fixture, create, create_acl, create_flag, delete, set, world};

    #[test]
    fn order_of_checks() {
        let mut f = Fixture::new();
        f.taken(&create("/a"));
        f.taken(&create("/a/b"));
        f.taken(&create_acl("/closed", world(perms::ALL & !perms::DELETE)));
        f.taken(&create("/closed/x"));
        for (session, path, version, code) in [
            (9, "/", 5, -112),
            (1, "/", 5, -8),
            (1, "/zookeeper", 5, -8),
            (1, "/zookeeper/quota", 5, -8),
            (1, "/zookeeper/config", 5, -8),
            (1, "a", 5, -8),
            (1, "/none/\0", 5, -8),
            (1, "/none/x", 5, -101),
            (1, "/closed/none", 5, -102),
            (1, "/closed/x", 5, -102),
            (1, "/none", 5, -101),
            (1, "/a/", 5, -101),
            (1, "/a", 5, -103),
            (1, "/a", 0, -111),
            (1, "/a", -1, -111),
            (1, "/a/b", 0, 0),
            (1, "/a/b", 0, -101),
            (1, "/a", 0, 0),
        ] {
            f.session = SessionId(session);
            assert_eq!(f.code(&delete(path, version)), code, "{path} {version}");
        }
        f.session = SessionId(1);
        assert_eq!(f.code(&create("/a/x")), -101);
        assert_eq!(f.code(&create("/a")), 0, "again");
        f.taken(&set("/a", b"", 0));
    }

    #[test]
    fn delete_container_is_the_servers_own_and_checks_again() {
        let mut f = Fixture::new();
        f.taken(&create("/plain"));
        f.taken(&create_flag(Op::CREATE, "/eph", 1, -1));
        f.taken(&create_flag(Op::CREATE_CONTAINER, "/c", 4, -1));
        f.taken(&create_flag(Op::CREATE_CONTAINER, "/used", 4, -1));
        f.taken(&create("/used/x"));
        f.taken(&create_flag(Op::CREATE_TTL, "/t", 5, 100));
        let sweep = |path: &str| ModelOp::DeleteContainer { path: path.to_owned() };
        assert_eq!(f.code(&sweep("/c")), -6, "a client's");
        f.session = SessionId::NONE;
        for (path, code) in
            [("/", -8), ("/zookeeper/config", -8), ("/none", -101), ("/plain", -103), ("/eph", -103), ("/used", -111)]
        {
            assert_eq!(f.code(&sweep(path)), code, "{path}");
        }
        assert_eq!(f.code(&sweep("/c")), 0);
        f.wall_ms += 100;
        assert_eq!(f.code(&sweep("/t")), -103, "not outlived yet");
        f.wall_ms += 1;
        let sent = f.send(&sweep("/t"));
        assert_eq!(sent.header.op, Op::DELETE_CONTAINER);
        assert_eq!(sent.txn, Txn::Delete { path: "/t".to_owned() });
        assert_eq!(f.code(&sweep("/t")), -101);
    }
}
