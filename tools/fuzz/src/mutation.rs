//! Damages the files of a directory as disks, file systems and people do.

use zabra::oracle::test_disk::TestDisk;
use zabra::txnlog::disk::Dir;
use zabra::txnlog::names::{parse_snapshot_name, snapshot_name};
use zabra::txnlog::scan::LogReader;
use zabra::types::Zxid;

use crate::input::Input;

/// Bytes of one file that were overwritten in place, so that its length is unchanged.
pub(crate) struct Overwritten {
    pub(crate) file: String,
    pub(crate) from: usize,
    pub(crate) to: usize,
}

/// Damages something on the disk. Returns the place if it only overwrote bytes of one file.
pub(crate) fn mutate(disk: &mut TestDisk, input: &mut Input<'_>) -> Option<Overwritten> {
    let names = disk.names();
    if names.is_empty() {
        return None;
    }
    let kind = input.u8();
    let name = input.pick(&names).clone();
    let bytes = disk.bytes(&name);
    // Usually in the used part: logs end with many zeros.
    let used = bytes.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1);
    let at = usize::from(input.u16()) % (used + 40).min(bytes.len()).max(1);
    let mut changed = bytes.clone();
    match kind % 16 {
        0..=2 => set(&mut changed, at, &[bytes.get(at).copied().unwrap_or(0) ^ 1 << (kind >> 5)]),
        3 | 4 => set(&mut changed, at, input.piece()),
        5 => set(&mut changed, at, &vec![0; 1 + input.below(100)]),
        // A sector that never reached the disk.
        6 => set(&mut changed, at / 512 * 512, &[0; 512]),
        7 => changed.truncate(at),
        8 => changed.extend_from_slice(input.piece()),
        9 => {
            let from = usize::from(input.u16()) % used.max(1);
            let piece = bytes[from..].iter().take(1 + input.below(256)).copied().collect::<Vec<u8>>();
            set(&mut changed, at, &piece);
        }
        10 => {
            let other = disk.bytes(&names[input.below(names.len())]);
            set(&mut changed, at, &other[at.min(other.len())..]);
        }
        11 => return remove(disk, &name),
        12 => return rename(disk, &name, input),
        13 | 14 => records(disk, &name, &mut changed, kind, input),
        _ => return exchange(disk, &name, &names[input.below(names.len())]),
    }
    let from = bytes.iter().zip(&changed).position(|(a, b)| a != b);
    let to = bytes.iter().zip(&changed).rposition(|(a, b)| a != b);
    let place = from.zip(to).filter(|_| bytes.len() == changed.len());
    disk.damage(&name, |b| *b = changed);
    place.map(|(from, to)| Overwritten { file: name, from, to: to + 1 })
}

/// Overwrites bytes up to the end of the file.
fn set(bytes: &mut [u8], at: usize, piece: &[u8]) {
    for (to, from) in bytes.iter_mut().skip(at).zip(piece) {
        *to = *from;
    }
}

fn remove(disk: &mut TestDisk, name: &str) -> Option<Overwritten> {
    disk.remove(name).expect("a disk without faults");
    None
}

/// Renames a log to the name of another transaction, or a snapshot to that of a later one. An earlier name is no
/// damage: a snapshot of Apache may contain transactions after the zxid in its name.
fn rename(disk: &mut TestDisk, name: &str, input: &mut Input<'_>) -> Option<Overwritten> {
    let to = match parse_snapshot_name(name) {
        Some((zxid, packing)) => snapshot_name(Zxid(zxid.0 + 1 + input.below(30) as i64), packing),
        None => format!("log.{:x}", input.below(30)),
    };
    if !disk.names().contains(&to) {
        disk.rename(name, &to).expect("a disk without faults");
    }
    None
}

/// Exchanges the contents of two files of the same kind.
fn exchange(disk: &mut TestDisk, one: &str, other: &str) -> Option<Overwritten> {
    if one.starts_with("log.") && other.starts_with("log.") {
        let (a, b) = (disk.bytes(one), disk.bytes(other));
        disk.damage(one, |bytes| *bytes = b);
        disk.damage(other, |bytes| *bytes = a);
    }
    None
}

/// Removes, duplicates or exchanges complete records with correct checksums.
fn records(disk: &TestDisk, name: &str, bytes: &mut Vec<u8>, kind: u8, input: &mut Input<'_>) {
    let Ok(mut log) = LogReader::open(disk, name) else { return };
    let mut ends = vec![log.position() as usize];
    while let Ok(Some(_)) = log.next_record() {
        ends.push(log.position() as usize);
    }
    let mut pieces: Vec<Vec<u8>> = ends.windows(2).map(|w| bytes[w[0]..w[1]].to_vec()).collect();
    if pieces.is_empty() {
        return;
    }
    let (i, j) = (input.below(pieces.len()), input.below(pieces.len()));
    match kind >> 5 {
        0..=2 => drop(pieces.remove(i)),
        3 | 4 => pieces.insert(j, pieces[i].clone()),
        _ => pieces.swap(i, j),
    }
    let rest = bytes.split_off(*ends.last().unwrap_or(&0));
    bytes.truncate(ends[0]);
    for piece in pieces {
        bytes.extend(piece);
    }
    bytes.extend(rest);
}
