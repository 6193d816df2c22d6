//! All frames of a zstd file: the library decodes one.

use std::io::{self, Read};

use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

/// What `zstd --ultra -22` uses, in bytes. More (`--long=31`) is refused before it is allocated.
const MAX_WINDOW: u64 = 128 << 20;

/// Reads what `R`'s frames stand for, each verified where it has a checksum.
pub(crate) struct ZstdReader<R: Read> {
    input: Peeked<R>,
    decoder: FrameDecoder,
    in_frame: bool,
}

/// An input whose next byte may have been looked at.
struct Peeked<R> {
    next: Option<u8>,
    inner: R,
}

impl<R: Read> Read for Peeked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match (buffer.first_mut(), self.next.take()) {
            (Some(first), Some(next)) => {
                *first = next;
                Ok(1)
            }
            (None, next) => {
                self.next = next;
                Ok(0)
            }
            (Some(_), None) => self.inner.read(buffer),
        }
    }
}

impl<R: Read> Peeked<R> {
    fn is_at_end(&mut self) -> io::Result<bool> {
        let mut next = [0];
        if self.next.is_none() && self.inner.read(&mut next)? == 1 {
            self.next = Some(next[0]);
        }
        Ok(self.next.is_none())
    }
}

impl<R: Read> ZstdReader<R> {
    pub(crate) fn new(inner: R) -> Self {
        let mut decoder = FrameDecoder::new();
        decoder.set_max_window_size(MAX_WINDOW);
        Self { input: Peeked { next: None, inner }, decoder, in_frame: false }
    }

    pub(crate) fn input(&self) -> &R {
        &self.input.inner
    }

    pub(crate) fn into_input(self) -> R {
        self.input.inner
    }

    /// Goes to the next frame; false where there is none.
    fn begin(&mut self) -> io::Result<bool> {
        while !self.input.is_at_end()? {
            match self.decoder.reset(&mut self.input) {
                Ok(()) => return Ok(true),
                // RFC 8878, 3.1.2: for whoever wants it.
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    let length = u64::from(length);
                    if io::copy(&mut (&mut self.input).take(length), &mut io::sink())? < length {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                Err(error) => return Err(io::Error::other(error)),
            }
        }
        Ok(false)
    }

    fn verify(&self) -> io::Result<()> {
        let told = self.decoder.get_checksum_from_data();
        match told.is_some() && told != self.decoder.get_calculated_checksum() {
            true => Err(io::Error::other("the checksum of a frame is wrong")),
            false => Ok(()),
        }
    }
}

impl<R: Read> Read for ZstdReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if !self.in_frame {
                if !self.begin()? {
                    return Ok(0);
                }
                self.in_frame = true;
            }
            if self.decoder.can_collect() > 0 {
                return self.decoder.read(buffer);
            }
            if self.decoder.is_finished() {
                self.verify()?;
                self.in_frame = false;
                continue;
            }
            let one_block = BlockDecodingStrategy::UptoBlocks(1);
            self.decoder.decode_blocks(&mut self.input, one_block).map_err(io::Error::other)?;
        }
    }
}
