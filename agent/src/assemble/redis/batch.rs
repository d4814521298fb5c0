//! A command that is not answered, or a batch of them, and what is told of it.

use std::{borrow::Cow, sync::Arc};

use crate::{
    assemble::pending::InProgress,
    exchange::{DbExchange, Detail},
    protocol::redis::{Command, Kind},
};

/// Bytes of the text of a batch, of which more is not told.
const MAX_BATCH_TEXT: usize = 1024;

/// A command or a batch that is not over.
#[derive(Debug, Default)]
pub(in crate::assemble) struct InRedis {
    pub(super) db: Box<DbExchange>,
    /// `db.query_text` so far.
    text: String,
    /// Commands without those that only begin and end a transaction.
    pub(super) commands: u32,
    /// Replies that are due, and those that have come.
    pub(super) expected: u32,
    pub(super) replied: u32,
    /// Not all commands have one name.
    mixed: bool,
    transaction: bool,
    /// More commands will come.
    pub(super) unfinished: bool,
    pub(super) subscribes: bool,
    pub(super) monitors: bool,
    /// The database before a `SELECT` that may fail, and which reply tells.
    pub(super) selected_from: Option<(u32, Option<Arc<str>>)>,
    /// How many commands there are is not known: as many as there are replies.
    pub(super) unbounded: bool,
}

impl InProgress for InRedis {
    fn settled(&self) -> Self {
        Self { expected: self.expected, replied: self.replied, ..Self::default() }
    }

    fn join(&mut self, request: Self) {
        let (code, failed) = (self.db.status_code.take(), self.db.failed);
        let replied = self.replied;
        *self = request;
        self.replied = replied;
        (self.db.status_code, self.db.failed) = (code, failed);
    }

    fn into_detail(mut self) -> Detail {
        if self.unbounded {
            self.commands = self.commands.max(self.replied);
            self.mixed = true;
            self.db.text_cut = true;
        }
        let kind = match self.transaction {
            true => Some("MULTI"),
            false if self.commands > 1 => Some("PIPELINE"),
            false => None,
        };
        if let Some(kind) = kind {
            self.db.batch_size = self.commands;
            self.db.operation = match self.mixed || self.commands == 0 {
                true => Cow::Borrowed(kind),
                false => Cow::Owned(format!("{kind} {}", self.db.operation)),
            };
        }
        if !self.text.is_empty() {
            self.db.query_text = Some(self.text.into());
        }
        Detail::Redis(self.db)
    }
}

impl InRedis {
    /// One more command belongs to it, to which there will be so many replies.
    pub(super) fn add(&mut self, command: &Command<'_>, kind: Kind, replies: u32) {
        self.expected += replies;
        self.subscribes |= kind == Kind::Subscription;
        self.monitors |= kind == Kind::Monitor;
        match kind {
            Kind::Multi => {
                self.transaction |= self.commands == 0;
                self.unfinished = true;
                return;
            }
            Kind::Exec | Kind::Discard => {
                self.unfinished = false;
                if self.transaction {
                    return;
                }
            }
            _ => {}
        }
        let operation = match command.spec() {
            Some(spec) => Cow::Borrowed(spec.name),
            None => Cow::Owned(command.name().to_owned()),
        };
        self.commands += 1;
        match self.commands {
            1 => {
                self.db.operation = operation;
                self.db.stored_procedure = command.script().map(Into::into);
            }
            _ => {
                self.mixed |= self.db.operation != operation;
                self.db.stored_procedure = None;
            }
        }
        self.add_text(command);
    }

    fn add_text(&mut self, command: &Command<'_>) {
        if self.text.len() >= MAX_BATCH_TEXT {
            self.db.text_cut = true;
            return;
        }
        if !self.text.is_empty() {
            self.text.push_str("; ");
        }
        command.query_text(&mut self.text);
    }
}
