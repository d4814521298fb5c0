//! A command as `redis-cli` would take it, without its values: `SET mykey ?`.

use std::fmt::Write as _;

use super::command::{Argument, Command};

/// Bytes of a text; at least one argument is told of in any case.
const MAX_TEXT: usize = 1024;
/// Stands for what is left out at the end.
const CUT: &str = "...";

impl Command<'_> {
    /// Appends the command to `text`. Keys are as they are, values and all arguments of commands that are not known
    /// are `?`; bounded, whatever the command.
    pub fn query_text(&self, text: &mut String) {
        let from = text.len();
        text.push_str(self.operation());
        let subcommands = usize::from(self.spec().is_some_and(|spec| spec.name.contains(' ')));
        let mut told = subcommands;
        for argument in self.arguments().skip(subcommands) {
            if text.len() - from > MAX_TEXT {
                break;
            }
            text.push(' ');
            write_argument(&argument, text);
            told += 1;
        }
        if told < self.argument_count() as usize {
            text.push(' ');
            text.push_str(CUT);
        }
    }
}

fn write_argument(argument: &Argument<'_>, text: &mut String) {
    let Some(shown) = argument.shown else { return text.push('?') };
    // A character that was cut in two is left out.
    let shown = match str::from_utf8(shown) {
        Err(error) if argument.is_cut() && error.error_len().is_none() => {
            &shown[..error.valid_up_to()]
        }
        _ => shown,
    };
    let bare = !shown.is_empty() && shown.iter().all(|byte| is_bare(*byte));
    match str::from_utf8(shown) {
        Ok(shown) if bare => text.push_str(shown),
        _ => quote(shown, text),
    }
    if argument.is_cut() {
        text.push_str(CUT);
    }
}

/// Whether it can be written without quotes. A question mark cannot: it would be taken for a value.
const fn is_bare(byte: u8) -> bool {
    byte > b' ' && !matches!(byte, b'"' | b'\'' | b'\\' | b'?' | 0x7f)
}

fn quote(bytes: &[u8], text: &mut String) {
    text.push('"');
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '"' | '\\' => text.extend(['\\', character]),
                '\n' => text.push_str("\\n"),
                '\r' => text.push_str("\\r"),
                '\t' => text.push_str("\\t"),
                '\0'..=' ' if character != ' ' => hex(character as u8, text),
                '\x7f' => hex(0x7f, text),
                _ => text.push(character),
            }
        }
        chunk.invalid().iter().for_each(|byte| hex(*byte, text));
    }
    text.push('"');
}

fn hex(byte: u8, text: &mut String) {
    // Writing to a string does not fail.
    let _ = write!(text, "\\x{byte:02x}");
}
