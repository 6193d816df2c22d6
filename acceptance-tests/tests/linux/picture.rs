//! What a display shows, dot by dot.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use weft_acceptance::Lab;

/// A picture of red, green and blue.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Picture {
    pub(crate) size: (u32, u32),
    dots: Vec<[u8; 3]>,
}

impl Picture {
    /// What `weft screenshot` saves of an instance, in a file of this name.
    pub(crate) fn take(lab: &Lab, instance: &str, name: &str) -> Result<Self> {
        let path = lab.directory().join(name);
        lab.weft(&["screenshot", instance, "-o", &path.to_string_lossy()])?.success()?;
        if let Some(kept) = std::env::var_os("WEFT_KEEP_PICTURES") {
            std::fs::copy(&path, Path::new(&kept).join(name)).context("keep a picture")?;
        }
        Self::read(&path)
    }

    fn read(path: &Path) -> Result<Self> {
        let mut reader = png::Decoder::new(BufReader::new(File::open(path)?)).read_info()?;
        let size = reader.output_buffer_size().context("it is too large")?;
        let mut bytes = vec![0; size];
        let info = reader.next_frame(&mut bytes)?;
        let kind = (info.color_type, info.bit_depth);
        ensure!(kind == (png::ColorType::Rgb, png::BitDepth::Eight), "it is of {kind:?}");
        let dots: Vec<[u8; 3]> = bytes.as_chunks().0.to_vec();
        Ok(Self { size: (info.width, info.height), dots })
    }

    /// How many colours there are.
    pub(crate) fn colours(&self) -> usize {
        self.dots.iter().collect::<BTreeSet<_>>().len()
    }

    /// The part of the dots that are of this colour, in percent.
    pub(crate) fn percent_of(&self, colour: [u8; 3]) -> usize {
        self.dots.iter().filter(|dot| **dot == colour).count() * 100 / self.dots.len().max(1)
    }

    /// The part of the dots that differ, in percent; of pictures of one size.
    pub(crate) fn percent_changed(&self, other: &Self) -> Result<usize> {
        ensure!(self.size == other.size, "{:?} and {:?}", self.size, other.size);
        let changed = self.dots.iter().zip(&other.dots).filter(|(a, b)| a != b).count();
        Ok(changed * 100 / self.dots.len().max(1))
    }
}
