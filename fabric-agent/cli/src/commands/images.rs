//! `weft images`: what comes to the agent, downloads and uploads, whoever began them.

mod bar;
mod rate;

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::process::ExitCode;

use serde_json::json;
use tokio::time::Instant;
use weft_proto::v1::{Transfer, WatchTransfersRequest};

use crate::agent::Agent;
use crate::failure::Failure;
use crate::output::{Format, print};
use bar::{Shown, line};
use rate::Rate;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Go on when nothing comes any more, until Ctrl-C
    #[arg(long, short = 'f')]
    follow: bool,
}

/// Moves the cursor to the beginning of the line so many lines above and clears what is below (ECMA-48:
/// CPL, ED).
fn above(lines: usize) -> String {
    if lines == 0 { String::new() } else { format!("\x1b[{lines}F\x1b[J") }
}

/// Columns of a terminal that does not say how many it has.
const COLUMNS: usize = 80;

pub(crate) async fn run(agent: &Agent, args: &Args, format: Format) -> Result<ExitCode, Failure> {
    let watching = agent.images().watch_transfers(WatchTransfersRequest {}).await?;
    let mut events = watching.into_inner();
    let begun = Instant::now();
    let mut board = Board::new(format, std::io::stdout().is_terminal());
    loop {
        let event = tokio::select! {
            event = events.message() => event?,
            // What is drawn stays.
            _ = tokio::signal::ctrl_c() => return Ok(ExitCode::SUCCESS),
        };
        let Some(event) = event else { return Ok(ExitCode::SUCCESS) };
        let ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        let text = board.take(event.items, ms, terminal_columns());
        print(text)?;
        if board.is_quiet() && !args.follow {
            print(board.last_word())?;
            return Ok(if board.any_failed { ExitCode::FAILURE } else { ExitCode::SUCCESS });
        }
    }
}

fn terminal_columns() -> usize {
    let said = std::env::var("COLUMNS").ok().and_then(|text| text.parse().ok());
    said.or_else(window_columns).filter(|columns| *columns >= 20).unwrap_or(COLUMNS)
}

/// As the kernel knows the window of the terminal at standard output: `TIOCGWINSZ`, ioctl_tty(2).
fn window_columns() -> Option<usize> {
    use nix::libc::{STDOUT_FILENO, TIOCGWINSZ, ioctl, winsize};
    let mut size = winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    #[expect(unsafe_code, reason = "nix and std have no call for the size of a terminal's window")]
    // SAFETY: it writes one winsize to where its argument points, during the call only.
    let answer = unsafe { ioctl(STDOUT_FILENO, TIOCGWINSZ, &raw mut size) };
    (answer == 0).then_some(size.ws_col.into())
}

/// What has been printed, and of what.
#[derive(Debug)]
struct Board {
    format: Format,
    /// Lines of what runs are drawn over.
    is_live: bool,
    running: BTreeMap<u64, (Transfer, Rate)>,
    /// Lines that are drawn over next time.
    drawn: usize,
    /// Tenths of each that were printed where nothing is drawn over.
    tenths: BTreeMap<u64, u64>,
    any: bool,
    any_failed: bool,
}

impl Board {
    fn new(format: Format, is_terminal: bool) -> Self {
        Self {
            format,
            is_live: is_terminal && format == Format::Text,
            running: BTreeMap::new(),
            drawn: 0,
            tenths: BTreeMap::new(),
            any: false,
            any_failed: false,
        }
    }

    fn is_quiet(&self) -> bool {
        self.running.is_empty()
    }

    /// What there is to print of news that came after `ms`.
    fn take(&mut self, news: Vec<Transfer>, ms: u64, columns: usize) -> String {
        let mut text = if self.is_live { above(self.drawn) } else { String::new() };
        for transfer in news {
            self.any = true;
            self.any_failed |= transfer.state == "failed";
            let id = transfer.id;
            let (_, mut rate) = self.running.remove(&id).unwrap_or_default();
            rate.note(ms, transfer.received_bytes);
            let shown = Shown { transfer: &transfer, bytes_per_second: rate.per_second(), columns };
            let format = self.format;
            match format {
                Format::Json => text.push_str(&as_json(&transfer, rate.per_second())),
                // What has ended scrolls away, what runs is drawn below.
                Format::Text if transfer.state != "running" => text.push_str(&line(&shown, false)),
                Format::Text if !self.is_live && self.is_worth_a_line(&transfer) => {
                    text.push_str(&line(&shown, false));
                }
                Format::Text => {}
            }
            if transfer.state == "running" {
                self.running.insert(id, (transfer, rate));
            } else {
                self.tenths.remove(&id);
            }
        }
        if self.is_live {
            for (transfer, rate) in self.running.values() {
                let bytes_per_second = rate.per_second();
                text.push_str(&line(&Shown { transfer, bytes_per_second, columns }, true));
            }
            self.drawn = self.running.len();
        }
        text
    }

    /// Where lines stay: one at the beginning, at each tenth, and for each trouble.
    fn is_worth_a_line(&mut self, transfer: &Transfer) -> bool {
        let tenth = match transfer.total_bytes {
            Some(total) => transfer.received_bytes.saturating_mul(10) / total.max(1),
            None => transfer.received_bytes >> 26,
        };
        let before = self.tenths.insert(transfer.id, tenth);
        before != Some(tenth) || !transfer.reason.is_empty()
    }

    fn last_word(&self) -> &'static str {
        match (self.format, self.any) {
            (Format::Text, false) => "nothing is coming to the agent\n",
            _ => "",
        }
    }
}

fn as_json(transfer: &Transfer, bytes_per_second: Option<u64>) -> String {
    let Transfer { id, way, name, received_bytes, total_bytes, state, reason } = transfer;
    let value = json!({
        "id": id,
        "way": way,
        "name": name,
        "received_bytes": received_bytes,
        "total_bytes": total_bytes,
        "bytes_per_second": bytes_per_second,
        "state": state,
        "reason": (!reason.is_empty()).then_some(reason),
    });
    format!("{value}\n")
}

#[cfg(test)]
mod tests;
