//! Random transactions applied to the tree and to the model, with images taken in between.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use fastrand::Rng;

use super::tree_model::{Model, ModelChange, ModelNode};
use crate::jute::Reader;
use crate::jute::stat::read_stat_persisted;
use crate::tree::{ImageHead, ImageId, Tree, TreeLoader, TreeOptions};
use crate::txn::{CreateKind, CreateTxn, SubTxn, Txn, TxnHeader};
use crate::types::acl::SharedAcl;
use crate::types::stat::owner::ExtendedTypes;
use crate::types::{Acl, AclId, Cxid, Id, Op, SessionId, Zxid};

fn options() -> TreeOptions {
    TreeOptions { extended: ExtendedTypes { enabled: true, emulate_353: false }, digest_enabled: true }
}

/// Generates transactions over few paths, so that they affect the same nodes.
struct Source {
    rng: Rng,
    zxid: i64,
    quotas: bool,
}

impl Source {
    fn path(&mut self) -> String {
        if self.quotas && self.rng.u8(..8) == 0 {
            let quota = ["", "/a", "/a/b", "/b"][self.rng.usize(..4)];
            let leaf = ["", "/zookeeper_limits", "/zookeeper_stats"][self.rng.usize(..3)];
            return format!("/zookeeper/quota{quota}{leaf}");
        }
        let depth = self.rng.usize(1..=4);
        (0..depth).map(|_| ["/a", "/b", "/c", "/long-name-\u{e9}"][self.rng.usize(..4)]).collect()
    }

    fn data(&mut self) -> Option<Bytes> {
        match self.rng.u8(..5) {
            0 => None,
            1 => Some(Bytes::new()),
            2 if self.quotas => Some(Bytes::from_static(b"count=3,bytes=20=;countHardLimit=9")),
            _ => Some(Bytes::from(vec![self.rng.u8(..); self.rng.usize(1..40)])),
        }
    }

    fn acl(&mut self) -> SharedAcl {
        let list = |name: &str| -> SharedAcl { Some(Arc::from([Acl { perms: 3, id: Id::new("digest", name) }])) };
        [None, list("x"), list("y"), Some(Arc::from([]))][self.rng.usize(..4)].clone()
    }

    fn single(&mut self) -> (Op, Txn) {
        let path = self.path();
        match self.rng.u8(..20) {
            0..=9 => {
                let ttl_ms = self.rng.i64(1..100);
                let ephemeral = self.rng.bool();
                let (op, kind) = match self.rng.u8(..6) {
                    0 => (Op::CREATE_CONTAINER, CreateKind::Container),
                    1 => (Op::CREATE_TTL, CreateKind::Ttl { ttl_ms }),
                    2 | 3 => (Op::CREATE2, CreateKind::Plain { ephemeral }),
                    _ => (Op::CREATE, CreateKind::Plain { ephemeral }),
                };
                let parent_cversion = if self.rng.bool() { -1 } else { self.rng.i32(0..200) };
                (op, Txn::Create(CreateTxn { path, data: self.data(), acl: self.acl(), kind, parent_cversion }))
            }
            10..=12 => (Op::DELETE, Txn::Delete { path }),
            13..=16 => (Op::SET_DATA, Txn::SetData { path, data: self.data(), version: self.rng.i32(-1..50) }),
            17 | 18 => (Op::SET_ACL, Txn::SetAcl { path, acl: self.acl(), version: self.rng.i32(0..50) }),
            _ => (Op::CHECK, Txn::Check { path, version: 1 }),
        }
    }

    fn txn(&mut self) -> (TxnHeader, Txn) {
        let (op, txn) = match self.rng.u8(..20) {
            0..=2 => {
                let n = self.rng.usize(..6);
                let mut subs: Vec<SubTxn> = (0..n).map(|_| self.single()).map(|(op, txn)| SubTxn { op, txn }).collect();
                if n > 0 && self.rng.u8(..4) == 0 {
                    subs[self.rng.usize(..n)] = SubTxn { op: Op::ERROR, txn: Txn::Error { err: -101 } };
                }
                (Op::MULTI, Txn::Multi(subs))
            }
            3 => {
                let paths = self.rng.bool().then(|| (0..self.rng.usize(..4)).map(|_| self.path()).collect());
                (Op::CLOSE_SESSION, Txn::CloseSession { paths })
            }
            4 if self.rng.bool() => (Op::ERROR, Txn::Error { err: -110 }),
            4 => (Op::CREATE_SESSION, Txn::CreateSession { timeout_ms: 10 }),
            _ => self.single(),
        };
        // Sometimes an old zxid again, as when a log is replayed over a fuzzy snapshot.
        let zxid = if self.rng.u8(..20) == 0 { self.rng.i64(1..=self.zxid) } else { self.zxid + 1 };
        self.zxid = self.zxid.max(zxid);
        let session = SessionId(self.rng.i64(1..4));
        (TxnHeader { session, cxid: Cxid(1), zxid: Zxid(zxid), time_ms: 1_000 + zxid * 3, op }, txn)
    }
}

fn apply_both(tree: &mut Tree, model: &mut Model, h: &TxnHeader, t: &Txn) {
    let mut told: Vec<ModelChange> = Vec::new();
    let applied = tree.apply(h, t, &mut |c| told.push((c.event, c.path.to_owned(), c.acl.clone())));
    let (want, want_told) = model.apply(h, t);
    assert_eq!((applied, told), (want, want_told), "{h:?} {t:?}");
    assert_eq!(tree.digest(), model.digest(), "{h:?} {t:?}");
}

#[test]
fn the_tree_is_the_models_twin() {
    for seed in 0..24 {
        let mut source = Source { rng: Rng::with_seed(seed), zxid: 1, quotas: seed % 2 == 0 };
        let (mut tree, mut model) = (Tree::new(options()), Model::new(options()));
        for n in 0..600 {
            let (h, t) = source.txn();
            apply_both(&mut tree, &mut model, &h, &t);
            if n % 20 == 0 {
                model.compare(&tree).and_then(|()| tree.check()).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
            }
        }
        model.compare(&tree).and_then(|()| tree.check()).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
    }
}

/// An image that is being taken, and the model at the time it began.
struct Taking {
    id: ImageId,
    head: ImageHead,
    then: Model,
    bytes: Vec<u8>,
}

/// Reads an image back and compares it: record by record with the model, then as a loaded tree.
fn verify(taking: &Taking) {
    let acls: BTreeMap<AclId, Arc<[Acl]>> = taking.head.acls.iter().cloned().collect();
    let mut nodes = BTreeMap::new();
    let mut loader = TreeLoader::new(options());
    for (id, list) in &acls {
        loader.add_acl(*id, list.to_vec()).unwrap();
    }
    let mut r = Reader::new(&taking.bytes);
    while !r.is_empty() {
        let path = r.string().unwrap().into_owned();
        let data = r.buffer().unwrap();
        let acl = AclId(r.i64().unwrap());
        let stat = read_stat_persisted(&mut r).unwrap();
        loader.add_node(&path, data, acl, stat).unwrap();
        let acl = if acl == AclId::OPEN { None } else { Some(acls[&acl].clone()) };
        let node = ModelNode { data: data.map(<[u8]>::to_vec), acl, stat };
        assert!(nodes.insert(if path.is_empty() { "/".to_owned() } else { path }, node).is_none());
    }
    assert_eq!(&nodes, taking.then.nodes());
    assert_eq!(taking.head.nodes, nodes.len());
    let tree = loader.finish(taking.head.zxid).unwrap();
    assert_eq!(tree.digest(), taking.head.digest);
    tree.check().unwrap();
    // Loading recomputes the usage of quotas, so the digests are equal only without quotas.
    if tree.all_quotas().next().is_none() {
        taking.then.compare(&tree).unwrap();
    }
    assert!(tree.unresolved_acls().is_empty());
}

#[test]
fn an_image_is_the_tree_at_its_beginning() {
    let mut finished = 0;
    for seed in 0..40 {
        let mut source = Source { rng: Rng::with_seed(seed), zxid: 1, quotas: seed % 2 == 0 };
        let (mut tree, mut model) = (Tree::new(options()), Model::new(options()));
        let mut under_way: Vec<Taking> = Vec::new();
        for _ in 0..400 {
            let (h, t) = source.txn();
            apply_both(&mut tree, &mut model, &h, &t);
            if under_way.len() < 3 && source.rng.u8(..10) == 0 {
                let id = tree.begin_image();
                let head = tree.image_head(id).unwrap().clone();
                under_way.push(Taking { id, head, then: model.clone(), bytes: Vec::new() });
            }
            if !under_way.is_empty() && source.rng.u8(..3) == 0 {
                let at = source.rng.usize(..under_way.len());
                let max = source.rng.usize(1..400);
                let taking = &mut under_way[at];
                if tree.image_chunk(taking.id, max, &mut taking.bytes) {
                    verify(&under_way.swap_remove(at));
                    finished += 1;
                }
            }
        }
        for taking in under_way {
            tree.end_image(taking.id);
        }
        assert_eq!(tree.images_open(), 0);
    }
    assert!(finished > 200, "only {finished} images were finished");
}
