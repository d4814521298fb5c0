//! How text gets onto a terminal: colours if it is one, widths, and durations with units.

use std::{ffi::OsStr, fmt::Write, io::IsTerminal, os::fd::AsFd};

/// What a terminal can show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    pub color: bool,
    /// Columns; `None` for a file or a pipe, where nothing is cut.
    pub width: Option<usize>,
}

impl Style {
    /// What suits `out`: colour on a terminal, unless `NO_COLOR` is set (to anything but nothing) or
    /// `TERM` is `dumb`.
    pub fn detect(out: &(impl IsTerminal + AsFd)) -> Self {
        let no_color = std::env::var_os("NO_COLOR");
        let term = std::env::var_os("TERM");
        let width = rustix::termios::tcgetwinsize(out.as_fd()).ok().map(|size| size.ws_col);
        Self::of(out.is_terminal(), no_color.as_deref(), term.as_deref(), width)
    }

    fn of(
        terminal: bool,
        no_color: Option<&OsStr>,
        term: Option<&OsStr>,
        width: Option<u16>,
    ) -> Self {
        if !terminal {
            return Self { color: false, width: None };
        }
        let color = no_color.is_none_or(OsStr::is_empty) && term != Some(OsStr::new("dumb"));
        // Serial consoles say 0.
        Self { color, width: width.filter(|&width| width > 0).map(usize::from).or(Some(80)) }
    }

    pub(super) fn paint(self, out: &mut String, color: Color, text: &str) {
        if !self.color || color == Color::None {
            out.push_str(text);
            return;
        }
        let _ = write!(out, "\x1b[{}m{text}\x1b[0m", color as u8);
    }
}

/// SGR codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Color {
    None = 0,
    Dim = 2,
    Red = 31,
    Green = 32,
    Yellow = 33,
    Magenta = 35,
    Cyan = 36,
}

/// Appends `text` left-aligned in `width` columns; `cut` shortens what is longer.
pub(super) fn fit(out: &mut String, text: &str, width: usize, cut: bool) {
    let len = text.chars().count();
    if cut && len > width {
        out.extend(text.chars().take(width.saturating_sub(1)));
        out.push('…');
        return;
    }
    out.push_str(text);
    out.extend(std::iter::repeat_n(' ', width.saturating_sub(len)));
}

/// `text` without what a terminal would obey: control characters, and those that turn the direction of
/// writing, become `?`.
pub(super) fn printable(text: &str) -> String {
    let obeyed = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().map(|c| if obeyed(c) { '?' } else { c }).collect()
}

/// Three significant digits and a unit, at most nine columns: `950 ns`, `5.31 ms`, `12.0 s`.
#[must_use]
pub fn duration(ns: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "shown with three digits")]
    let ns = ns as f64;
    let (value, unit) = match ns {
        ..1e3 => return format!("{ns} ns"),
        // Where rounding would give 1000, the next unit has it.
        ..999.5e3 => (ns / 1e3, "µs"),
        ..999.5e6 => (ns / 1e6, "ms"),
        _ => (ns / 1e9, "s"),
    };
    let digits = match value {
        ..9.995 => 2,
        ..99.95 => 1,
        _ => 0,
    };
    format!("{value:.digits$} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_three_digits() {
        for (ns, expected) in [
            (0, "0 ns"),
            (999, "999 ns"),
            (1_000, "1.00 µs"),
            (9_996, "10.0 µs"),
            (99_960, "100 µs"),
            (999_499, "999 µs"),
            (999_500, "1.00 ms"),
            (5_310_000, "5.31 ms"),
            (999_499_999, "999 ms"),
            (1_500_000_000, "1.50 s"),
            (3_600_000_000_000, "3600 s"),
        ] {
            assert_eq!(duration(ns), expected);
        }
    }

    #[test]
    fn color_needs_a_terminal_and_consent() {
        let os = |text: &'static str| Some(OsStr::new(text));
        for (terminal, no_color, term, expected) in [
            (true, None, os("xterm"), true),
            (true, os(""), os("xterm"), true),
            (true, os("1"), os("xterm"), false),
            (true, None, os("dumb"), false),
            (false, None, os("xterm"), false),
        ] {
            assert_eq!(Style::of(terminal, no_color, term, Some(90)).color, expected);
        }
        assert_eq!(Style::of(true, None, None, Some(0)).width, Some(80));
        assert_eq!(Style::of(false, None, None, Some(90)).width, None);
    }
}
