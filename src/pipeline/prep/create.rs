//! create, create2, createContainer, createTTL. Mirrors `PrepRequestProcessor.pRequest2TxnCreate`.

use std::borrow::Cow;

use super::state::{Record, Sessions, State};
use super::{Outcome, Step, acl, parent_of, validate};
use crate::proto::CreateRequest;
use crate::txn::{CreateKind, CreateTxn, Txn};
use crate::types::acl::SharedAcl;
use crate::types::stat::owner;
use crate::types::{CreateMode, ErrorCode, Op, StatPersisted, perms};

impl<T: State, S: Sessions> Step<'_, T, S> {
    pub(super) fn create(&mut self, op: Op, create: CreateRequest<'_>) -> Outcome {
        let mode = CreateMode::meant(op, create.flags)?;
        let kind = self.create_kind(mode, create.ttl_ms)?;
        if mode.is_ephemeral() {
            self.check_global_session()?
        } else {
            self.check_session()?
        }
        let parent_path = parent_of(&create.path)?;
        let acl = acl::fixup(&self.options.providers, &self.request.auth, create.acl, self.options.max_txn_bytes)?;
        let parent = self.record(parent_path)?;
        self.check_acl(&parent, perms::CREATE)?;
        let path = if mode.is_sequential() {
            self.counters.used(self.now, parent_path, parent.stat.cversion);
            Cow::Owned(format!("{}{:010}", create.path, parent.stat.cversion))
        } else {
            Cow::Borrowed(create.path.as_ref())
        };
        validate(&path)?;
        if self.record(&path).is_ok() {
            return Err(ErrorCode::NodeExists);
        }
        if self.kind(&parent) == owner::Kind::Ephemeral {
            return Err(ErrorCode::NoChildrenForEphemerals);
        }
        let data = create.data;
        self.check_quota(&path, 1, data.map_or(0, <[u8]>::len) as i64)?;

        let parent_cversion = parent.stat.cversion.wrapping_add(1);
        let grown = self.with_new_child(&parent, parent_cversion);
        self.restat(parent_path, &parent, grown);
        let node = self.new_node(data, acl.clone(), kind);
        self.set(&path, None, node, data);
        let data = data.map(|d| self.own(d));
        Ok((op, Txn::Create(CreateTxn { path: path.into_owned(), data, acl, kind, parent_cversion })))
    }

    /// Which kind of znode it makes. Only a createTTL has a TTL, which has to be in bounds.
    fn create_kind(&self, mode: CreateMode, ttl_ms: Option<i64>) -> Result<CreateKind, ErrorCode> {
        if mode.is_ttl() {
            if !self.options.extended.enabled {
                return Err(ErrorCode::Unimplemented);
            }
            let good = ttl_ms.filter(|ttl_ms| (1..=owner::MAX_TTL_MS).contains(ttl_ms));
            return good.map(|ttl_ms| CreateKind::Ttl { ttl_ms }).ok_or(ErrorCode::BadArguments);
        }
        Ok(match mode {
            CreateMode::Container => CreateKind::Container,
            _ => CreateKind::Plain { ephemeral: mode.is_ephemeral() },
        })
    }

    /// The parent as it is after the create is applied. Its cversion never decreases.
    fn with_new_child(&self, parent: &Record, cversion: i32) -> Record {
        let mut grown = parent.clone();
        grown.num_children += 1;
        if cversion > grown.stat.cversion {
            grown.stat.cversion = cversion;
            grown.stat.pzxid = self.header.zxid;
        }
        grown
    }

    fn new_node(&self, data: Option<&[u8]>, acl: SharedAcl, kind: CreateKind) -> Record {
        let (zxid, time_ms) = (self.header.zxid, self.header.time_ms);
        let ephemeral_owner = match kind {
            CreateKind::Plain { ephemeral: true } => self.header.session.0,
            CreateKind::Plain { ephemeral: false } => 0,
            CreateKind::Container => owner::CONTAINER,
            CreateKind::Ttl { ttl_ms } => owner::of_ttl(ttl_ms),
        };
        Record {
            stat: StatPersisted {
                czxid: zxid,
                mzxid: zxid,
                pzxid: zxid,
                ctime: time_ms,
                mtime: time_ms,
                ephemeral_owner,
                ..StatPersisted::default()
            },
            num_children: 0,
            data_len: data.map_or(0, <[u8]>::len) as i32,
            share: 0,
            acl,
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::oracle::server_model::ModelOp;
    use crate::pipeline::prep::PrepOptions;
    use crate::pipeline::prep::fixture::{Fixture, create, create_acl, create_flag, world};
    use crate::txn::{CreateKind, Txn};
    use crate::types::stat::owner::ExtendedTypes;
    use crate::types::{Acl, Id, Op, SessionId, perms};

    fn path_and_kind(txn: Txn) -> (String, CreateKind) {
        let Txn::Create(c) = txn else { panic!("{txn:?}") };
        (c.path, c.kind)
    }

    #[test]
    fn the_opcode_decides_what_is_made() {
        let mut f = Fixture::new();
        let plain = |ephemeral| CreateKind::Plain { ephemeral };
        for (op, flags, ttl_ms, kind) in [
            (Op::CREATE, 0, -1, plain(false)),
            (Op::CREATE, 1, -1, plain(true)),
            (Op::CREATE2, 1, -1, plain(true)),
            (Op::CREATE, 4, -1, plain(false)),
            (Op::CREATE_CONTAINER, 4, -1, CreateKind::Container),
            (Op::CREATE_CONTAINER, 0, -1, CreateKind::Container),
            (Op::CREATE_CONTAINER, 1, -1, CreateKind::Container),
            (Op::CREATE_TTL, 5, 7, CreateKind::Ttl { ttl_ms: 7 }),
        ] {
            let path = format!("/n{op}-{flags}");
            let sent = f.send(&create_flag(op, &path, flags, ttl_ms));
            f.apply(&sent);
            assert_eq!((sent.header.op, path_and_kind(sent.txn)), (op, (path, kind)), "{op} {flags}");
        }
    }

    #[test]
    fn names_count_the_parents_creates() {
        let mut f = Fixture::new();
        f.taken(&create("/q"));
        f.taken(&create("/q/plain"));
        let mut name = |flags, op, ttl_ms| path_and_kind(f.taken(&create_flag(op, "/q/s-", flags, ttl_ms))).0;
        assert_eq!(name(2, Op::CREATE, -1), "/q/s-0000000001");
        assert_eq!(name(3, Op::CREATE2, -1), "/q/s-0000000002");
        assert_eq!(name(6, Op::CREATE_TTL, 5), "/q/s-0000000003");
        assert_eq!(path_and_kind(f.taken(&create_flag(Op::CREATE, "/q/", 2, -1))).0, "/q/0000000004");
        assert_eq!(path_and_kind(f.taken(&create_flag(Op::CREATE, "/", 2, -1))).0, "/0000000001");
        assert_eq!(f.code(&create_flag(Op::CREATE, "/q/..", 0, -1)), -8);
        assert_eq!(path_and_kind(f.taken(&create_flag(Op::CREATE, "/q/..", 2, -1))).0, "/q/..0000000005");
        assert_eq!(format!("{:010}", i32::MIN), "-2147483648", "what Java's %010d makes of an overflow");
    }

    /// Each case breaks the named rule and all later ones: the error must be that of the first.
    #[test]
    fn order_of_checks() {
        let mut f = Fixture::new();
        f.taken(&create("/open"));
        f.taken(&create("/open/there"));
        f.taken(&create_acl("/closed", world(perms::ALL & !perms::CREATE)));
        f.taken(&create_flag(Op::CREATE, "/eph", 1, -1));
        let bad_acl = vec![Acl { perms: 31, id: Id::new("nope", "") }];
        let case = |op, path: &str, acl: &[Acl], flags, ttl_ms| ModelOp::Create {
            op,
            path: path.to_owned(),
            data: None,
            acl: acl.to_vec(),
            flags,
            ttl_ms,
        };
        let open = world(perms::ALL);
        let cases = [
            (SessionId(9), case(Op::CREATE_TTL, "x\0", &bad_acl, 7, 0), -8, "flag"),
            (SessionId(9), case(Op::CREATE_TTL, "x\0", &bad_acl, 5, 0), -8, "ttl 0"),
            (SessionId(9), case(Op::CREATE_TTL, "x\0", &bad_acl, 5, 1 << 40), -8, "ttl too long"),
            (SessionId(9), case(Op::CREATE_TTL, "x\0", &bad_acl, 0, 5), -8, "ttl for a plain node"),
            (SessionId(9), case(Op::CREATE_TTL, "x\0", &bad_acl, 0, -1), -8, "createTTL without ttl"),
            (SessionId(9), case(Op::CREATE, "x\0", &bad_acl, 5, 0), -8, "create cannot carry a ttl"),
            (SessionId(9), case(Op::CREATE_CONTAINER, "x\0", &bad_acl, 2, 0), -8, "a sequential container"),
            (SessionId(9), case(Op::CREATE, "x\0", &bad_acl, 0, 0), -112, "session"),
            (SessionId(1), case(Op::CREATE, "/none/x\0", &bad_acl, 0, 0), -8, "NUL"),
            (SessionId(1), case(Op::CREATE, "x", &bad_acl, 0, 0), -8, "no slash"),
            (SessionId(1), case(Op::CREATE, "/none/x", &bad_acl, 0, 0), -114, "acl"),
            (SessionId(1), case(Op::CREATE, "/none/x", &[], 0, 0), -114, "empty acl"),
            (SessionId(1), case(Op::CREATE, "/none/x/", &open, 0, 0), -101, "parent"),
            (SessionId(1), case(Op::CREATE, "a/b", &open, 0, 0), -101, "parent of a relative path"),
            (SessionId(1), case(Op::CREATE, "/closed/..", &open, 0, 0), -102, "CREATE on the parent"),
            (SessionId(1), case(Op::CREATE, "/open/there/", &open, 0, 0), -8, "trailing slash"),
            (SessionId(1), case(Op::CREATE, "//a", &open, 0, 0), -8, "empty name"),
            (SessionId(1), case(Op::CREATE, "/open/there", &open, 0, 0), -110, "exists"),
            (SessionId(1), case(Op::CREATE, "/", &open, 0, 0), -110, "root"),
            (SessionId(1), case(Op::CREATE, "/eph/x", &open, 0, 0), -108, "ephemeral parent"),
            (SessionId(1), case(Op::CREATE, "/eph/x", &open, 1, 0), -108, "ephemeral parent"),
            (SessionId(1), case(Op::CREATE, "", &open, 0, 0), -8, "empty path"),
            (SessionId(1), case(Op::CREATE, "/zookeeper/new", &open, 0, 0), 0, "the system subtree is open"),
        ];
        for (session, request, code, rule) in cases {
            f.session = session;
            assert_eq!(f.code(&request), code, "{rule}");
        }
    }

    #[test]
    fn ttl_nodes_need_the_extended_types() {
        let mut f = Fixture::with(PrepOptions { extended: ExtendedTypes::default(), ..PrepOptions::default() });
        f.session = SessionId(9);
        assert_eq!(f.code(&create_flag(Op::CREATE_TTL, "/t", 5, 0)), -6);
        assert_eq!(f.code(&create_flag(Op::CREATE, "/t", 6, 0)), -6);
        assert_eq!(f.code(&create_flag(Op::CREATE_TTL, "/t", 0, -1)), -8);
    }

    #[test]
    fn containers_and_ttl_nodes_may_have_children() {
        let mut f = Fixture::new();
        f.taken(&create_flag(Op::CREATE_CONTAINER, "/c", 4, -1));
        f.taken(&create_flag(Op::CREATE_TTL, "/t", 5, 9));
        assert_eq!((f.code(&create("/c/x")), f.code(&create("/t/x"))), (0, 0));
    }

    #[test]
    fn auth_in_an_acl_becomes_whoever_asks() {
        let mut f = Fixture::new();
        let auth = vec![Acl { perms: perms::READ, id: Id::new("auth", "") }];
        assert_eq!(f.code(&create_acl("/a", auth.clone())), -114);
        f.ids = vec![Id::new("ip", "::1"), Id::new("digest", "bob:h")];
        let Txn::Create(c) = f.taken(&create_acl("/a", auth)) else { panic!() };
        assert_eq!(c.acl.as_deref(), Some(&[Acl { perms: perms::READ, id: Id::new("digest", "bob:h") }][..]));
        assert_eq!(f.code(&create("/a/b")), -102, "the outstanding list holds");
        let mut lax = Fixture::with(PrepOptions { skip_acl: true, ..PrepOptions::default() });
        lax.taken(&create_acl("/a", world(perms::READ)));
        assert_eq!(lax.code(&create("/a/b")), 0);
    }

    #[test]
    fn ephemerals_need_a_global_session() {
        let mut f = Fixture::new();
        f.table.local.insert(SessionId(1));
        assert_eq!(f.code(&create_flag(Op::CREATE, "/e", 1, -1)), -120);
        assert_eq!(f.code(&create("/p")), 0);
        assert_eq!(f.code(&create_flag(Op::CREATE_CONTAINER, "/c", 1, -1)), 0, "it is no ephemeral");
        // A local session is being upgraded: a createSession with its id is proposed.
        f.taken(&ModelOp::CreateSession);
        assert_eq!(f.code(&create_flag(Op::CREATE, "/e", 1, -1)), 0);
    }

    #[test]
    fn hard_quotas_refuse_when_enforced() {
        let quota = |enforce_quota| {
            let mut f = Fixture::with(PrepOptions { enforce_quota, ..PrepOptions::default() });
            f.applied(&create("/a"));
            f.applied(&create("/zookeeper/quota/a"));
            let limits = |leaf: &str, text: &str| ModelOp::Create {
                op: Op::CREATE,
                path: format!("/zookeeper/quota/a/{leaf}"),
                data: Some(text.as_bytes().to_vec()),
                acl: world(perms::ALL),
                flags: 0,
                ttl_ms: -1,
            };
            f.applied(&limits("zookeeper_limits", "count=-1,bytes=-1=;byteHardLimit=3;countHardLimit=2"));
            f.applied(&limits("zookeeper_stats", "count=0,bytes=0"));
            f
        };
        let mut f = quota(true);
        f.applied(&create("/a/b"));
        assert_eq!(f.code(&create("/a/c")), -125);
        assert_eq!(f.code(&create("/other")), 0);
        use crate::pipeline::prep::fixture::set;
        assert_eq!(f.code(&set("/a/b", b"xx", 5)), -103, "bytes fit, the version does not");
        assert_eq!(f.code(&set("/a/b", b"xxx", 5)), -125, "quota is looked at before the version");
        assert_eq!(f.code(&set("/a/b", b"xx", -1)), 0);
        let refusals = |f: &Fixture| {
            f.prep
                .status()
                .quota_refusals
                .sorted()
                .iter()
                .map(|(n, t)| (n.to_string(), t.tally().count))
                .collect::<Vec<_>>()
        };
        assert_eq!(refusals(&f), [("a".to_owned(), 2)], "by the path's first element");
        f.prep.reset_counts();
        assert_eq!(refusals(&f), [("a".to_owned(), 0)], "the name stays");
        let mut f = quota(false);
        f.applied(&create("/a/b"));
        assert_eq!(f.code(&create("/a/c")), 0);
    }
}
