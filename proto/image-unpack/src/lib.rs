//! Unpacks compressed disk images while they are read: gzip, xz and zstd.
//!
//! Used by the provider, which looks at the beginning while planning, and by the agent, which unpacks
//! all of it. The bytes are a stranger's: memory is bounded whatever a file claims, all three
//! decoders are written in Rust without `unsafe` where it matters, and what nevertheless panics in
//! one of them is an error here. How much comes out is for the caller to bound.

mod zstd;

use std::io::{self, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};

use flate2::read::MultiGzDecoder;
use lzma_rust2::XzReader;
use weft_image_format::{Format, HEAD_BYTES, ImageHeader, InvalidImage, MAX_VIRTUAL_SIZE, detect};

use zstd::ZstdReader;

/// What a decoder may take, in bytes: `xz -9` needs 65 MiB, `zstd --ultra -22` a window of 128 MiB.
const MAX_MEMORY: u32 = 192 << 20;
/// Less of a file's beginning than this says nothing for certain, in bytes: the magic numbers that
/// are known begin below.
const ENOUGH_TO_JUDGE: usize = 1024;

/// How a file is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Compression {
    /// RFC 1952; several members one after the other are one file.
    Gzip,
    /// The .xz file format 1.2.
    Xz,
    /// RFC 8878; several frames one after the other are one file.
    Zstd,
}

impl Compression {
    /// How the file that begins with `head` is compressed, if it is.
    pub fn detect(head: &[u8]) -> Option<Self> {
        let kinds: [(&[u8], Self); 3] = [
            (b"\x1f\x8b\x08", Self::Gzip),
            (b"\xfd7zXZ\0", Self::Xz),
            (b"\x28\xb5\x2f\xfd", Self::Zstd),
        ];
        kinds.into_iter().find(|(magic, _)| head.starts_with(magic)).map(|(_, kind)| kind)
    }

    /// As its program is called.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Xz => "xz",
            Self::Zstd => "zstd",
        }
    }
}

/// gzip's window is fixed (RFC 1952); files of the others say how much memory they need.
fn fault(kind: Compression) -> &'static str {
    match kind {
        Compression::Gzip => "is damaged",
        _ => "is damaged, or asks for more memory than it may have",
    }
}

/// Why a file cannot be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// It ends too early.
    #[error("the {} file is truncated: copy or download it again", kind.as_str())]
    Truncated {
        /// How it is compressed.
        kind: Compression,
    },
    /// Its bytes make no sense, or ask for more memory than there is for them.
    #[error("the {} file {}: check it with `{} -t FILE`, or download it again", kind.as_str(), fault(*kind), kind.as_str())]
    Damaged {
        /// How it is compressed.
        kind: Compression,
        /// What the decoder says.
        #[source]
        source: io::Error,
    },
    /// The compressed bytes cannot be read.
    #[error("reading the compressed file failed")]
    Read(#[source] io::Error),
}

/// The bytes that `R`'s stand for.
pub struct Unpacker<R: Read> {
    kind: Compression,
    decoder: Decoder<R>,
}

enum Decoder<R: Read> {
    Gzip(MultiGzDecoder<Input<R>>),
    Xz(Box<XzReader<Input<R>>>),
    Zstd(Box<ZstdReader<Input<R>>>),
    /// After an error or a panic: its state means nothing any more.
    Broken,
}

/// Remembers what the decoders do not tell apart.
struct Input<R> {
    inner: R,
    ended: bool,
    failed: Option<io::Error>,
    bytes: u64,
}

impl<R: Read> Read for Input<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.inner.read(buffer) {
            Ok(read) => {
                self.ended |= read == 0 && !buffer.is_empty();
                self.bytes += read as u64;
                Ok(read)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(error) => {
                let told = io::Error::new(error.kind(), "see the input's own error");
                self.failed = Some(error);
                Err(told)
            }
        }
    }
}

impl<R: Read> std::fmt::Debug for Unpacker<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Unpacker({:?}, {} bytes read)", self.kind, self.bytes_read())
    }
}

impl<R: Read> Unpacker<R> {
    /// Reads `inner`, which should be buffered.
    pub fn new(inner: R, kind: Compression) -> Self {
        let input = Input { inner, ended: false, failed: None, bytes: 0 };
        let decoder = match kind {
            Compression::Gzip => Decoder::Gzip(MultiGzDecoder::new(input)),
            Compression::Xz => {
                Decoder::Xz(Box::new(XzReader::new_mem_limit(input, true, MAX_MEMORY >> 10)))
            }
            Compression::Zstd => Decoder::Zstd(Box::new(ZstdReader::new(input))),
        };
        Self { kind, decoder }
    }

    /// How many compressed bytes have been read.
    pub fn bytes_read(&self) -> u64 {
        self.input().map_or(0, |input| input.bytes)
    }

    fn input(&self) -> Option<&Input<R>> {
        match &self.decoder {
            Decoder::Gzip(decoder) => Some(decoder.get_ref()),
            Decoder::Xz(decoder) => Some(decoder.inner()),
            Decoder::Zstd(decoder) => Some(decoder.input()),
            Decoder::Broken => None,
        }
    }

    /// What comes next; 0 at the end.
    ///
    /// # Errors
    /// [`UnpackError`]; whatever is asked after one is an error too.
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<usize, UnpackError> {
        loop {
            let decoder = &mut self.decoder;
            let read = catch_unwind(AssertUnwindSafe(|| match decoder {
                Decoder::Gzip(decoder) => decoder.read(buffer),
                Decoder::Xz(decoder) => decoder.read(buffer),
                Decoder::Zstd(decoder) => decoder.read(buffer),
                Decoder::Broken => Err(io::Error::other("it failed before")),
            }));
            let error = match read {
                Ok(Ok(read)) => return Ok(read),
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => continue,
                Ok(Err(error)) => error,
                Err(_panic) => {
                    self.decoder = Decoder::Broken;
                    io::Error::other("the decoder gave up")
                }
            };
            return Err(self.sort(error));
        }
    }

    /// Fills `buffer` as far as bytes come.
    ///
    /// # Errors
    /// As [`Self::read`]; how much came before is in `filled`.
    pub fn fill(&mut self, buffer: &mut [u8], filled: &mut usize) -> Result<(), UnpackError> {
        *filled = 0;
        while *filled < buffer.len() {
            match self.read(&mut buffer[*filled..])? {
                0 => break,
                read => *filled += read,
            }
        }
        Ok(())
    }

    fn sort(&mut self, source: io::Error) -> UnpackError {
        let kind = self.kind;
        let decoder = std::mem::replace(&mut self.decoder, Decoder::Broken);
        let input = match decoder {
            Decoder::Gzip(decoder) => decoder.into_inner(),
            Decoder::Xz(decoder) => decoder.into_inner(),
            Decoder::Zstd(decoder) => decoder.into_input(),
            Decoder::Broken => return UnpackError::Damaged { kind, source },
        };
        match (input.failed, input.ended) {
            (Some(error), _) => UnpackError::Read(error),
            (None, true) => UnpackError::Truncated { kind },
            (None, false) => UnpackError::Damaged { kind, source },
        }
    }
}

/// What the beginning of a compressed file lets be said about the disk inside.
#[derive(Debug)]
pub enum Glance {
    /// A disk; its virtual size in bytes, where its header says it (a raw disk has none).
    Disk {
        /// As [`ImageHeader::virtual_size_bytes`].
        virtual_size_bytes: Option<u64>,
    },
    /// Too little came out to say.
    Unknown,
}

/// Why the file inside is no disk.
#[derive(Debug, thiserror::Error)]
pub enum NotPacked {
    /// What it is instead.
    #[error(transparent)]
    Image(#[from] InvalidImage),
    /// It does not unpack.
    #[error(transparent)]
    Unpack(#[from] UnpackError),
}

/// Looks into a file compressed by `kind` whose first bytes are `head`, and that is `file_len` bytes
/// long, where that is known.
///
/// # Errors
/// [`NotPacked`] where it is certain that no disk comes out of it.
pub fn glance(head: &[u8], file_len: Option<u64>, kind: Compression) -> Result<Glance, NotPacked> {
    let is_whole = file_len.is_some_and(|length| length <= head.len() as u64);
    let mut unpacker = Unpacker::new(head, kind);
    let (mut inside, mut filled) = (vec![0; HEAD_BYTES], 0);
    match unpacker.fill(&mut inside, &mut filled) {
        // The rest of the file is missing here, not in the file.
        Ok(()) => {}
        Err(UnpackError::Truncated { .. }) if !is_whole => {}
        Err(error) => return Err(error.into()),
    }
    if filled < ENOUGH_TO_JUDGE {
        return Ok(Glance::Unknown);
    }
    let header = detect(&inside[..filled], MAX_VIRTUAL_SIZE)?;
    Ok(Glance::Disk { virtual_size_bytes: size_of(&header) })
}

fn size_of(header: &ImageHeader) -> Option<u64> {
    (header.format == Format::Qcow2).then_some(header.virtual_size_bytes)
}

#[cfg(test)]
mod tests;
