//! A directory in memory that loses data as a real disk does. After a crash a random part survives of the sectors that
//! were not synced, and of the names that were not synced. Every operation can be made to fail. For tests and the
//! simulator.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::txnlog::disk::{Dir, Reader, Segment, Writer};

const SECTOR: usize = 512;

/// The name of a segment that was prepared ahead.
const PREPARED: &str = "new.segment";

/// A change of a name since the last `sync_dir`.
#[derive(Clone, Debug)]
enum NameOp {
    Set { name: String, inode: usize },
    Rename { from: String, to: String, inode: usize },
    Remove { name: String },
}

/// The fault to inject at a chosen operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// The process dies: this and every later operation fails without effect.
    Crash,
    /// From this operation until the next start nothing can be allocated (ENOSPC).
    NoSpace,
    /// The next sync fails once (EIO). A random part of its sectors reaches the disk. The kernel then either drops the
    /// rest, or (ext4, XFS) keeps it in memory and marks it clean: readers, even later processes, see it until the page
    /// is evicted or power fails. Either way a second sync succeeds.
    SyncFails,
}

/// What an operation does, which decides the faults it can meet.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Need {
    Space,
    Sync,
    Nothing,
}

#[derive(Clone, Default, Debug)]
struct Inode {
    live: Vec<u8>,
    durable: Vec<u8>,
    /// Sectors that a failed sync left in memory, marked clean: no sync writes them until they are written to again.
    lost: BTreeSet<usize>,
}

impl Inode {
    /// Makes everything durable that a sync writes.
    fn write_back(&mut self) {
        let mut bytes = self.live.clone();
        for at in self.lost.iter().map(|sector| sector * SECTOR).filter(|at| *at < self.live.len()) {
            let end = (at + SECTOR).min(bytes.len());
            let old = self.durable.get(at..).unwrap_or_default();
            let kept = old.len().min(end - at);
            bytes[at..at + kept].copy_from_slice(&old[..kept]);
            bytes[at + kept..end].fill(0);
        }
        self.durable = bytes;
    }

    fn write(&mut self, at: usize, bytes: &[u8]) {
        if self.live.len() < at + bytes.len() {
            self.live.resize(at + bytes.len(), 0);
        }
        self.live[at..at + bytes.len()].copy_from_slice(bytes);
        self.lost.retain(|sector| (sector + 1) * SECTOR <= at || sector * SECTOR >= at + bytes.len());
    }

    /// The kernel evicts pages that are marked clean.
    fn evict(&mut self, rng: &mut fastrand::Rng) {
        for sector in std::mem::take(&mut self.lost) {
            if rng.u32(..4) > 0 {
                self.lost.insert(sector);
                continue;
            }
            let (at, end) = (sector * SECTOR, ((sector + 1) * SECTOR).min(self.live.len()));
            for i in at..end {
                self.live[i] = self.durable.get(i).copied().unwrap_or(0);
            }
        }
    }
}

#[derive(Default, Debug)]
struct State {
    inodes: Vec<Inode>,
    live: BTreeMap<String, usize>,
    durable: BTreeMap<String, usize>,
    pending: Vec<NameOp>,
    ops: u64,
    /// Number of the operation, the fault, and a seed for its effects.
    plan: Option<(u64, Fault, u64)>,
    /// The planned fault has happened.
    fired: bool,
    /// The segment that this process has prepared ahead. One that an earlier process prepared does not count: it may
    /// already have been in use and contain records.
    ready: Option<usize>,
    /// Most bytes that all files together may have.
    capacity: Option<u64>,
}

impl State {
    /// Counts an operation; an error if a fault is planned for it.
    fn op(&mut self, need: Need) -> io::Result<()> {
        let n = self.ops;
        self.ops += 1;
        let Some((_, fault, _)) = self.plan.filter(|(at, ..)| n >= *at) else { return Ok(()) };
        let meets = match fault {
            Fault::Crash => true,
            Fault::NoSpace => need == Need::Space,
            Fault::SyncFails => need == Need::Sync && !self.fired,
        };
        if !meets {
            return Ok(());
        }
        self.fired = true;
        Err(match fault {
            Fault::Crash => io::Error::other("the machine is down"),
            Fault::NoSpace => io::Error::new(io::ErrorKind::StorageFull, "no space left on device (injected)"),
            Fault::SyncFails => io::Error::other("input/output error (injected)"),
        })
    }

    /// Bytes of all files together.
    fn used(&self) -> u64 {
        self.live.values().map(|i| self.inodes[*i].live.len() as u64).sum()
    }

    /// An error unless there is space for `more` bytes.
    fn fits(&self, more: u64) -> io::Result<()> {
        if self.capacity.is_none_or(|all| self.used() + more <= all) {
            return Ok(());
        }
        Err(io::Error::new(io::ErrorKind::StorageFull, format!("no space left for {more} bytes (small disk)")))
    }

    /// Syncs a file. If the sync fails, a random part of the data reaches the disk.
    fn sync_file(&mut self, inode: usize) -> io::Result<()> {
        let outcome = self.op(Need::Sync);
        let failed = self.plan.filter(|(_, fault, _)| outcome.is_err() && *fault == Fault::SyncFails);
        let file = &mut self.inodes[inode];
        if let Some((.., seed)) = failed {
            let mut rng = fastrand::Rng::with_seed(seed);
            let bytes = survivors(file, &mut rng, true);
            if rng.bool() {
                let sectors = file.live.chunks(SECTOR).zip(bytes.chunks(SECTOR)).enumerate();
                file.lost.extend(sectors.filter(|(_, (live, disk))| live != disk).map(|(i, _)| i));
            } else {
                // The mapping keeps its length; lost bytes read as they were before.
                file.live.clone_from(&bytes);
            }
            file.durable = bytes;
        } else if outcome.is_ok() {
            file.write_back();
        }
        outcome
    }

    /// After a process has ended: removes files without a name and any planned fault.
    fn rest(&mut self) {
        (self.plan, self.fired, self.ready) = (None, false, None);
        let named: Vec<usize> = self.live.values().chain(self.durable.values()).copied().collect();
        let waiting = |op: &NameOp| match op {
            NameOp::Set { inode, .. } | NameOp::Rename { inode, .. } => Some(*inode),
            NameOp::Remove { .. } => None,
        };
        let waiting: Vec<usize> = self.pending.iter().filter_map(waiting).collect();
        for (i, inode) in self.inodes.iter_mut().enumerate() {
            if !named.contains(&i) && !waiting.contains(&i) {
                *inode = Inode::default();
            }
        }
    }

    fn inode(&mut self, name: &str, bytes: Vec<u8>) -> usize {
        self.inodes.push(Inode { live: bytes, ..Inode::default() });
        let inode = self.inodes.len() - 1;
        self.live.insert(name.to_owned(), inode);
        self.pending.push(NameOp::Set { name: name.to_owned(), inode });
        inode
    }

    /// Creates a file of `len` bytes: `head`, then zeros. Content and length are durable.
    fn segment(&mut self, name: &str, len: u64, head: &[u8]) -> usize {
        let mut bytes = vec![0; len as usize];
        bytes[..head.len()].copy_from_slice(head);
        let inode = self.inode(name, bytes.clone());
        self.inodes[inode].durable = bytes;
        inode
    }

    fn find(&self, name: &str) -> io::Result<usize> {
        self.live.get(name).copied().ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, name.to_owned()))
    }
}

/// The bytes of a file after a power failure: everything synced, and of the rest each sector by chance.
fn survivors(file: &Inode, rng: &mut fastrand::Rng, keep_len: bool) -> Vec<u8> {
    let longest = file.live.len().max(file.durable.len());
    let grown = file.durable.len().max(SECTOR * rng.usize(0..4)).min(longest);
    let len = if keep_len { longest } else { grown };
    let mut bytes = file.durable.clone();
    bytes.resize(len, 0);
    for at in (0..len.min(file.live.len())).step_by(SECTOR) {
        let end = (at + SECTOR).min(len).min(file.live.len());
        if rng.bool() && !file.lost.contains(&(at / SECTOR)) {
            bytes[at..end].copy_from_slice(&file.live[at..end]);
        }
    }
    bytes
}

/// The directory. Clones refer to the same one.
#[derive(Clone, Debug, Default)]
pub struct TestDisk(Arc<Mutex<State>>);

impl TestDisk {
    /// An empty directory.
    pub fn new() -> TestDisk {
        TestDisk::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Number of operations so far.
    pub fn ops(&self) -> u64 {
        self.state().ops
    }

    /// Makes operation number `op` and every later one fail without effect.
    pub fn crash_at(&self, op: u64) {
        self.fault_at(op, Fault::Crash, 0);
    }

    /// Plans a fault for operation number `op`, or the next one that it can affect, in place of any planned before.
    /// `seed` decides what a failed sync leaves behind.
    pub fn fault_at(&self, op: u64, fault: Fault, seed: u64) {
        let mut s = self.state();
        s.plan = Some((op, fault, seed));
        s.fired = false;
    }

    /// The planned fault, if it has happened.
    pub fn fired(&self) -> Option<Fault> {
        let s = self.state();
        s.plan.filter(|_| s.fired).map(|(_, fault, _)| fault)
    }

    /// Restart after a power failure. `seed` decides which unsynced data survived.
    pub fn power_cycle(&self, seed: u64) {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut s = self.state();
        let mut names = std::mem::take(&mut s.durable);
        for op in std::mem::take(&mut s.pending) {
            if rng.bool() {
                continue;
            }
            match op {
                NameOp::Set { name, inode } => {
                    names.insert(name, inode);
                }
                NameOp::Rename { from, to, inode } => {
                    names.remove(&from);
                    names.insert(to, inode);
                }
                NameOp::Remove { name } => {
                    names.remove(&name);
                }
            }
        }
        for inode in &mut s.inodes {
            let keep_len = rng.bool();
            let bytes = survivors(inode, &mut rng, keep_len);
            // What was synced once is never lost.
            inode.live.clone_from(&bytes);
            inode.durable = bytes;
            inode.lost.clear();
        }
        s.live = names.clone();
        s.durable = names;
        s.rest();
    }

    /// Restart after the process was killed: the kernel loses nothing, except, by chance, pages that a failed sync left
    /// marked clean.
    pub fn restart(&self) {
        let mut s = self.state();
        let mut rng = fastrand::Rng::with_seed(s.ops);
        s.inodes.iter_mut().for_each(|i| i.evict(&mut rng));
        s.rest();
    }

    /// An independent copy.
    pub fn fork(&self) -> TestDisk {
        let s = self.state();
        let copy = State {
            inodes: s.inodes.clone(),
            live: s.live.clone(),
            durable: s.durable.clone(),
            pending: s.pending.clone(),
            ops: s.ops,
            plan: s.plan,
            fired: s.fired,
            ready: s.ready,
            capacity: s.capacity,
        };
        TestDisk(Arc::new(Mutex::new(copy)))
    }

    /// Stores a durable file.
    pub fn put(&self, name: &str, bytes: &[u8]) {
        let mut s = self.state();
        s.inodes.push(Inode { live: bytes.to_vec(), durable: bytes.to_vec(), lost: BTreeSet::new() });
        let inode = s.inodes.len() - 1;
        s.live.insert(name.to_owned(), inode);
        s.durable.insert(name.to_owned(), inode);
    }

    /// A file's bytes.
    pub fn bytes(&self, name: &str) -> Vec<u8> {
        let s = self.state();
        s.inodes[s.live[name]].live.clone()
    }

    /// Changes a file's content on the disk directly, as damage to the medium would.
    pub fn damage(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut s = self.state();
        let inode = s.live[name];
        let inode = &mut s.inodes[inode];
        change(&mut inode.live);
        inode.durable = inode.live.clone();
        inode.lost.clear();
    }

    /// Whether a power failure would change nothing of this file, neither its name nor its content.
    pub fn is_synced(&self, name: &str) -> bool {
        let s = self.state();
        let inode = s.live.get(name).copied();
        let names = |op: &NameOp| match op {
            NameOp::Set { name: set, .. } | NameOp::Remove { name: set } => set == name,
            NameOp::Rename { from, to, .. } => from == name || to == name,
        };
        let is_same = |inode: usize| s.inodes[inode].live == s.inodes[inode].durable;
        inode == s.durable.get(name).copied() && !s.pending.iter().any(names) && inode.is_none_or(is_same)
    }

    /// Limits the number of bytes that all files together may have.
    pub fn limit_space(&self, bytes: Option<u64>) {
        self.state().capacity = bytes;
    }

    /// All file names, sorted.
    pub fn names(&self) -> Vec<String> {
        self.state().live.keys().cloned().collect()
    }
}

impl Dir for TestDisk {
    type Segment = TestSegment;
    type Writer = TestWriter;
    type Reader = TestReader;

    fn path(&self) -> String {
        format!("/test/{:p}", Arc::as_ptr(&self.0))
    }

    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        let s = self.state();
        Ok(s.live.iter().map(|(n, i)| (n.clone(), s.inodes[*i].live.len() as u64)).collect())
    }

    fn create_segment(&mut self, name: &str, len: u64, head: &[u8]) -> io::Result<TestSegment> {
        let mut s = self.state();
        s.op(Need::Space)?;
        // The new file takes the place of one that was prepared and does not fit.
        if s.ready.take().is_some() {
            s.live.remove(PREPARED);
            s.pending.push(NameOp::Remove { name: PREPARED.to_owned() });
        }
        if s.live.contains_key(name) {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, name.to_owned()));
        }
        s.fits(len)?;
        let inode = s.segment(name, len, head);
        Ok(TestSegment { disk: self.clone(), inode, len })
    }

    /// By chance the segment is not ready in time.
    fn prepare_segment(&mut self, len: u64, head: &[u8]) {
        let mut s = self.state();
        let fired = s.fired;
        let may = s.op(Need::Space).is_ok();
        // A fault here is not reported: the operation that needs the space meets it.
        s.fired = fired;
        if may && s.fits(len).is_ok() && s.ready.is_none() && !s.ops.is_multiple_of(4) {
            s.ready = Some(s.segment(PREPARED, len, head));
        }
    }

    fn take_prepared(&mut self, name: &str, least: u64, _head: &[u8]) -> io::Result<Option<TestSegment>> {
        let mut s = self.state();
        let Some(inode) = s.ready.filter(|inode| s.inodes[*inode].live.len() as u64 >= least) else { return Ok(None) };
        s.op(Need::Nothing)?;
        s.ready = None;
        if s.live.contains_key(name) {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, name.to_owned()));
        }
        s.live.remove(PREPARED);
        s.live.insert(name.to_owned(), inode);
        s.pending.push(NameOp::Rename { from: PREPARED.to_owned(), to: name.to_owned(), inode });
        let len = s.inodes[inode].live.len() as u64;
        Ok(Some(TestSegment { disk: self.clone(), inode, len }))
    }

    fn free_bytes(&self) -> Option<u64> {
        let s = self.state();
        s.capacity.map(|all| all.saturating_sub(s.used()))
    }

    fn give_back_prepared(&mut self) -> io::Result<()> {
        let mut s = self.state();
        s.op(Need::Nothing)?;
        if s.ready.take().is_some() {
            s.live.remove(PREPARED);
            s.pending.push(NameOp::Remove { name: PREPARED.to_owned() });
        }
        Ok(())
    }

    /// By chance the process ends before the segment is cut; and the cut may be lost in a power failure.
    fn close_segment(&mut self, segment: TestSegment, len: u64) -> io::Result<()> {
        let mut s = self.state();
        s.op(Need::Nothing)?;
        if !s.ops.is_multiple_of(2) {
            s.inodes[segment.inode].live.truncate(len as usize);
        }
        Ok(())
    }

    fn create(&mut self, name: &str) -> io::Result<TestWriter> {
        let mut s = self.state();
        s.op(Need::Space)?;
        let inode = s.inode(name, Vec::new());
        Ok(TestWriter { disk: self.clone(), inode })
    }

    fn open(&self, name: &str) -> io::Result<TestReader> {
        let s = self.state();
        let bytes = s.inodes[s.find(name)?].live.clone();
        Ok(TestReader { bytes, at: 0 })
    }

    fn set_len(&mut self, name: &str, len: u64) -> io::Result<()> {
        let mut s = self.state();
        s.op(Need::Nothing)?;
        let inode = s.find(name)?;
        s.inodes[inode].live.resize(len as usize, 0);
        s.sync_file(inode)
    }

    fn rewrite(&mut self, name: &str, from: u64, to: u64, tail: &[u8]) -> io::Result<()> {
        let mut s = self.state();
        s.op(Need::Space)?;
        let inode = s.find(name)?;
        let file = &mut s.inodes[inode];
        let same = file.live[from as usize..to as usize].to_vec();
        file.write(from as usize, &same);
        file.write(to as usize, tail);
        s.sync_file(inode)
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        let mut s = self.state();
        s.op(Need::Nothing)?;
        let inode = s.find(from)?;
        s.live.remove(from);
        s.live.insert(to.to_owned(), inode);
        s.pending.push(NameOp::Rename { from: from.to_owned(), to: to.to_owned(), inode });
        Ok(())
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        let mut s = self.state();
        s.op(Need::Nothing)?;
        s.find(name)?;
        s.live.remove(name);
        s.pending.push(NameOp::Remove { name: name.to_owned() });
        Ok(())
    }

    fn sync_dir(&mut self) -> io::Result<()> {
        let mut s = self.state();
        s.op(Need::Sync)?;
        s.durable = s.live.clone();
        s.pending.clear();
        Ok(())
    }
}

/// See [`TestDisk`].
pub struct TestSegment {
    disk: TestDisk,
    inode: usize,
    len: u64,
}

impl Segment for TestSegment {
    fn len(&self) -> u64 {
        self.len
    }

    fn write(&mut self, at: u64, bytes: &[u8]) {
        let mut s = self.disk.state();
        // A store to a mapping cannot fail; after a crash it has no effect.
        if s.op(Need::Nothing).is_ok() {
            assert!(at + bytes.len() as u64 <= self.len, "write beyond the segment's end");
            s.inodes[self.inode].write(at as usize, bytes);
        }
    }

    fn grow(&mut self, len: u64) -> io::Result<()> {
        let mut s = self.disk.state();
        s.op(Need::Space)?;
        assert!(len >= self.len);
        s.fits(len - self.len)?;
        s.inodes[self.inode].live.resize(len as usize, 0);
        self.len = len;
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut s = self.disk.state();
        s.sync_file(self.inode)
    }
}

/// See [`TestDisk`].
pub struct TestWriter {
    disk: TestDisk,
    inode: usize,
}

impl Write for TestWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut s = self.disk.state();
        s.op(Need::Space)?;
        s.fits(bytes.len() as u64)?;
        s.inodes[self.inode].live.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Writer for TestWriter {
    fn sync(&mut self) -> io::Result<()> {
        let mut s = self.disk.state();
        s.sync_file(self.inode)
    }
}

/// See [`TestDisk`].
pub struct TestReader {
    bytes: Vec<u8>,
    at: usize,
}

impl Read for TestReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        // Short reads can happen.
        let n = out.len().min(self.bytes.len() - self.at).min(100_003);
        out[..n].copy_from_slice(&self.bytes[self.at..self.at + n]);
        self.at += n;
        Ok(n)
    }
}

impl Reader for TestReader {
    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }
}
