//! What came in at a link.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use crate::link::Link;

/// Frames that are kept. A flood that fills this has passed in any case.
const KEPT: usize = 20_000;
/// Bytes of a frame that are kept: all of an Ethernet frame with room for tags.
const LONGEST: usize = 2048;

/// Every frame since the last [`Heard::forget`].
pub(crate) struct Heard {
    state: Arc<Mutex<State>>,
    link: Arc<Link>,
}

#[derive(Default)]
struct State {
    frames: VecDeque<Vec<u8>>,
    failed: Option<io::Error>,
}

impl Heard {
    pub(crate) fn listen(link: Link) -> Self {
        let (state, link) = (Arc::<Mutex<State>>::default(), Arc::new(link));
        let (to, from) = (Arc::clone(&state), Arc::clone(&link));
        thread::spawn(move || {
            let mut frame = [0; LONGEST];
            loop {
                let received = from.receive(&mut frame);
                let mut state = to.lock().unwrap_or_else(PoisonError::into_inner);
                match received {
                    Ok(length) => {
                        if state.frames.len() == KEPT {
                            state.frames.pop_front();
                        }
                        state.frames.push_back(frame[..length].to_vec());
                    }
                    Err(error) => {
                        state.failed = Some(error);
                        return;
                    }
                }
            }
        });
        Self { state, link }
    }

    /// The frames that hold `needle`. Fails where frames were lost: what was not heard is then no
    /// proof that nothing came.
    pub(crate) fn with(&self, needle: &[u8]) -> io::Result<Vec<Vec<u8>>> {
        let lost = self.link.lost()?;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(failed) = state.failed.take() {
            return Err(failed);
        }
        if lost > 0 {
            return Err(io::Error::other(format!("{lost} frames came too fast")));
        }
        let holds = |frame: &&Vec<u8>| frame.windows(needle.len().max(1)).any(|at| at == needle);
        Ok(state.frames.iter().filter(holds).cloned().collect())
    }

    pub(crate) fn forget(&self) -> io::Result<()> {
        self.link.lost()?;
        self.state.lock().unwrap_or_else(PoisonError::into_inner).frames.clear();
        Ok(())
    }
}
