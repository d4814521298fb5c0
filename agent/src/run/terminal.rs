//! What is printed of spans, until nobody reads it any more.

use std::io::{self, Write};

use crate::export::print::SpanPrinter;

/// A printer, if there is one.
pub(super) struct Terminal<W>(Option<SpanPrinter<W>>);

impl<W: Write> Terminal<W> {
    pub(super) fn new(printer: Option<SpanPrinter<W>>) -> Self {
        Self(printer)
    }

    /// Printing ends for good when standard output is closed; everything else goes on.
    pub(super) fn print(&mut self, write: impl FnOnce(&mut SpanPrinter<W>) -> io::Result<()>) {
        if let Some(printer) = &mut self.0
            && let Err(error) = write(printer)
        {
            tracing::warn!(%error, "cannot print any more");
            self.0 = None;
        }
    }
}
