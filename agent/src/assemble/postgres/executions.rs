//! What one `ReadyForQuery` will end: a query, or what was executed up to a `Sync`, and what is told of it.

use std::{borrow::Cow, sync::Arc};

use crate::{
    assemble::{pending::InProgress, statement::Statement},
    exchange::{DbExchange, Detail},
};

/// Bytes of the text of a batch, of which more is not told.
const MAX_BATCH_TEXT: usize = 1024;

/// What is not answered whole.
#[derive(Debug, Default)]
pub(in crate::assemble) struct InPostgres {
    pub(super) db: Box<DbExchange>,
    /// What was executed, or only prepared.
    pub(super) statement: Option<Arc<Statement>>,
    pub(super) executed: u32,
    /// Not all executions are of one statement, or of one operation.
    texts: Option<String>,
    mixed: bool,
    unknown: bool,
    completed: u32,
    /// Operation by the first tag that completed something.
    tag: Option<Box<str>>,
    rows: Option<u64>,
    /// Rows since the last command was complete.
    fetched: u64,
}

impl InProgress for InPostgres {
    fn settled(&self) -> Self {
        Self::default()
    }

    fn join(&mut self, request: Self) {
        *self = request;
    }

    fn into_detail(mut self) -> Detail {
        let db = &mut *self.db;
        db.returned_rows = self.rows;
        db.text_unknown = self.unknown;
        if let Some(statement) = &self.statement {
            statement.describe(db);
        }
        if self.unknown && db.operation.is_empty() {
            db.operation = Cow::Owned(self.tag.take().unwrap_or_default().into());
        }
        if self.executed == 0 && !db.operation.is_empty() && !self.unknown {
            // Parsed, and nothing more.
            db.operation = Cow::Borrowed("PREPARE");
            db.summary = None;
        }
        let batch = self.executed.max(self.completed);
        if self.executed > 1 {
            db.batch_size = batch;
            db.operation = match self.mixed || db.operation.is_empty() {
                true => Cow::Borrowed("BATCH"),
                false => Cow::Owned(format!("BATCH {}", db.operation)),
            };
            if self.mixed {
                db.summary = None;
            }
            if let Some(texts) = self.texts.take() {
                db.text_cut |= texts.len() >= MAX_BATCH_TEXT;
                db.query_text = Some(texts.into());
                db.summary = None;
            }
        } else if self.completed > 1 {
            db.batch_size = batch;
        }
        Detail::Postgres(self.db)
    }
}

impl InPostgres {
    pub(super) fn execute(&mut self, statement: Option<Arc<Statement>>) {
        self.executed += 1;
        let Some(statement) = statement else {
            self.unknown = true;
            self.mixed |= self.executed > 1 && self.statement.is_some();
            return;
        };
        if self.executed == 1 || self.statement.is_none() {
            self.mixed |= self.unknown;
            self.statement = Some(statement);
            return;
        }
        let Some(first) = &self.statement else { return };
        if Arc::ptr_eq(first, &statement) && self.texts.is_none() {
            return;
        }
        self.mixed |= first.operation() != statement.operation();
        let before = self.executed - 1;
        let texts =
            self.texts.get_or_insert_with(|| vec![first.text(); before as usize].join("; "));
        if texts.len() < MAX_BATCH_TEXT {
            texts.push_str("; ");
            texts.push_str(statement.text());
        }
    }

    /// `SELECT 3`, `INSERT 0 1`, `CREATE TABLE`.
    pub(super) fn complete(&mut self, tag: &[u8]) {
        self.completed += 1;
        self.fetched = 0;
        let tag = std::str::from_utf8(tag).unwrap_or_default();
        let name = tag.trim_end_matches(|c: char| c.is_ascii_digit() || c == ' ');
        if self.tag.is_none() {
            self.tag = Some(name.into());
        }
        if matches!(name, "SELECT" | "FETCH")
            && let Ok(rows) = tag[name.len()..].trim().parse::<u64>()
        {
            self.rows = Some(self.rows.unwrap_or(0).saturating_add(rows));
        }
    }

    pub(super) fn fetch(&mut self) {
        self.fetched += 1;
    }

    /// As many rows as were asked for have come, and there are more.
    pub(super) fn suspend(&mut self) {
        self.rows = Some(self.rows.unwrap_or(0).saturating_add(std::mem::take(&mut self.fetched)));
    }

    pub(super) fn fail(&mut self, sqlstate: &str) {
        if !self.db.failed {
            self.db.failed = true;
            self.db.status_code = (!sqlstate.is_empty()).then(|| sqlstate.into());
        }
    }
}
