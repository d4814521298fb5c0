//! Spans for people: one aligned line each, children below their server span.
//!
//! ```text
//! 12:03:04.120   5.31 ms ← shop      GET /checkout        200  127.0.0.1:50412   4f2a91c0
//! 12:03:04.121   2.07 ms   → shop    GET http://stock/7   500  127.0.0.1:8081    4f2a91c0  500
//! ```
//! A child ends before its parent, so a span with a parent waits for it, [`WAIT_NS`] at most. Text that
//! came over the network is shown without control characters: it cannot move the cursor.

mod background;
mod red;
mod style;

use std::{
    collections::VecDeque,
    fmt::Write as _,
    io::{self, Write},
};

use hashbrown::HashMap;
use jiff::{Timestamp, tz::TimeZone};

use self::style::{Color, fit, printable};
pub use self::{
    background::BackgroundWriter,
    red::RedTable,
    style::{Style, duration},
};
use crate::{
    semantics::{Outcome, Tone},
    span::{Span, SpanKind, Status},
    trace_context::SpanId,
};

/// How long a span waits for its parent.
pub const WAIT_NS: u64 = 200_000_000;

/// Spans that wait at once; the oldest go first.
const MAX_WAITING: usize = 4096;

/// A span as its line shows it.
#[derive(Debug)]
struct Row {
    span_id: SpanId,
    parent: Option<SpanId>,
    start_unix_ns: u64,
    duration_ns: u64,
    kind: SpanKind,
    service: String,
    /// `GET /path?query`, `SELECT orders`
    request: String,
    outcome: Outcome,
    peer: String,
    /// First 8 digits.
    trace: String,
    error: String,
    failed: bool,
}

impl Row {
    fn of(span: &Span) -> Self {
        let mut trace = span.trace_id.to_string();
        trace.truncate(8);
        Self {
            span_id: span.span_id,
            parent: span.parent_span_id,
            start_unix_ns: span.start_unix_ns,
            duration_ns: span.duration_ns(),
            kind: span.kind(),
            service: printable(span.resource.service_name()),
            request: printable(&span.summary()),
            outcome: span.outcome(),
            peer: printable(&span.other_end().to_string()),
            trace,
            error: span.error_type().map(|error| printable(&error)).unwrap_or_default(),
            failed: span.status() == Status::Error,
        }
    }
}

/// Writes spans as lines. Give it every span, and call [`Self::flush_due`] from time to time.
#[derive(Debug)]
pub struct SpanPrinter<W> {
    out: W,
    style: Style,
    zone: TimeZone,
    /// Spans whose parent may come, by when they came.
    waiting: VecDeque<(u64, Row)>,
    /// How many wait for each parent.
    wanted: HashMap<SpanId, usize, foldhash::fast::RandomState>,
    /// Columns grow with what they hold, up to a bound, and never shrink: lines stay aligned.
    service_width: usize,
    peer_width: usize,
    line: String,
}

impl<W: Write> SpanPrinter<W> {
    /// Writes to `out` in local time.
    pub fn new(out: W, style: Style) -> Self {
        Self::in_zone(out, style, TimeZone::system())
    }

    fn in_zone(out: W, style: Style, zone: TimeZone) -> Self {
        Self {
            out,
            style,
            zone,
            waiting: VecDeque::new(),
            wanted: HashMap::default(),
            service_width: 8,
            peer_width: 15,
            line: String::new(),
        }
    }

    /// Takes a span; writes it and those that waited for it, unless it waits itself.
    ///
    /// # Errors
    /// What `out` says.
    pub fn push(&mut self, span: &Span, now_mono_ns: u64) -> io::Result<()> {
        let row = Row::of(span);
        match row.parent {
            None => self.write_tree(&row, 0)?,
            Some(parent) => {
                *self.wanted.entry(parent).or_default() += 1;
                self.waiting.push_back((now_mono_ns, row));
            }
        }
        if self.waiting.len() > MAX_WAITING {
            self.write_oldest()?;
        }
        self.flush_due(now_mono_ns)
    }

    /// Writes what has waited long enough.
    ///
    /// # Errors
    /// What `out` says.
    pub fn flush_due(&mut self, now_mono_ns: u64) -> io::Result<()> {
        while let Some((came, _)) = self.waiting.front()
            && now_mono_ns.saturating_sub(*came) >= WAIT_NS
        {
            self.write_oldest()?;
        }
        self.out.flush()
    }

    /// Where it writes.
    pub fn out(&mut self) -> &mut W {
        &mut self.out
    }

    /// Writes everything.
    ///
    /// # Errors
    /// What `out` says.
    pub fn finish(&mut self) -> io::Result<()> {
        while !self.waiting.is_empty() {
            self.write_oldest()?;
        }
        self.out.flush()
    }

    /// Writes the tree that the oldest waiting span is in, as far as it is known.
    fn write_oldest(&mut self) -> io::Result<()> {
        let mut top = 0;
        // A parent that waits for its own parent comes first. Ids may be anything, also a circle.
        for _ in 0..self.waiting.len() {
            let parent = self.waiting[top].1.parent;
            match self.waiting.iter().position(|(_, row)| Some(row.span_id) == parent) {
                Some(above) if above != 0 => top = above,
                _ => break,
            }
        }
        let row = self.take(top);
        self.write_tree(&row, 0)
    }

    fn take(&mut self, at: usize) -> Row {
        let (_, row) = self.waiting.remove(at).expect("the caller found it there");
        if let Some(parent) = row.parent
            && let Some(wanted) = self.wanted.get_mut(&parent)
        {
            *wanted -= 1;
            if *wanted == 0 {
                self.wanted.remove(&parent);
            }
        }
        row
    }

    fn write_tree(&mut self, row: &Row, depth: usize) -> io::Result<()> {
        self.write_row(row, depth)?;
        let Some(&count) = self.wanted.get(&row.span_id) else { return Ok(()) };
        let mut children = Vec::with_capacity(count);
        let mut at = 0;
        while at < self.waiting.len() {
            if self.waiting[at].1.parent == Some(row.span_id) {
                children.push(self.take(at));
            } else {
                at += 1;
            }
        }
        children.sort_by_key(|child| child.start_unix_ns);
        children.iter().try_for_each(|child| self.write_tree(child, depth + 1))
    }

    fn write_row(&mut self, row: &Row, depth: usize) -> io::Result<()> {
        const MAX_SERVICE: usize = 24;
        const MAX_PEER: usize = 32;
        // Deeper trees are drawn as if they were this deep, so that the text keeps its place.
        let indent = 2 * depth.min(4);
        let columns = |text: &str| text.chars().count();
        self.service_width =
            self.service_width.max(columns(&row.service) + indent).min(MAX_SERVICE);
        self.peer_width = self.peer_width.max(columns(&row.peer)).min(MAX_PEER);
        let fixed =
            12 + 1 + 9 + 1 + 2 + self.service_width + 2 + 2 + 3 + 2 + self.peer_width + 2 + 8;
        let error = columns(&row.error);
        let tail = if error == 0 { 0 } else { error + 2 };
        let request_width = match self.style.width {
            Some(width) => width.saturating_sub(fixed + tail).clamp(16, 100),
            None => 40,
        };
        let cut = self.style.width.is_some();

        let style = self.style;
        let outcome_color = match row.outcome.tone {
            _ if row.failed => Color::Red,
            Tone::Good => Color::Green,
            Tone::Refused => Color::Yellow,
            Tone::Neutral => Color::None,
        };
        let (arrow, arrow_color) = match row.kind {
            SpanKind::Server => ("←", Color::Cyan),
            SpanKind::Client => ("→", Color::Magenta),
        };
        let line = &mut self.line;
        line.clear();
        style.paint(line, Color::Dim, &clock(row.start_unix_ns, &self.zone));
        let _ = write!(line, " {:>9} {:indent$}", duration(row.duration_ns), "");
        style.paint(line, arrow_color, arrow);
        line.push(' ');
        fit(line, &row.service, self.service_width - indent, true);
        line.push_str("  ");
        fit(line, &row.request, request_width, cut);
        line.push_str("  ");
        style.paint(line, outcome_color, &format!("{:>3}", row.outcome.text));
        line.push_str("  ");
        fit(line, &row.peer, self.peer_width, true);
        line.push_str("  ");
        style.paint(line, Color::Dim, &row.trace);
        if !row.error.is_empty() {
            line.push_str("  ");
            style.paint(line, Color::Red, &row.error);
        }
        line.push('\n');
        self.out.write_all(line.as_bytes())
    }
}

/// `12:03:04.120` in a time zone.
fn clock(unix_ns: u64, zone: &TimeZone) -> String {
    let at = Timestamp::from_nanosecond(i128::from(unix_ns)).unwrap_or_default();
    let time = zone.to_datetime(at).time();
    let milliseconds = time.subsec_nanosecond() / 1_000_000;
    format!("{:02}:{:02}:{:02}.{milliseconds:03}", time.hour(), time.minute(), time.second())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        exchange::{Connection, DbExchange, Detail, Endpoint, Exchange, Failure, Role},
        semantics::tests::{exchange, http, span},
    };

    const PLAIN: Style = Style { color: false, width: Some(120) };

    fn printer(style: Style) -> SpanPrinter<Vec<u8>> {
        SpanPrinter::in_zone(Vec::new(), style, TimeZone::UTC)
    }

    fn text(printer: SpanPrinter<Vec<u8>>) -> String {
        String::from_utf8(printer.out).unwrap()
    }

    fn numbered(role: Role, id: u8, parent: Option<u8>, target: &str) -> Span {
        let mut exchange = exchange(role);
        http(&mut exchange).target = target.into();
        exchange.start_mono_ns += u64::from(id);
        let mut span = span(exchange);
        span.span_id = SpanId([id; 8]);
        span.parent_span_id = parent.map(|parent| SpanId([parent; 8]));
        span
    }

    #[test]
    fn line_shows_what_matters_in_columns() {
        let mut printer = printer(PLAIN);
        let mut span = span(exchange(Role::Server));
        span.start_unix_ns = 3_723_004_000_000;
        span.end_unix_ns = span.start_unix_ns + 5_310_000;
        printer.push(&span, 0).unwrap();
        let line = text(printer);
        assert!(
            line.starts_with("01:02:03.004   5.31 ms ← unknown_service  GET /users/7?q=1 "),
            "{line}"
        );
        assert!(line.ends_with("  200  10.0.0.1:50000   01010101\n"), "{line}");
    }

    #[test]
    fn a_unix_sockets_path_is_the_peer_of_clients_alone() {
        let line = |role| {
            let mut exchange = exchange(role);
            let end = || Endpoint::Unix { path: "/run/app.sock".into() };
            let (local, remote) = (end(), end());
            exchange.connection =
                Arc::new(Connection { local, remote, ..(*exchange.connection).clone() });
            let mut printer = printer(PLAIN);
            printer.push(&span(exchange), 0).unwrap();
            text(printer)
        };
        assert!(line(Role::Client).contains("  200  /run/app.sock "), "{}", line(Role::Client));
        assert!(!line(Role::Server).contains("app.sock"), "{}", line(Role::Server));
    }

    #[test]
    fn operations_of_databases_are_lines_as_requests_are() {
        let mut printer = printer(PLAIN);
        let db = DbExchange {
            operation: "INSERT".into(),
            summary: Some("INSERT orders".into()),
            status_code: Some("23505".into()),
            failed: true,
            ..DbExchange::default()
        };
        let detail = Detail::Postgres(Box::new(db));
        printer.push(&span(Exchange { detail, ..exchange(Role::Client) }), 0).unwrap();
        let db = DbExchange { operation: "PIPELINE GET".into(), ..DbExchange::default() };
        let detail = Detail::Redis(Box::new(db));
        printer.push(&span(Exchange { detail, ..exchange(Role::Server) }), 0).unwrap();
        let lines = text(printer);
        let [insert, get] = lines.lines().collect::<Vec<_>>()[..] else { panic!("{lines}") };
        assert!(insert.contains("→ unknown_service  INSERT orders "), "{insert}");
        assert!(insert.ends_with("  err  10.0.0.2:8080    01010101  23505"), "{insert}");
        assert!(get.contains("← unknown_service  PIPELINE GET "), "{get}");
        assert!(get.ends_with("   ok  10.0.0.1:50000   01010101"), "{get}");
    }

    #[test]
    fn children_stand_below_their_server_in_the_order_they_began() {
        let mut printer = printer(PLAIN);
        printer.push(&numbered(Role::Client, 3, Some(1), "/second"), 0).unwrap();
        printer.push(&numbered(Role::Client, 2, Some(1), "/first"), 0).unwrap();
        printer.push(&numbered(Role::Server, 9, None, "/other"), 0).unwrap();
        printer.push(&numbered(Role::Server, 1, None, "/parent"), 0).unwrap();
        let lines = text(printer);
        let order: Vec<_> = lines.lines().collect();
        for (line, expected) in order.iter().zip([
            ("ms ← ", "GET /other"),
            ("ms ← ", "GET /parent"),
            ("ms   → ", "GET http://example.com/first"),
            ("ms   → ", "GET http://example.com/second"),
        ]) {
            assert!(line.contains(expected.0) && line.contains(expected.1), "{lines}");
        }
        assert_eq!(order.len(), 4);
    }

    #[test]
    fn span_whose_parent_does_not_come_is_written_after_a_while() {
        let mut printer = printer(PLAIN);
        printer.push(&numbered(Role::Client, 3, Some(2), "/leaf"), 0).unwrap();
        printer.push(&numbered(Role::Server, 2, Some(1), "/middle"), 10).unwrap();
        printer.flush_due(WAIT_NS - 1).unwrap();
        assert!(printer.out.is_empty());
        printer.flush_due(WAIT_NS).unwrap();
        assert!(printer.waiting.is_empty() && printer.wanted.is_empty());
        let lines = text(printer);
        let order: Vec<_> = lines.lines().collect();
        assert!(order[0].contains("/middle") && order[1].contains("  → "), "{lines}");
    }

    #[test]
    fn finish_writes_everything_even_circles() {
        let mut printer = printer(PLAIN);
        printer.push(&numbered(Role::Server, 1, Some(2), "/a"), 0).unwrap();
        printer.push(&numbered(Role::Server, 2, Some(1), "/b"), 0).unwrap();
        printer.push(&numbered(Role::Server, 3, Some(3), "/c"), 0).unwrap();
        printer.finish().unwrap();
        assert_eq!(text(printer).lines().count(), 3);
    }

    #[test]
    fn text_from_the_network_cannot_control_the_terminal() {
        let mut printer = printer(PLAIN);
        let evil = "/a\x1b[2J\r\nb\u{9b}31m\u{202e}";
        printer.push(&numbered(Role::Server, 1, None, evil), 0).unwrap();
        let line = text(printer);
        assert_eq!(line.lines().count(), 1);
        assert!(!line.contains(['\x1b', '\r', '\u{9b}', '\u{202e}']), "{line:?}");
    }

    #[test]
    fn secrets_are_hidden_here_too() {
        let mut printer = printer(PLAIN);
        printer.push(&numbered(Role::Client, 1, None, "/a?token=hunter2"), 0).unwrap();
        assert!(text(printer).contains("token=REDACTED"));
    }

    #[test]
    fn line_fits_the_terminal() {
        for width in [80, 100, 200] {
            let mut printer = printer(Style { color: false, width: Some(width) });
            let target = format!("/{}", "long".repeat(100));
            let mut span = numbered(Role::Server, 1, None, &target);
            span.exchange.failure = Some(Failure::Reset);
            printer.push(&span, 0).unwrap();
            let line = text(printer);
            // Below 100 columns the request keeps 16 of them rather than vanish.
            assert!(line.trim_end().chars().count() <= width.max(108), "{line}");
            assert!(line.contains('…') && line.contains("connection_reset"), "{line}");
        }
    }

    #[test]
    fn color_is_only_written_when_asked_for() {
        let mut plain = printer(PLAIN);
        plain.push(&span(exchange(Role::Server)), 0).unwrap();
        assert!(!text(plain).contains('\x1b'));
        let mut colored = printer(Style { color: true, width: None });
        colored.push(&span(exchange(Role::Server)), 0).unwrap();
        assert!(text(colored).contains("\x1b[32m200\x1b[0m"));
    }
}
