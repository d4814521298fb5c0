//! Where spans and advice go.

use std::io::Write;

use super::terminal::Terminal;
use crate::{bpf::Verdicts, correlate::pipeline::Output, export::Exporter, span::Span};

/// See the module; `W` is what spans are printed on.
pub(super) struct Outlet<W> {
    pub(super) exporter: Exporter,
    pub(super) terminal: Terminal<W>,
    /// The kernel side's table of advice; a replay has none, since its recording is what was captured.
    pub(super) verdicts: Option<Verdicts>,
    /// The time that the stages have come to.
    pub(super) now_ns: u64,
    /// Spans so far.
    pub(super) spans: u64,
}

impl<W: Write> Output for Outlet<W> {
    fn span(&mut self, span: Span) {
        self.spans += 1;
        self.exporter.span(&span);
        let now_ns = self.now_ns;
        self.terminal.print(|printer| printer.push(&span, now_ns));
    }

    fn capture(&mut self, conn_id: u64, policy: u8) {
        if let Some(verdicts) = &mut self.verdicts {
            verdicts.advise(conn_id, policy);
        }
    }
}
