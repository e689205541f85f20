//! The snapshot reader: arbitrary bytes, images of arbitrary bytes with correct checksums, and damaged snapshots of
//! Zabra.
//!
//! What loads must be a sound tree, and must load as the same tree after it was written with every compression. A
//! damaged snapshot must be refused, or load as it was before.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};

use zabra::jute::Put;
use zabra::oracle::test_disk::TestDisk;
use zabra::tree::{ImageId, Tree, TreeLoader, TreeOptions};
use zabra::txnlog::disk::Reader;
use zabra::txnlog::names::Compression;
use zabra::txnlog::snapshot::{
    FILE_HEADER, SnapshotOptions, SnapshotWriter, TERMINATOR, ZxidDigest, put_acl_table, put_sessions,
};
use zabra::txnlog::snapshot_read::{Node, Sink, read_file, read_image};
use zabra::types::acl::SharedAcl;
use zabra::types::{Acl, AclId, SessionId, StatPersisted, Zxid};

use crate::input::Input;
use crate::world::{EXTENDED, OWNER, tree};

pub(crate) const OPTIONS: TreeOptions = TreeOptions { extended: EXTENDED, digest_enabled: true };
const PACKINGS: [Compression; 3] = [Compression::None, Compression::Gzip, Compression::Snappy];
/// The zxid of files that are put together here.
pub(crate) const LAST: Zxid = Zxid(77);
const SESSIONS: [(SessionId, i32); 2] = [(OWNER, 4000), (SessionId(-3), i32::MIN)];

/// Input: a byte of flags (2 bits for the compression, 2 bits for the mode, then which blocks follow the image), then
/// the bytes.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let flags = input.u8();
    let packing = PACKINGS[usize::from(flags & 3) % 3];
    let blocks = Blocks { digest: flags & 16 == 0, last_zxid: flags & 32 == 0 };
    match flags >> 2 & 3 {
        0 => {
            let bytes = input.rest();
            image_stream(bytes);
            loads(bytes, packing);
        }
        // Without the terminator: the input may contain one.
        1 | 2 => loads(&pack(&seal(input.rest(), LAST, blocks), packing), packing),
        _ => damaged(&mut input, packing),
    }
}

/// If the file loads, the tree must be sound and survive being written and loaded again.
fn loads(file: &[u8], packing: Compression) {
    let Ok(mut first) = load(file, packing, LAST) else { return };
    first.tree.check().unwrap_or_else(|e| panic!("{e}"));
    let unresolved = first.tree.unresolved_acls();
    let contents = contents(&first.tree);
    let sessions: Vec<(SessionId, i32)> = first.sessions.iter().map(|(s, t)| (*s, *t)).collect();
    for packing in PACKINGS {
        let mut disk = TestDisk::new();
        let name = save(&mut first.tree, &sessions, &mut disk, packing);
        let again = load(&disk.bytes(&name), packing, LAST).expect("what was written loads");
        again.tree.check().unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(again.sessions, first.sessions);
        assert_eq!(again.tree.unresolved_acls(), unresolved);
        assert_eq!(self::contents(&again.tree), contents);
    }
}

/// An image as a leader sends it: it must be read to the terminator and not one byte further.
fn image_stream(bytes: &[u8]) {
    let behind = [bytes, &TERMINATOR, b"behind"].concat();
    let mut source = Pieces { bytes: &behind, size: 7 };
    if read_image(&mut source, &mut Loading::new()).is_ok() {
        assert!(source.bytes.len() >= b"behind".len());
        let used = behind.len() - source.bytes.len();
        assert_eq!(behind[used - TERMINATOR.len()..used], TERMINATOR);
    }
}

/// A snapshot of Zabra that is cut, or that has one changed byte.
fn damaged(input: &mut Input<'_>, packing: Compression) {
    let mut disk = TestDisk::new();
    let mut tree = tree();
    let (zxid, name) = (tree.last_zxid(), save(&mut tree, &SESSIONS, &mut disk, packing));
    let whole = disk.bytes(&name);
    let before = contents(&load(&whole, packing, zxid).expect("a snapshot of ours loads").tree);
    let mut bytes = whole.clone();
    let cut = input.flag();
    let at = usize::from(input.u16()) % bytes.len();
    if cut {
        bytes.truncate(at);
    } else {
        bytes[at] ^= input.u8();
    }
    if let Ok(read) = load(&bytes, packing, zxid) {
        assert_eq!(contents(&read.tree), before, "byte {at} of {}", whole.len());
    }
}

/// Everything that can be asked of a tree, except its zxid.
type Contents = (BTreeMap<String, (Option<Vec<u8>>, StatPersisted, SharedAcl, i32)>, u64, usize, usize, u64);

fn contents(tree: &Tree) -> Contents {
    let node =
        |z: zabra::tree::Znode<'_>| (z.data().map(<[u8]>::to_vec), z.persisted(), z.shared_acl(), z.num_children());
    let nodes = tree.walk().map(|(path, z)| (path, node(z))).collect();
    (nodes, tree.digest(), tree.node_count(), tree.ephemerals_count(), tree.approximate_data_size())
}

/// The blocks that follow the image.
#[derive(Clone, Copy)]
pub(crate) struct Blocks {
    digest: bool,
    last_zxid: bool,
}

impl Default for Blocks {
    fn default() -> Blocks {
        Blocks { digest: true, last_zxid: true }
    }
}

/// The file that contains `image`, taken at `last`: with header, terminator and seals.
pub(crate) fn seal(image: &[u8], last: Zxid, blocks: Blocks) -> Vec<u8> {
    fn put_seal(out: &mut Vec<u8>) {
        let sum = simd_adler32::adler32(&&out[..]);
        out.put_i64(i64::from(sum));
        out.extend_from_slice(&TERMINATOR);
    }
    let mut out = [&FILE_HEADER, image, &TERMINATOR].concat();
    put_seal(&mut out);
    if blocks.digest {
        out.put_i64(last.0);
        out.put_i32(2);
        out.put_i64(1);
        put_seal(&mut out);
    }
    if blocks.last_zxid {
        out.put_i64(last.0);
        put_seal(&mut out);
    }
    out
}

fn pack(file: &[u8], packing: Compression) -> Vec<u8> {
    match packing {
        Compression::None => file.to_vec(),
        Compression::Gzip => {
            let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            gz.write_all(file).and_then(|()| gz.finish()).expect("in memory")
        }
        Compression::Snappy => {
            let mut out = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01".to_vec();
            for block in file.chunks(32 << 10) {
                let packed = snap::raw::Encoder::new().compress_vec(block).expect("in memory");
                out.put_buffer(Some(&packed));
            }
            out
        }
    }
}

/// The tables at the beginning of an image.
pub(crate) fn begin_image(tree: &Tree, id: ImageId, sessions: &[(SessionId, i32)]) -> Vec<u8> {
    let mut out = Vec::new();
    put_sessions(&mut out, sessions.iter().copied());
    let acls = tree.image_acls(id);
    put_acl_table(&mut out, acls.iter().map(|(id, list)| (*id, list.as_deref().unwrap_or_default())));
    out
}

/// Writes a snapshot of `tree` as the server does; returns its name.
pub(crate) fn save(
    tree: &mut Tree,
    sessions: &[(SessionId, i32)],
    disk: &mut TestDisk,
    compression: Compression,
) -> String {
    let zxid = tree.last_zxid();
    let digest = Some(ZxidDigest { zxid, version: 2, digest: tree.digest() }).filter(|_| zxid > Zxid::ZERO);
    let id = tree.begin_image();
    let mut image = begin_image(tree, id, sessions);
    while !tree.image_chunk(id, 1000, &mut image) {}
    let options = SnapshotOptions { compression, ..SnapshotOptions::default() };
    let mut w = SnapshotWriter::begin(disk, zxid, options).expect("a disk without faults");
    for piece in image.chunks(999) {
        w.put(piece).expect("a disk without faults");
    }
    w.finish(disk, digest, zxid).expect("a disk without faults")
}

/// What a snapshot holds.
pub(crate) struct Loaded {
    pub(crate) tree: Tree,
    sessions: BTreeMap<SessionId, i32>,
}

/// Reads a snapshot file, a few bytes at a time.
pub(crate) fn load(file: &[u8], packing: Compression, zxid: Zxid) -> Result<Loaded, String> {
    let mut loading = Loading::new();
    read_file(Pieces { bytes: file, size: 333 }, zxid, packing, &mut loading).map_err(|e| {
        let text = e.to_string();
        assert!(!text.is_empty());
        text
    })?;
    let tree = loading.loader.finish(zxid).map_err(|e| e.to_string())?;
    Ok(Loaded { tree, sessions: loading.sessions })
}

struct Loading {
    loader: TreeLoader,
    sessions: BTreeMap<SessionId, i32>,
}

impl Loading {
    fn new() -> Loading {
        Loading { loader: TreeLoader::new(OPTIONS), sessions: BTreeMap::new() }
    }
}

impl Sink for Loading {
    fn session(&mut self, id: SessionId, timeout_ms: i32) -> Result<(), String> {
        self.sessions.insert(id, timeout_ms);
        Ok(())
    }
    fn acl(&mut self, id: AclId, list: Vec<Acl>) -> Result<(), String> {
        self.loader.add_acl(id, list).map_err(|e| e.to_string())
    }
    fn node(&mut self, node: Node<'_>) -> Result<(), String> {
        self.loader.add_node(node.path, node.data, node.acl, node.stat).map_err(|e| e.to_string())
    }
}

/// A reader that returns a few bytes at a time.
struct Pieces<'a> {
    bytes: &'a [u8],
    size: usize,
}

impl Read for Pieces<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let n = out.len().min(self.size).min(self.bytes.len());
        out[..n].copy_from_slice(&self.bytes[..n]);
        self.bytes = &self.bytes[n..];
        Ok(n)
    }
}

impl Reader for Pieces<'_> {
    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }
}
