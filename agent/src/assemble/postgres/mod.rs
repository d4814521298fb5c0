//! PostgreSQL on a connection: which answer belongs to which query, what statements were prepared, and what a session
//! remembers. [`super::dialogue`] knows where messages begin and end.
//!
//! An exchange is what one `ReadyForQuery` ends: a simple query, or the messages up to a `Sync`. Several executions in
//! one are a batch. Statements and portals are known by name; what was prepared before the agent came is not, and its
//! operation is taken from the tag that completes it.

use std::{borrow::Cow, collections::VecDeque, sync::Arc};

use hashbrown::HashMap;
use remora_common::{policy, record::Direction};

use super::{
    Cx,
    dialogue::{Dialogue, Talk, Then, reader},
    pending::{Begin, Pending, Queue},
    statement::{Statement, Statements},
    wire::Fragment,
};
use crate::{
    accounting::Lost,
    exchange::Sink,
    protocol::{
        Place,
        postgres::{self, Replies, Reply, Request, Requests, Severity, Text},
    },
};

/// Statements of one session that are known by name.
const MAX_STATEMENTS: usize = 512;
/// Portals that are open at once; most sessions have one.
const MAX_PORTALS: usize = 64;
mod executions;

use executions::InPostgres;

/// A PostgreSQL connection.
pub(super) type Postgres = Dialogue<PostgresTalk>;

impl Postgres {
    /// Requests go in `requests`; `begins`: with a startup.
    pub(super) fn begin<S: Sink>(requests: Direction, begins: bool, cx: &mut Cx<'_, S>) -> Self {
        let talk = PostgresTalk::new(requests);
        Self::new(requests, Requests::new(begins), Replies::default(), talk, cx)
    }
}

reader!(Requests, (Request<'a>, Place), |message: &(Request<'_>, Place)| message.1);
reader!(Replies, (Reply<'a>, Place), |message: &(Reply<'_>, Place)| message.1);

/// What is said in a session.
#[derive(Debug)]
pub(super) struct PostgresTalk {
    requests: Direction,
    open: Queue<InPostgres>,
    /// What each `ReadyForQuery` to come ends: the serial of an exchange, or 0 for what is none.
    ready: VecDeque<u64>,
    /// The exchange that no `Sync` has closed yet.
    group: Option<u64>,
    /// The database, if the startup was seen.
    namespace: Option<Arc<str>>,
    statements: HashMap<Box<[u8]>, Arc<Statement>>,
    portals: HashMap<Box<[u8]>, Option<Arc<Statement>>>,
    /// Requests were sent while others were not answered.
    multiplexes: bool,
    /// The server takes the rows of a `COPY`.
    copies: bool,
}

impl PostgresTalk {
    fn new(requests: Direction) -> Self {
        Self {
            requests,
            open: Queue::default(),
            ready: VecDeque::new(),
            group: None,
            namespace: None,
            statements: HashMap::new(),
            portals: HashMap::new(),
            multiplexes: false,
            copies: false,
        }
    }

    /// The exchange that a message belongs to, begun now if it is the first; `None` if it cannot be told of.
    fn group<S: Sink>(&mut self, begin: Begin, cx: &mut Cx<'_, S>) -> Option<&mut InPostgres> {
        let serial = match self.group {
            Some(serial) => serial,
            None => {
                self.multiplexes |= !self.ready.is_empty();
                if !self.open.admits(begin, self.requests, cx) {
                    return None;
                }
                let mut detail = InPostgres::default();
                detail.db.namespace.clone_from(&self.namespace);
                let serial = self.open.push(Pending::request(0, begin, detail), self.requests, cx);
                self.group = Some(serial);
                serial
            }
        };
        let pending = self.open.find(serial)?;
        Some(&mut pending.detail)
    }

    /// A `Sync`, or what implies one: a `ReadyForQuery` will end what was sent.
    fn sync(&mut self) {
        let serial = self.group.take().unwrap_or(0);
        if self.open.barrier.is_none() {
            self.ready.push_back(serial);
        }
    }

    fn prepare(
        &mut self,
        name: &[u8],
        text: &Text<'_>,
        statements: &mut Statements,
    ) -> Arc<Statement> {
        let statement = statements.prepared(text.bytes, text.is_cut);
        if self.statements.len() >= MAX_STATEMENTS && !self.statements.contains_key(name) {
            self.statements.clear(); // they will be unknown, and said to be
        }
        self.statements.insert(name.into(), Arc::clone(&statement));
        statement
    }

    fn bind(&mut self, portal: &[u8], statement: &[u8]) -> Option<Arc<Statement>> {
        let statement = self.statements.get(statement).map(Arc::clone);
        if self.portals.len() >= MAX_PORTALS && !self.portals.contains_key(portal) {
            self.portals.clear();
        }
        self.portals.insert(portal.into(), statement.clone());
        statement
    }

    /// Something of the answer to the exchange in front has come.
    fn answering(&mut self, begin: Begin, fragment: &Fragment) -> Option<&mut InPostgres> {
        let serial = self.ready.front().copied().or(self.group)?;
        let pending = self.open.find(serial)?;
        if !pending.answered {
            pending.answered = true;
            pending.first_byte_ns = begin.mono_ns;
        }
        pending.response_moved(fragment);
        Some(&mut pending.detail)
    }

    /// The session is ready for the next query.
    fn is_ready<S: Sink>(&mut self, cx: &mut Cx<'_, S>) {
        self.copies = false;
        let serial = self.ready.pop_front().unwrap_or(0);
        if serial != 0 && self.open.front().is_some_and(|front| front.serial == serial) {
            self.open.finish_front(self.requests, None, cx);
        }
    }
}

impl Talk for PostgresTalk {
    type Requests = Requests;
    type Replies = Replies;
    type InProgress = InPostgres;

    fn begins_request(bytes: &[u8]) -> bool {
        postgres::looks_like_requests(bytes)
    }

    fn request<S: Sink>(
        &mut self,
        (request, _): (Request<'_>, Place),
        replies: &mut Replies,
        begin: Begin,
        _: &Fragment,
        cx: &mut Cx<'_, S>,
    ) -> Then {
        match request {
            Request::Startup { replication: true, .. } | Request::Cancel => {
                return Then::Leave(policy::COUNT);
            }
            Request::Startup { database, user, .. } => {
                let name = database.or(user).map(String::from_utf8_lossy);
                self.namespace = name.map(|name| name.as_ref().into());
                // Answered, as a query is, once the session is ready.
                self.ready.push_back(0);
            }
            Request::EncryptionRequest => replies.expect_answer(),
            Request::Query(text) => {
                let statement = cx.shared.statements.simple(text.bytes, text.is_cut);
                if let Some(detail) = self.group(begin, cx) {
                    detail.execute(Some(statement));
                }
                self.sync();
            }
            Request::FunctionCall => {
                if let Some(detail) = self.group(begin, cx) {
                    detail.executed += 1;
                    detail.db.operation = Cow::Borrowed("CALL");
                }
                self.sync();
            }
            Request::Parse { statement, text } => {
                let statement = self.prepare(statement, &text, &mut cx.shared.statements);
                if let Some(detail) = self.group(begin, cx)
                    && detail.executed == 0
                {
                    detail.statement = Some(statement);
                }
            }
            Request::Bind { portal, statement } => {
                let statement = self.bind(portal, statement);
                if let Some(detail) = self.group(begin, cx)
                    && detail.executed == 0
                    && detail.statement.is_none()
                {
                    detail.statement = statement;
                }
            }
            Request::Execute { portal } => {
                let statement = self.portals.get(portal).cloned().flatten();
                if let Some(detail) = self.group(begin, cx) {
                    detail.execute(statement);
                }
            }
            Request::Close { kind: b'S', name } => {
                self.statements.remove(name);
            }
            Request::Close { name, .. } => {
                self.portals.remove(name);
            }
            Request::Sync => self.sync(),
            // Of a COPY that a simple query began: it is sent while that is being answered.
            Request::CopyData | Request::CopyDone | Request::CopyFail => {}
            Request::Password | Request::Describe | Request::Flush | Request::Terminate => {}
        }
        Then::GoOn
    }

    fn reply<S: Sink>(
        &mut self,
        (reply, _): (Reply<'_>, Place),
        begin: Begin,
        fragment: &Fragment,
        cx: &mut Cx<'_, S>,
    ) -> Then {
        match reply {
            Reply::Encryption(true) => return Then::Leave(policy::CIPHERTEXT),
            Reply::CopyBoth => return Then::Leave(policy::COUNT),
            Reply::Encryption(false) | Reply::Aside | Reply::Authentication { .. } => {}
            Reply::ReadyForQuery(_) => {
                self.answering(begin, fragment);
                self.is_ready(cx);
            }
            Reply::CommandComplete(tag) => {
                if let Some(detail) = self.answering(begin, fragment) {
                    detail.complete(tag);
                }
            }
            Reply::Error { sqlstate, severity } => {
                if let Some(detail) = self.answering(begin, fragment) {
                    detail.fail(sqlstate);
                }
                if severity == Severity::Fatal {
                    // The server ends the session: no other end of the answer comes.
                    self.is_ready(cx);
                }
            }
            Reply::CopyIn => {
                self.copies = true;
                self.answering(begin, fragment);
            }
            Reply::Row => {
                if let Some(detail) = self.answering(begin, fragment) {
                    detail.fetch();
                }
            }
            Reply::PortalSuspended => {
                if let Some(detail) = self.answering(begin, fragment) {
                    detail.suspend();
                }
            }
            Reply::EmptyQuery
            | Reply::ParseComplete
            | Reply::BindComplete
            | Reply::CopyOut
            | Reply::FunctionCall
            | Reply::Part => {
                self.answering(begin, fragment);
            }
        }
        Then::GoOn
    }

    fn awaits_one(&self) -> bool {
        self.ready.len() == 1 && self.group.is_none() && !self.multiplexes
    }

    fn is_answering(&self) -> bool {
        self.open.front().is_some_and(|front| front.answered)
    }

    fn answer_goes_on(&mut self, fragment: &Fragment) -> bool {
        self.answering(fragment.begin, fragment).is_some()
    }

    fn ends_answer(&mut self, bytes: &[u8]) -> (bool, usize) {
        let Some(tail) = postgres::tail(bytes) else { return (false, postgres::may_end(bytes)) };
        if let Some(tag) = tail.complete
            && let Some(front) = self.open.front_mut()
        {
            front.detail.complete(tag);
        }
        (true, bytes.len() - tail.at)
    }

    fn end_answer<S: Sink>(&mut self, inferred: bool, cx: &mut Cx<'_, S>) {
        if let Some(front) = self.open.front_mut() {
            front.marks.end_inferred |= inferred;
        }
        self.is_ready(cx);
    }

    fn multiplexes(&self) -> bool {
        self.multiplexes
    }

    /// Rows of a `COPY` are content.
    fn absorbs_loss(&mut self, reason: Lost) -> bool {
        self.copies && reason != Lost::Malformed
    }

    fn misses_more(&self) -> bool {
        self.group.is_none()
    }

    fn queue(&self) -> &Queue<InPostgres> {
        &self.open
    }

    fn queue_mut(&mut self) -> &mut Queue<InPostgres> {
        &mut self.open
    }

    fn emptied(&mut self, turn: bool) {
        self.ready.clear();
        self.group = None;
        self.copies = false;
        self.multiplexes &= !turn;
    }
}
