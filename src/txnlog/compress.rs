//! The three ways of compressing a snapshot file. Mirrors `SnapStream.getInputStream`, `getOutputStream` and
//! snappy-java's `SnappyOutputStream`.

use std::io::{self, BufWriter, Read, Write};

use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;

use super::disk;
use super::names::Compression;

/// Size of the pieces in which compressed data is written. The log may have to wait for each piece, so it is no more
/// than what the file sends to the disk at a time.
const BUFFER: usize = 128 << 10;
/// snappy-java: magic, version 1, readable by version 1.
/// The first bytes of every `.gz` file.
pub(super) const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
/// The first bytes of every `.snappy` file of snappy-java.
pub(super) const SNAPPY_MAGIC: [u8; 8] = *b"\x82SNAPPY\0";
const SNAPPY_HEADER: [u8; 16] = *b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01";
/// Uncompressed bytes per snappy block: snappy-java's default.
const SNAPPY_BLOCK: usize = 32 << 10;
/// Largest compressed block that is accepted. In practice snappy-java's buffers are at most this large, and our own
/// blocks are far smaller.
const SNAPPY_MAX_PACKED: usize = 64 << 20;
const _: () = assert!(SNAPPY_BLOCK * 2 < SNAPPY_MAX_PACKED, "what is written is read again");

/// Compresses a stream into a file.
pub(crate) enum Packer<W: disk::Writer> {
    Plain(BufWriter<W>),
    Gzip(Box<GzEncoder<BufWriter<W>>>),
    Snappy(SnappyWriter<BufWriter<W>>),
}

impl<W: disk::Writer> Packer<W> {
    pub(crate) fn new(file: W, compression: Compression) -> io::Result<Packer<W>> {
        let file = BufWriter::with_capacity(BUFFER, file);
        Ok(match compression {
            Compression::None => Packer::Plain(file),
            Compression::Gzip => Packer::Gzip(Box::new(GzEncoder::new(file, flate2::Compression::default()))),
            Compression::Snappy => Packer::Snappy(SnappyWriter::new(file)?),
        })
    }

    pub(crate) fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Packer::Plain(w) => w.write_all(bytes),
            Packer::Gzip(w) => w.write_all(bytes),
            Packer::Snappy(w) => w.write_all(bytes),
        }
    }

    /// Closes the file without what is still buffered: a disk that is full has no part in it any more. (What compresses by gzip
    /// cannot be stopped from writing its end.)
    pub(crate) fn discard(self) {
        match self {
            Packer::Plain(w) => drop(w.into_parts()),
            Packer::Gzip(w) => drop(w),
            Packer::Snappy(w) => drop(w.out.into_parts()),
        }
    }

    /// Writes what is still buffered and makes the file durable.
    pub(crate) fn finish(self) -> io::Result<()> {
        let file = match self {
            Packer::Plain(w) => w,
            Packer::Gzip(w) => w.finish()?,
            Packer::Snappy(w) => w.finish()?,
        };
        file.into_inner().map_err(|e| e.into_error())?.sync()
    }
}

/// snappy-java's stream format: a header, then blocks of `I compressed length, compressed bytes`.
pub(crate) struct SnappyWriter<W> {
    out: W,
    plain: Vec<u8>,
    packed: Vec<u8>,
}

impl<W: Write> SnappyWriter<W> {
    fn new(mut out: W) -> io::Result<SnappyWriter<W>> {
        out.write_all(&SNAPPY_HEADER)?;
        let packed = vec![0; snap::raw::max_compress_len(SNAPPY_BLOCK)];
        Ok(SnappyWriter { out, plain: Vec::with_capacity(SNAPPY_BLOCK), packed })
    }

    fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(SNAPPY_BLOCK - self.plain.len()));
            self.plain.extend_from_slice(now);
            bytes = later;
            if self.plain.len() == SNAPPY_BLOCK {
                self.block()?;
            }
        }
        Ok(())
    }

    fn block(&mut self) -> io::Result<()> {
        assert!(!self.plain.is_empty(), "an empty block ends no stream and says nothing");
        assert!(self.plain.len() <= SNAPPY_BLOCK, "a block of {} bytes", self.plain.len());
        let n = snap::raw::Encoder::new().compress(&self.plain, &mut self.packed).map_err(io::Error::other)?;
        self.out.write_all(&(n as u32).to_be_bytes())?;
        self.out.write_all(&self.packed[..n])?;
        self.plain.clear();
        Ok(())
    }

    fn finish(mut self) -> io::Result<W> {
        if !self.plain.is_empty() {
            self.block()?;
        }
        Ok(self.out)
    }
}

/// Decompresses a file into a stream.
pub(crate) enum Unpacker<R: disk::Reader> {
    Plain(R),
    Gzip(Box<MultiGzDecoder<R>>),
    Snappy(SnappyReader<R>),
}

impl<R: disk::Reader> Unpacker<R> {
    pub(crate) fn new(file: R, compression: Compression) -> Unpacker<R> {
        match compression {
            Compression::None => Unpacker::Plain(file),
            Compression::Gzip => Unpacker::Gzip(Box::new(MultiGzDecoder::new(file))),
            Compression::Snappy => {
                Unpacker::Snappy(SnappyReader { file, packed: Vec::new(), plain: Vec::new(), from: 0, started: false })
            }
        }
    }
}

impl<R: disk::Reader> Read for Unpacker<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match self {
            Unpacker::Plain(r) => r.read(out),
            Unpacker::Gzip(r) => r.read(out).map_err(|e| explained("gzip", &e)),
            Unpacker::Snappy(r) => r.read(out).map_err(|e| explained("snappy", &e)),
        }
    }
}

/// Reads the format of [`SnappyWriter`]. Several streams may follow one another.
pub(crate) struct SnappyReader<R> {
    file: R,
    packed: Vec<u8>,
    plain: Vec<u8>,
    from: usize,
    started: bool,
}

impl<R: Read> SnappyReader<R> {
    /// Reads the next block into `plain`; returns false at the end of the file.
    fn next_block(&mut self) -> io::Result<bool> {
        let mut len = [0u8; 4];
        if !read_all_or_nothing(&mut self.file, &mut len)? {
            if self.started {
                return Ok(false);
            }
            return Err(bad("an empty snappy stream"));
        }
        if !self.started || len == SNAPPY_HEADER[..4] {
            let mut rest = [0u8; 12];
            self.file.read_exact(&mut rest)?;
            // The two version numbers after the magic may be higher; the magic may not differ.
            if len != SNAPPY_HEADER[..4] || rest[..4] != SNAPPY_HEADER[4..8] {
                return Err(bad("not a snappy-java stream"));
            }
            self.started = true;
            self.plain.clear();
            self.from = 0;
            return Ok(true);
        }
        let len = u32::from_be_bytes(len) as usize;
        if len > SNAPPY_MAX_PACKED {
            return Err(bad("an impossible snappy block length"));
        }
        self.packed.clear();
        let got = (&mut self.file).take(len as u64).read_to_end(&mut self.packed)?;
        if got < len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let plain = snap::raw::decompress_len(&self.packed).map_err(io::Error::other)?;
        // Snappy compresses at most 64 bytes into three.
        if plain > len.saturating_mul(32).max(64) {
            return Err(bad("an impossible snappy block"));
        }
        self.plain.resize(plain, 0);
        snap::raw::Decoder::new().decompress(&self.packed, &mut self.plain).map_err(io::Error::other)?;
        self.from = 0;
        Ok(true)
    }

    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.from == self.plain.len() {
            if !self.next_block()? {
                return Ok(0);
            }
        }
        let n = out.len().min(self.plain.len() - self.from);
        assert!(n > 0 || out.is_empty(), "nothing is given though a block is there");
        out[..n].copy_from_slice(&self.plain[self.from..self.from + n]);
        self.from += n;
        Ok(n)
    }
}

/// An error of the packing, or of the disk below it, in words that name the packing.
fn explained(packing: &str, e: &io::Error) -> io::Error {
    let what = match e.kind() {
        io::ErrorKind::UnexpectedEof => format!("the {packing} stream ends too early"),
        io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => format!("the {packing} stream is damaged: {e}"),
        _ => e.to_string(),
    };
    io::Error::new(e.kind(), what)
}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Fills `out`; returns false if the source ends before the first byte.
fn read_all_or_nothing(r: &mut impl Read, out: &mut [u8]) -> io::Result<bool> {
    let mut have = 0;
    while have < out.len() {
        match r.read(&mut out[have..]) {
            Ok(0) if have == 0 => return Ok(false),
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => have += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(true)
}
