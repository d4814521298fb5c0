//! Texts of SQL as exchanges show them. Prepared ones are read once for all the connections that prepare them.

use std::{borrow::Cow, hash::BuildHasher, sync::Arc};

use hashbrown::HashMap;

use crate::{exchange::DbExchange, protocol::sql::Dialect, semantics::sql::Query};

/// Prepared statements that are held for connections to come.
const MAX_SHARED: usize = 4096;

/// What is told of a statement.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Statement {
    text: Box<str>,
    summary: Box<str>,
    operation: Box<str>,
    procedure: Option<Box<str>>,
    is_cut: bool,
}

impl Statement {
    fn of(query: &Query, is_cut: bool) -> Self {
        Self {
            text: query.text().into(),
            summary: query.summary().into(),
            operation: query.operation().unwrap_or_default().to_uppercase().into(),
            procedure: query.procedure().map(Into::into),
            is_cut,
        }
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn operation(&self) -> &str {
        &self.operation
    }

    /// Puts all of it into `db`.
    pub(super) fn describe(&self, db: &mut DbExchange) {
        let some = |text: &str| (!text.is_empty()).then(|| text.into());
        db.query_text = some(&self.text);
        db.summary = some(&self.summary);
        db.operation = Cow::Owned(self.operation.clone().into());
        db.stored_procedure.clone_from(&self.procedure);
        db.text_cut = self.is_cut;
    }
}

/// Reads statements, of one dialect.
#[derive(Debug, Default)]
pub(super) struct Statements {
    query: Query,
    /// By a hash of their texts, which are not held: literals may be in them.
    prepared: HashMap<u64, Arc<Statement>, foldhash::fast::RandomState>,
    hasher: foldhash::quality::RandomState,
}

impl Statements {
    /// A text that is sent once: as a rule it has literals that the next one does not have.
    pub(super) fn simple(&mut self, text: &[u8], is_cut: bool) -> Arc<Statement> {
        self.query.read(text, is_cut, Dialect::Postgres);
        Arc::new(Statement::of(&self.query, is_cut))
    }

    /// A text that is prepared, maybe on many connections.
    pub(super) fn prepared(&mut self, text: &[u8], is_cut: bool) -> Arc<Statement> {
        let hash = self.hasher.hash_one((text, is_cut));
        if let Some(known) = self.prepared.get(&hash) {
            return Arc::clone(known);
        }
        let statement = self.simple(text, is_cut);
        if self.prepared.len() >= MAX_SHARED {
            self.prepared.retain(|_, statement| Arc::strong_count(statement) > 1);
            if self.prepared.len() >= MAX_SHARED {
                self.prepared.clear();
            }
        }
        self.prepared.insert(hash, Arc::clone(&statement));
        statement
    }
}
